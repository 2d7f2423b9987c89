"""A folder of images: one sub-folder per class, as in ImageNet."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from snnconvert.converter.errors import DataRefused

from .arrays import check_channels
from .image_data import Labels
from .libraries import timm
from .preprocessing import Preprocessing

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
PARTS = {"train", "training", "val", "valid", "validation", "test"}
_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class ImageFolder:
    """The images under a folder, decoded when they are read.

    Args:
        root: the folder.
        files: path of each image under the folder, bytes [count]: one array, that processes can share.
        labels: class of each image, int64 [count].
        names: what the classes are called, by label.
        preprocessing: what the network expects of an image.
    """

    root: Path
    files: NDArray[np.bytes_]
    labels: Labels
    names: tuple[str, ...]
    preprocessing: Preprocessing

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    def paths(self) -> Iterator[Path]:
        """Yield the path of each image."""
        return (self.root / os.fsdecode(name) for name in self.files)

    def read(self, positions: Labels) -> Tensor:
        """Return the images at ``positions`` as bytes [B, 3, H, W] of the network's size.

        Raises:
            DataRefused: a file that is no image, is damaged, or has another size where no resizing was asked for.
        """
        paths = (self.root / os.fsdecode(self.files[position]) for position in positions)
        return torch.cat([read_image(path, str(path), self.preprocessing) for path in paths])


def open_folder(root: Path, preprocessing: Preprocessing) -> ImageFolder:
    """Return the images under ``root``, read as RGB.

    Classes are the sub-folders in alphabetical order; those named by ImageNet's wnids (n01440764) get their index and
    their name among the 1,000 classes of ILSVRC.

    Raises:
        DataRefused: no sub-folders, one without images, wnids mixed with other names or not among the 1,000, or a
            network that does not take colour images.
    """
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    names = [folder.name for folder in folders]
    if not folders:
        got = "only files" if any(root.iterdir()) else "nothing"
        raise DataRefused(f"{root}: expected one sub-folder of images per class, found {got}")
    if {name.lower() for name in names} <= PARTS:
        raise DataRefused(f"{root} holds the parts {', '.join(names)}, not classes", f"name one: {folders[0]}")
    check_channels(3, preprocessing, str(root), ())
    indices, names = _classes(root, names)
    files = [np.array([os.fsencode(path.relative_to(root)) for path in _images(folder)]) for folder in folders]
    labels = np.repeat(np.array(indices, np.int64), [len(found) for found in files])
    return ImageFolder(root, np.concatenate(files), labels, tuple(names), preprocessing)


def read_image(source: Path | BinaryIO, where: str, preprocessing: Preprocessing) -> Tensor:
    """Return the image in ``source`` as bytes [1, 3, H, W] of the network's size.

    Raises:
        DataRefused: ``source`` is no image, is damaged, or has another size where no resizing was asked for; the
            message says ``where``.
    """
    image = torch.from_numpy(_decode(source, where)).permute(2, 0, 1)[None]
    try:
        return preprocessing.fit(image)
    except DataRefused as error:
        raise DataRefused(f"{where}: {error.message}", error.hint) from error


def _classes(root: Path, names: list[str]) -> tuple[list[int], list[str]]:
    """Return the label of each folder in ``names``, and what all classes are called."""
    other = [name for name in names if not _WNID.fullmatch(name)]
    if len(other) == len(names):
        return list(range(len(names))), names
    if other:
        raise DataRefused(f"{root}: some class folders are named by ImageNet wnids, {other[0]!r} is not")
    info = timm().data.ImageNetInfo("imagenet-1k")
    known = {wnid: index for index, wnid in enumerate(info.label_names())}
    foreign = [name for name in names if name not in known]
    if foreign:
        raise DataRefused(f"{root}: the wnid {foreign[0]} is not among the 1,000 classes of ILSVRC")
    return [known[name] for name in names], [synonyms.split(", ")[0] for synonyms in info.label_descriptions()]


def _images(folder: Path) -> list[Path]:
    paths = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    found = sorted(path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    if not found:
        raise DataRefused(
            f"the class folder {folder} holds no images", f"expected files ending in {', '.join(SUFFIXES)}"
        )
    return found


def _decode(source: Path | BinaryIO, where: str) -> NDArray[np.uint8]:
    """Return the image in ``source`` as bytes [H, W, 3]."""
    try:
        with Image.open(source) as image:
            if image.mode.startswith(("I", "F")):
                raise DataRefused(f"{where} has more than 8 bits per channel (mode {image.mode}), expected bytes")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = "its format is unknown" if isinstance(error, UnidentifiedImageError) else error
        raise DataRefused(f"{where} is no image, or a damaged one: {why}", "remove or replace the file") from error
