"""The data sets that have a name: the small classics, through torchvision, and the embedded sample."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnconvert.converter.errors import DataRefused, choice

from .arrays import check_images, check_labels, read_arrays
from .class_names import CLASS_NAMES
from .idx import read_idx
from .image_data import Labels
from .libraries import torchvision
from .zoo_models import DATA

SPLITS = ("train", "test")
SAMPLE, SAMPLE_FILE = "fashion-mnist-sample", DATA / "fashion-mnist-sample.npz"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the Debian package dataset-fashion-mnist
_LOADERS = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
DATASETS = {
    SAMPLE: "1,000 training and 2,000 test images of Fashion-MNIST, embedded",
    "fashion-mnist": "Fashion-MNIST, 28x28 grey, 10 classes; Debian package dataset-fashion-mnist or torchvision",
    "mnist": "MNIST, 28x28 grey, 10 classes; through torchvision",
    "cifar10": "CIFAR-10, 32x32 colour, 10 classes; through torchvision",
    "cifar100": "CIFAR-100, 32x32 colour, 100 classes; through torchvision",
}
"""Names and descriptions of the data sets that need no path."""


def default_root() -> Path:
    """Return the folder for data sets: the environment variable SNNCONVERT_DATA, or ~/.cache/snnconvert."""
    return Path(os.environ.get("SNNCONVERT_DATA") or Path.home() / ".cache" / "snnconvert")


def read_named(name: str, split: str, root: Path) -> tuple[NDArray[np.uint8], Labels, int]:
    """Return images [N, H, W, C], labels [N] and the number of classes of the data set ``name``.

    Args:
        name: one of ``DATASETS``.
        split: "train" or "test".
        root: folder in which torchvision keeps its data sets; what is missing is downloaded to it.

    Raises:
        UsageError: an unknown split.
        DataRefused: the data set is not in ``root`` and cannot be downloaded, or is damaged.
    """
    choice("split", split, SPLITS)
    if name == SAMPLE:
        found = read_arrays(SAMPLE_FILE, (f"{split}_images", f"{split}_labels"))
        images, labels = found[f"{split}_images"], found[f"{split}_labels"]
    else:
        images, labels = _read(name, split, root)
    images = check_images(np.asarray(images), name)
    return images, check_labels(np.asarray(labels), len(images), name), len(CLASS_NAMES[name])


def _read(name: str, split: str, root: Path) -> tuple[Any, Any]:
    loader = getattr(torchvision().datasets, _LOADERS[name])
    try:
        return _arrays(loader(str(root), train=split == "train"))
    except RuntimeError:  # torchvision does not find it
        pass
    except Exception as error:
        raise DataRefused(f"{name} in {root} is damaged: {error}", "remove it, so that it is fetched again") from error
    if name == "fashion-mnist" and DEBIAN.is_dir():
        return _read_debian(DEBIAN, split)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return _arrays(loader(str(root), train=split == "train", download=True))
    except Exception as error:  # every transport has errors of its own
        raise DataRefused(
            f"{name} is not in {root} and cannot be downloaded: {error}",
            "name the folder of torchvision's data sets with --data-dir or SNNCONVERT_DATA, or give an .npz file",
        ) from error


def _arrays(loaded: Any) -> tuple[Any, Any]:
    return np.asarray(loaded.data), np.asarray(loaded.targets)


def _read_debian(folder: Path, split: str) -> tuple[Any, Any]:
    part = "train" if split == "train" else "t10k"
    try:
        return tuple(read_idx(folder / f"{part}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))  # type: ignore[return-value]
    except (OSError, EOFError, ValueError) as error:
        raise DataRefused(f"fashion-mnist in {folder} is damaged: {error}") from error
