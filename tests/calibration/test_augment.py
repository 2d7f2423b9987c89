"""Augmentations move pixels about and change nothing else."""

import pytest
import torch

from snnconvert.calibration.augment import augmented, flip, mixup, shift
from snnconvert.converter.errors import DataRefused


def images() -> torch.Tensor:
    return torch.arange(1.0, 1 + 40 * 2 * 8 * 16).reshape(40, 2, 8, 16)


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    x = images()
    y = flip(x, torch.Generator().manual_seed(0))
    mirrored = [torch.equal(b, a.flip(2)) for a, b in zip(x, y, strict=True)]
    kept = [torch.equal(b, a) for a, b in zip(x, y, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 10 < sum(mirrored) < 30


def test_a_shift_moves_by_an_eighth_at_most_and_fills_with_zeros() -> None:
    x = images()
    y = shift(x, torch.Generator().manual_seed(0))
    assert y.shape == x.shape
    found = set()
    for a, b in zip(x, y, strict=True):
        moves = [
            (dy, dx)
            for dy in range(-1, 2)
            for dx in range(-2, 3)
            if torch.equal(b, torch.roll(torch.nn.functional.pad(a, (2, 2, 1, 1)), (dy, dx), (1, 2))[:, 1:-1, 2:-2])
        ]
        assert len(moves) == 1
        found.add(moves[0])
    assert len(found) > 8


def test_mixup_joins_about_half_of_the_images_with_another_one() -> None:
    x = torch.eye(40)[:, :, None, None].expand(40, 40, 2, 3)  # channel i is 1 in image i: shares can be read off
    shares = mixup(x, torch.Generator().manual_seed(0))[:, :, 0, 0]
    assert torch.allclose(shares.sum(1), torch.ones(40))
    assert torch.equal(shares > 0, (shares > 0) & (shares <= 1))
    parts = (shares > 0).sum(1)
    assert set(parts.tolist()) == {1, 2}
    assert 10 < int((parts == 2).sum()) < 30
    own = shares.diagonal()
    assert torch.equal(own[parts == 1], torch.ones(40)[parts == 1])
    assert float(own.min()) < 0.3 < 0.7 < float(own[parts == 2].max())


def test_augmentations_repeat_with_their_seed() -> None:
    x = images()
    first, again, other = (augmented(x, ("flip", "shift", "mixup"), seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert augmented(x, (), 0) is x


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(DataRefused, match=r"flip act on images \[batch, channels, height, width\], got shape \[2, 3\]"):
        augmented(torch.zeros(2, 3), ("flip",), 0)
    assert augmented(torch.zeros(2, 3), (), 0).shape == (2, 3)
