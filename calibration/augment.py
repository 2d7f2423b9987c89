"""Changes to images under which an ANN should say the same, or at least something worth imitating.

They act on images after preprocessing, [batch, channels, height, width], where 0 is the mean of the training set.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from snnconvert.converter.errors import DataRefused


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return ``images``, each mirrored left to right with a probability of one half."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return ``images``, each moved by up to an eighth of its size in both directions, with zeros behind it."""
    height, width = images.shape[2:]
    most = max(1, height // 8), max(1, width // 8)
    padded = torch.nn.functional.pad(images, (most[1], most[1], most[0], most[0]))
    moved = torch.stack([torch.randint(0, 2 * m + 1, (len(images),), generator=generator) for m in most], 1)
    return torch.stack([padded[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(moved.tolist())])


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"flip": flip, "shift": shift}
"""The changes, by the name that recipes use."""


def augmented(images: Tensor, names: tuple[str, ...], seed: int) -> Tensor:
    """Return ``images`` after the changes ``names``, one after the other, drawn by ``seed``.

    Raises:
        DataRefused: they are no images of height and width.
    """
    if names and images.ndim != 4:
        raise DataRefused(
            f"{' and '.join(names)} act on images [batch, channels, height, width], got shape {list(images.shape)}",
            "leave augment out of the recipe",
        )
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        images = AUGMENTATIONS[name](images, generator)
    return images
