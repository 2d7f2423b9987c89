"""One reference in, labelled images out."""

import difflib
import os
from pathlib import Path

from snnconvert.converter.errors import DataRefused, UsageError

from .arrays import array_reader, read_class_names, read_npz
from .class_names import CLASS_NAMES
from .image_data import ImageData
from .image_folder import ImageFolder, open_folder
from .named_data import DATASETS, default_root, read_named
from .preprocessing import Preprocessing
from .tar_shards import find_shards, open_shards


def open_dataset(reference: str, *, split: str, preprocessing: Preprocessing, root: Path | None = None) -> ImageData:
    """Return the labelled images that ``reference`` names.

    Args:
        reference: one of ``DATASETS``, a folder with one sub-folder of images per class, tar shards as webdataset
            writes them (a .tar file, a folder of them, or a pattern such as ``train-{000..010}.tar`` or
            ``train-*.tar``), or an .npz file with ``images``, ``labels`` and, if their names are known, ``classes``.
        split: "train" or "test"; paths have no parts, so it is ignored for them.
        preprocessing: what the network expects of an image.
        root: folder for the data sets that have a name; by default SNNCONVERT_DATA or ~/.cache/snnconvert.

    Raises:
        UsageError: neither a name nor a path, or an unknown split.
        DataRefused: data that cannot be read, or do not fit the network.
    """
    if reference in DATASETS:
        images, labels, classes = read_named(reference, split, root or default_root())
        reader = array_reader(images, preprocessing, reference)
        return ImageData(reference, split, classes, labels, preprocessing, reader, names=CLASS_NAMES[reference])
    path, shards = Path(reference), find_shards(reference)
    if path.is_dir() or shards:
        found = open_shards(shards, preprocessing) if shards else open_folder(path, preprocessing)
        names = found.names if isinstance(found, ImageFolder) else ()
        about = (reference, "", found.classes, found.labels, preprocessing)
        return ImageData(*about, found.read, files=True, sources=found.paths, names=names)
    _check_file(path, reference)
    images, labels = read_npz(path)
    reader = array_reader(images, preprocessing, reference)
    classes = int(labels.max()) + 1
    names = read_class_names(path)
    return ImageData(reference, "", classes, labels, preprocessing, reader, sources=lambda: [path], names=names)


def _check_file(path: Path, reference: str) -> None:
    if not path.exists() and not path.suffix and os.sep not in reference:
        close = difflib.get_close_matches(reference, DATASETS, 1)
        raise UsageError(
            f"unknown data set {reference!r}: expected one of {', '.join(DATASETS)}, a folder, tar shards or an "
            ".npz file",
            f"did you mean {close[0]!r}?" if close else "check the path; `snnconvert zoo datasets` lists names",
        )
    if not path.exists():
        raise DataRefused(f"{reference} does not exist", "check the path; `snnconvert zoo datasets` lists names")
    if path.suffix != ".npz":
        raise DataRefused(
            f"{reference}: expected a folder of images, .tar shards or an .npz file, "
            f"got a {path.suffix or 'nameless'} file"
        )
