"""Tar shards of images, as webdataset writes them: members with one name are a sample, its ``.cls`` holds the class.

A member's name ends at the first dot of its base name, and the members of a sample lie side by side:
https://github.com/webdataset/webdataset. The headers are read once; then any image is read where it lies.
"""

import glob
import os
import re
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.converter.errors import DataRefused, listed

from .arrays import check_channels
from .image_data import Labels
from .image_folder import SUFFIXES, read_image
from .preprocessing import Preprocessing

LABEL = ".cls"
LABEL_BYTES = 32
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})")
_SIDE_BY_SIDE = "the members of a sample lie side by side and have the same name up to the first dot"
_AGAIN = "get or write the shard again"


@dataclass(frozen=True)
class TarShards:
    """The images in tar shards, decoded when they are read.

    Args:
        shards: path of each shard.
        members: name of each image in its shard, bytes [count].
        shard: index of its shard, int64 [count].
        offsets: where it starts in the shard, int64 [count] in bytes.
        sizes: its length, int64 [count] in bytes.
        labels: class of each image, int64 [count].
        preprocessing: what the network expects of an image.
    """

    shards: tuple[Path, ...]
    members: NDArray[np.bytes_]
    shard: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: Labels
    preprocessing: Preprocessing

    @property
    def classes(self) -> int:
        """Number of classes, the largest label plus one."""
        return int(self.labels.max()) + 1

    def paths(self) -> tuple[Path, ...]:
        """Return the path of each shard."""
        return self.shards

    def read(self, positions: Labels) -> Tensor:
        """Return the images at ``positions`` as bytes [B, 3, H, W] of the network's size.

        Raises:
            DataRefused: a member that is no image, is damaged, or has another size where no resizing was asked for,
                or a shard that is gone.
        """
        return torch.cat([self._read_member(int(position)) for position in positions])

    def _read_member(self, position: int) -> Tensor:
        path, name = self.shards[self.shard[position]], os.fsdecode(self.members[position])
        try:
            with path.open("rb") as file:  # one of its own: processes and threads would share a handle's position
                file.seek(int(self.offsets[position]))
                content = file.read(int(self.sizes[position]))
        except OSError as error:
            raise DataRefused(f"{path} was readable and is not any more: {error}", "restore the shard") from error
        return read_image(BytesIO(content), f"{name} in {path}", self.preprocessing)


def find_shards(reference: str) -> list[Path]:
    """Return the tar files that ``reference`` names, sorted; none where it names something else.

    Args:
        reference: a tar file, a folder that holds some and no sub-folders, or a pattern: braces around a range of
            numbers (``{000..010}``, zeros are kept) each of which must exist, stars for anything but a slash.

    Raises:
        DataRefused: a pattern that matches nothing or other files.
    """
    path = Path(reference)
    if path.is_dir():
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        tars = sorted(entry for entry in entries if _is_tar(entry))
        return tars if tars and not any(entry.is_dir() for entry in entries) else []
    if path.exists():
        return [path] if _is_tar(path) else []
    return _matching(reference) if "*" in reference or _BRACES.search(reference) else []


def open_shards(shards: Sequence[Path], preprocessing: Preprocessing) -> TarShards:
    """Return the images in ``shards``, read as RGB: in the order of the shards, then of their members.

    Raises:
        DataRefused: a shard that is compressed, truncated or damaged, a sample without one image and one class, a class
            that is no whole number, no samples, or a network that does not take colour images.
    """
    check_channels(3, preprocessing, str(shards[0]), ())
    parts = [_index(path) for path in shards]
    counts = [len(part[0]) for part in parts]
    if not sum(counts):
        raise DataRefused(
            f"{listed(map(str, shards))}: expected samples, found none",
            f"a sample is an image ({', '.join(SUFFIXES)}) and its class ({LABEL}); {_SIDE_BY_SIDE}",
        )
    members, offsets, sizes, labels = map(np.concatenate, zip(*parts, strict=True))
    shard = np.repeat(np.arange(len(shards)), counts)
    return TarShards(tuple(shards), members, shard, offsets, sizes, labels, preprocessing)


def _is_tar(path: Path) -> bool:
    return path.name.lower().endswith((".tar", *COMPRESSED))


