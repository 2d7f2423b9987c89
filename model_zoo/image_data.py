"""Labelled images, read in batches as a network wants them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.converter.errors import DataRefused, UsageError

from .preprocessing import Preprocessing

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
    """

    name: str
    split: str
    classes: int
    labels: Labels
    preprocessing: Preprocessing
    read: Read = field(repr=False)
    warnings: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.labels)

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
        self, batch_size: int, *, limit: int | None = None, seed: int | None = None, epoch: int = 0, first: int = 0
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Return an iterator of (images, labels, positions).

        Args:
            batch_size: images a batch; the last may be smaller.
            limit: number of images, all by default. Where there are fewer, all come and ``warnings`` says so.
            seed: choose the images at random; in the order of the data set by default.
            epoch: each number but 0 gives the chosen images in another order.
            first: how many images to leave out before those that are chosen.

        Returns:
            float32 [B, C, H, W] normalised, int64 [B], and int64 [B] positions in the data set.

        Raises:
            UsageError: ``batch_size`` or ``limit`` below 1.
            DataRefused: an image that cannot be read, when its batch is reached.
        """
        for name, value in (("batch size", batch_size), ("number of images", limit)):
            if value is not None and value < 1:
                raise UsageError(f"expected a {name} of at least 1, got {value}")
        if limit is not None and limit > self.count:
            self.warnings.append(f"{self.name}: {limit} images were asked for, there are {self.count}")
        order = np.arange(self.count) if seed is None else np.random.default_rng(seed).permutation(self.count)
        chosen = order[first:][:limit]
        if epoch:
            chosen = np.random.default_rng([seed or 0, epoch]).permutation(chosen)
        return self._read_batches(chosen.astype(np.int64), batch_size)

    def _read_batches(self, positions: Labels, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for start in range(0, len(positions), batch_size):
            chosen = positions[start : start + batch_size]
            images = self.preprocessing(self.read(chosen))
            yield images, torch.from_numpy(self.labels[chosen]), torch.from_numpy(chosen)
