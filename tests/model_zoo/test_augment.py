"""Shifts and flips, against rolled and mirrored images in numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from snnconvert.model_zoo.augment import augment

FILL = torch.tensor([-1.0, -2.0])


def numbered(count: int = 200) -> Tensor:
    """Images of two channels whose pixels are all different."""
    return torch.arange(count * 2 * 5 * 6).reshape(count, 2, 5, 6).float()


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def variants(image: np.ndarray, shift: int, flip: bool) -> list[np.ndarray]:
    """Return every shifted and mirrored version of one image."""
    pad = ((shift, shift), (shift, shift))
    padded = np.stack([np.pad(c, pad, constant_values=f) for c, f in zip(image, FILL.tolist(), strict=True)])
    cut = [padded[:, r : r + 5, c : c + 6] for r in range(2 * shift + 1) for c in range(2 * shift + 1)]
    return cut + [x[:, :, ::-1] for x in cut] * flip


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_every_image_is_a_shifted_one_and_all_shifts_come(shift: int, flip: bool) -> None:
    images = numbered(800)
    found = augment(images, draw(), fill=FILL, shift=shift, flip=flip)
    assert found.shape == images.shape
    seen = set()
    for image, moved in zip(images.numpy(), found.numpy(), strict=True):
        (which, *_) = [n for n, one in enumerate(variants(image, shift, flip)) if np.array_equal(one, moved)]
        seen.add(which)
    assert len(seen) == (2 * shift + 1) ** 2 * (1 + flip)


def test_the_generator_decides_and_images_are_left_alone() -> None:
    images = numbered()
    one, same, other = (augment(images, draw(seed), fill=FILL) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(images, numbered())
    assert torch.equal(augment(images, draw(), fill=FILL, shift=0, flip=False), images)
