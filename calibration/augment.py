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


def mixup(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return ``images``, each with a probability of one half replaced by u x + (1 - u) y.

    y is another image of the batch, u uniform in [0, 1]: what an ANN says between images tells more of it than what it
    says of images that it knows by heart. Source: Zhang et al. 2018 (arXiv 1710.09412), whose labels we do not need.
    """
    count = len(images)
    other = torch.randperm(count, generator=generator).to(images.device)
    share, mixed = torch.rand(2, count, generator=generator)
    share = torch.where(mixed < 0.5, share, torch.ones(count)).to(images)[:, None, None, None]
    return share * images + (1 - share) * images[other]


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "flip": flip,
    "shift": shift,
    "mixup": mixup,
}
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
