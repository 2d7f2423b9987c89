"""Labelled images, read in batches as a network wants them."""

import contextlib
import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.converter.errors import DataRefused, UsageError

from .preprocessing import Preprocessing
from .workers import read_ahead

_HASHED = 16

Labels = NDArray[np.int64]
Read = Callable[[Labels], Tensor]  # positions -> bytes [B, C, H, W] of the network's size


@dataclass
class ImageData:
    """A data set: labels at hand, images read when they are asked for.

    Args:
        name: name, or path.
        split: "train" or "test", "" where the data set has no parts.
        classes: number of classes that the data set distinguishes.
        labels: class of each image, int64 [count].
        preprocessing: what the network expects of an image.
        read: positions -> bytes [B, C, H, W] that need no more resizing.
        warnings: what was asked for and could not be given, for people.
        files: the images are decoded from files, so reading takes time; False where they lie in memory.
        sources: the files that the images are in, none for data sets that never change.
        names: what the classes are called, in the order of their labels; classes beyond the last have no name.
    """

    name: str
    split: str
    classes: int
    labels: Labels
    preprocessing: Preprocessing
    read: Read = field(repr=False)
    warnings: list[str] = field(default_factory=list)
    files: bool = False
    sources: Callable[[], Iterable[Path]] = field(default=tuple, repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.labels)

    def class_name(self, label: int) -> str:
        """Return what a class is called: its number without a name, both where classes share the name."""
        name = self.names[label] if label < len(self.names) else ""
        if not name:
            return str(label)
        return name if self.names.count(name) == 1 else f"{name} ({label})"

    def stamp(self) -> str:
        """Return a hash of the labels and of the name, size and time of each of ``sources``.

        Raises:
            OSError: a file is gone.
        """
        found = hashlib.sha256(self.labels.tobytes())
        for path in self.sources():
            about = path.stat()
            found.update(f"{path}|{about.st_size}|{about.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return found.hexdigest()

    def digest(self) -> str:
        """Return a hash of the labels and of a few images: the same for a copy elsewhere, another for other images."""
        found = hashlib.sha256(self.labels.tobytes())
        chosen = np.linspace(0, self.count - 1, min(self.count, _HASHED)).astype(np.int64)
        with contextlib.suppress(DataRefused):  # nobody has asked for these images yet
            found.update(self.read(chosen).contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    def check_labels(self, classes: int) -> None:
        """Do nothing if every label is below ``classes``, the number of outputs of a network.

        Raises:
            DataRefused: a label has no output.
        """
        largest = int(self.labels.max())
        if largest >= classes:
            raise DataRefused(
                f"{self.name}: the largest label is {largest}, the model has {classes} classes (0 to {classes - 1})",
                "use a model and a data set of the same classes",
            )

    def batches(
        self,
        batch_size: int,
        *,
        limit: int | None = None,
        seed: int | None = None,
        epoch: int = 0,
        first: int = 0,
        numbers: Collection[int] | None = None,
        device: torch.device | None = None,
        workers: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Return an iterator of (images, labels, positions).

        Args:
            batch_size: images a batch; the last may be smaller.
            limit: number of images, all by default. Where there are fewer, all come and ``warnings`` says so.
            seed: choose the images at random; in the order of the data set by default.
            epoch: each number but 0 gives the chosen images in another order.
            first: how many images to leave out before those that are chosen.
            numbers: read these batches alone, in ascending order; the first is number 0, and numbers beyond the last
                are not there. Processes with different numbers share the data set.
            device: where the images go, as bytes, to be normalised there; by default they stay on the CPU.
            workers: processes that read files ahead; 0 reads in this one, as images that lie in memory always are.
                The batches do not depend on it.

        Returns:
            float32 [B, C, H, W] normalised, int64 [B], and int64 [B] positions in the data set; the latter two on the
            CPU.

        Raises:
            UsageError: ``batch_size`` or ``limit`` below 1, or ``workers`` below 0.
            DataRefused: an image that cannot be read, when its batch is reached.
            SnnconvertError: one of ``workers`` died.
        """
        for name, value, least in (
            ("batch size", batch_size, 1),
            ("number of images", limit, 1),
            ("number of workers", workers, 0),
        ):
            if value is not None and value < least:
                raise UsageError(f"expected a {name} of at least {least}, got {value}")
        if limit is not None and limit > self.count:
            self.warnings.append(f"{self.name}: {limit} images were asked for, there are {self.count}")
        order = np.arange(self.count) if seed is None else np.random.default_rng(seed).permutation(self.count)
        chosen = order[first:][:limit]
        if epoch:
            chosen = np.random.default_rng([seed or 0, epoch]).permutation(chosen)
        return self._read_batches(_parts(chosen.astype(np.int64), batch_size, numbers), device, workers)

    def _read_batches(
        self, parts: list[Labels], device: torch.device | None, workers: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        if workers and self.files and parts:
            pinned = device is not None and device.type == "cuda"
            read = read_ahead(self.read, parts, min(workers, len(parts)), pinned=pinned)
        else:
            read = map(self.read, parts)
        for positions, images in zip(parts, read, strict=True):
            normalised = self.preprocessing(images if device is None else _moved(images, device))
            yield normalised, torch.from_numpy(self.labels[positions]), torch.from_numpy(positions)


def _parts(positions: Labels, size: int, numbers: Collection[int] | None) -> list[Labels]:
    """Return ``positions`` in parts of ``size``, those called ``numbers`` alone."""
    count = math.ceil(len(positions) / size)
    if numbers is None:
        numbers = range(count)
    elif not isinstance(numbers, range | Set):
        numbers = set(numbers)
    return [positions[number * size : (number + 1) * size] for number in range(count) if number in numbers]


def _moved(images: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return images.to(device)
    return images.pin_memory().to(device, non_blocking=True)  # pinned already where workers read them
