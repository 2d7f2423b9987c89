"""Images and labels in arrays: checks, and the ``.npz`` file that holds them."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.converter.errors import DataRefused

from .image_data import Labels, Read
from .preprocessing import Preprocessing

_HINT = "expected an .npz with images (uint8, [N, H, W, C] or [N, H, W]) and labels (integers, [N])"


def read_npz(path: Path) -> tuple[NDArray[np.uint8], Labels]:
    """Return the arrays ``images`` (uint8 [N, H, W, C]) and ``labels`` (int64 [N]) of the file ``path``.

    Raises:
        DataRefused: the file is damaged or no .npz, lacks an array, or an array has another type or shape.
    """
    found = read_arrays(path, ("images", "labels"))
    return check_images(found["images"], str(path)), check_labels(found["labels"], len(found["images"]), str(path))


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the texts of the array ``classes`` in the .npz file ``path``; none where it has no such array of texts."""
    try:
        found = read_arrays(path, ("classes",))["classes"]
    except DataRefused:
        return ()
    return tuple(map(str, found)) if found.ndim == 1 and found.dtype.kind == "U" else ()


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Return the arrays called ``names`` in the .npz file ``path``; pickled objects are never loaded.

    Raises:
        DataRefused: the file is damaged or no .npz, or lacks an array.
    """
    try:
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataRefused(f"{path} holds a single array", _HINT)
            missing = [name for name in names if name not in file.files]
            if missing:
                raise DataRefused(f"{path}: no array {' or '.join(missing)}, found {', '.join(file.files)}", _HINT)
            return {name: file[name] for name in names}
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataRefused(f"{path} holds pickled objects, which are never loaded", _HINT) from error
        raise DataRefused(f"{path} is truncated or no .npz file: {error}", _HINT) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise DataRefused(f"{path} is truncated or no .npz file: {error}", _HINT) from error


def check_images(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Return ``images`` as [N, H, W, C].

    Raises:
        DataRefused: another type or rank, or no image.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataRefused(
            f"{where}: expected images uint8 [N, H, W, C], got {images.dtype} {list(images.shape)}", _HINT
        )
    if images.size == 0:
        raise DataRefused(f"{where}: no images, shape {list(images.shape)}")
    return images if images.ndim == 4 else images[..., None]


def check_labels(labels: NDArray[Any], count: int, where: str) -> Labels:
    """Return ``labels`` as int64 [count].

    Raises:
        DataRefused: not integers, another length, or below 0.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataRefused(f"{where}: expected labels of an integer type, got {labels.dtype}", _HINT)
    if labels.shape != (count,):
        raise DataRefused(f"{where}: expected {count} labels, one per image, got shape {list(labels.shape)}")
    if labels.min() < 0:
        first = int(np.argmin(labels >= 0))
        raise DataRefused(f"{where}: labels start at 0, got {labels[first]} at position {first}")
    return labels.astype(np.int64)


def array_reader(images: NDArray[np.uint8], preprocessing: Preprocessing, where: str) -> Read:
    """Return a function that reads from ``images`` [N, H, W, C] what fits ``preprocessing``.

    Raises:
        DataRefused: another number of channels than the network's, or another size and no resizing asked for.
    """
    check_channels(images.shape[3], preprocessing, where, images.shape[1:])
    preprocessing_size, size = preprocessing.size[1:], images.shape[1:3]
    if size != preprocessing_size and preprocessing.resize is None:
        expected, got = ("x".join(map(str, each)) for each in (preprocessing_size, size))
        raise DataRefused(
            f"{where}: the model expects images of {expected} pixels, these have {got}",
            f"resize them with --resize {max(preprocessing_size)}, or use a data set of the model's size",
        )

    def read(positions: Labels) -> Tensor:
        chosen = np.ascontiguousarray(images[positions].transpose(0, 3, 1, 2))
        return preprocessing.fit(torch.from_numpy(chosen))

    return read


def check_channels(channels: int, preprocessing: Preprocessing, where: str, shape: tuple[int, ...]) -> None:
    """Do nothing if images of ``shape`` [H, W, C] have the network's number of channels.

    Raises:
        DataRefused: they have another number; grey and colour are never converted into each other.
    """
    if channels == preprocessing.size[0]:
        return
    transposed = len(shape) == 3 and shape[0] == preprocessing.size[0]
    raise DataRefused(
        f"{where}: the model expects {preprocessing.size[0]} channels, these images have {channels}",
        "the channels seem to come first: store images as [N, H, W, C]"
        if transposed
        else "use a data set of the model's kind; grey and colour are not converted into each other",
    )