def _matching(pattern: str) -> list[Path]:
    found: set[Path] = set()
    for each in _expanded(pattern):
        names = glob.glob("*".join(map(glob.escape, each.split("*")))) if "*" in each else [each]
        existing = [Path(name) for name in names if os.path.exists(name)]
        if not existing:
            raise DataRefused(f"{pattern}: expected tar shards, no file is called {each}", "check the pattern")
        found.update(existing)
    foreign = sorted(str(path) for path in found if not _is_tar(path))
    if foreign:
        raise DataRefused(f"{pattern}: expected .tar files, got {listed(foreign)}", "let the pattern end in .tar")
    return sorted(found)


def _expanded(pattern: str) -> Iterator[str]:
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    ends = _RANGE.fullmatch(braces[1])
    if ends is None:
        raise DataRefused(f"{pattern}: expected a range of numbers in the braces, as in {{000..010}}, got {braces[0]}")
    padded = any(len(end) > 1 and end.startswith("0") for end in ends.groups())
    width = max(map(len, ends.groups())) if padded else 1
    first, last = sorted(map(int, ends.groups()))
    for number in range(first, last + 1):
        yield from _expanded(f"{pattern[: braces.start()]}{number:0{width}}{pattern[braces.end() :]}")


class _Member(NamedTuple):
    name: str
    sample: str
    suffix: str
    offset: int
    size: int
    text: bytes


def _index(path: Path) -> tuple[NDArray[np.bytes_], Labels, Labels, Labels]:
    """Return name, offset, size and label of each image in the shard ``path``."""
    names, numbers = [], array("q")  # a shard may hold millions
    for sample, members in groupby(_members(path), lambda member: member.sample):
        image, label = _sample(path, sample, list(members))
        names.append(os.fsencode(image.name))
        numbers.extend((image.offset, image.size, label))
    offsets, sizes, labels = np.array(numbers, np.int64).reshape(-1, 3).T.copy()
    return np.array(names, np.bytes_), offsets, sizes, labels


def _sample(path: Path, name: str, members: list[_Member]) -> tuple[_Member, int]:
    """Return the image and the label."""
    images = [member for member in members if member.suffix in SUFFIXES]
    labels = [member for member in members if member.suffix == LABEL]
    for found, kind, suffixes in ((images, "image", SUFFIXES), (labels, "class", (LABEL,))):
        if len(found) != 1:
            got = listed([member.name for member in found or members])
            raise DataRefused(
                f"{path}: expected one {kind} ({', '.join(suffixes)}) in the sample {name}, got {len(found)}: {got}",
                _SIDE_BY_SIDE,
            )
    text = labels[0].text.strip()
    if not text.isdigit() or labels[0].size > LABEL_BYTES or len(text) > 18:
        shown = text.decode("ascii", "replace")
        raise DataRefused(
            f"{path}: expected a whole number of at least 0 in {labels[0].name}, got {shown!r}",
            "write the class as decimal digits",
        )
    return images[0], int(text)


def _members(path: Path) -> Iterator[_Member]:
    """Yield the files of samples, in their order; only headers and labels are read."""
    try:
        with path.open("rb") as file:
            if path.name.lower().endswith(COMPRESSED) or file.read(6).startswith(_MAGIC):
                raise DataRefused(f"{path} is compressed: reading at random needs a plain tar", "decompress the shard")
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                    if tar.offset <= member.offset:
                        raise tarfile.ReadError(f"a size below 0 at byte {member.offset}")
                    if member.isreg():
                        yield from _named(member, tar)
                _check_end(file, tar.offset)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        raise DataRefused(f"{path} is no tar file, or a truncated or damaged one: {error}", _AGAIN) from error


def _named(member: tarfile.TarInfo, tar: tarfile.TarFile) -> Iterator[_Member]:
    """Yield the member unless its name makes it part of no sample."""
    folder, slash, base = member.name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    if stem and dot:
        suffix = f".{suffix.lower()}"
        content = tar.extractfile(member) if suffix == LABEL else None
        text = content.read(LABEL_BYTES) if content else b""
        yield _Member(member.name, f"{folder}{slash}{stem}", suffix, member.offset_data, member.size, text)


def _check_end(file: BinaryIO, offset: int) -> None:
    """Refuse what tarfile takes for the end of an archive and is none."""
    file.seek(offset)
    end = file.read(2 * tarfile.RECORDSIZE)
    if len(end) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("the blocks that end an archive are missing")
    if any(end):
        raise tarfile.ReadError(f"no header and no end at byte {offset}, or several tars in one file")
