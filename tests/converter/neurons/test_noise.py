"""Random numbers against a reference in plain integers, and against what randomness means."""

import numpy as np
import pytest
import torch
from scipy import stats

from snnconvert.converter.neurons.noise import Noise, mix, stream

MASK = (1 << 64) - 1


def splitmix(key: int, index: int) -> int:
    """Return element ``index`` of Steele, Lea and Flood's sequence, in Python integers."""
    z = (key + (index + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_the_sequence_is_that_of_splitmix64() -> None:
    found = stream(torch.tensor(1234567), torch.arange(5)).tolist()
    assert [value & MASK for value in found] == [splitmix(1234567, i) for i in range(5)]
    # The first outputs for this seed, as published with the reference implementation in C.
    assert splitmix(1234567, 0) == 6457827717110365317
    assert splitmix(1234567, 1) == 3203168211198807973


def test_mixing_is_a_bijection_on_a_sample() -> None:
    x = torch.arange(-50_000, 50_000)
    assert len(mix(x).unique()) == len(x)


def test_numbers_are_uniform_and_independent_along_every_coordinate() -> None:
    noise = Noise(0, torch.arange(300))
    u = noise.uniform(5, (300, 1000), 2, torch.float64).numpy()
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    assert 0 <= u.min() < u.max() < 1
    others = {
        "neuron": u[:, 1:],
        "image": u[1:],
        "step": noise.uniform(5, (300, 1000), 3, torch.float64).numpy(),
        "site": noise.uniform(6, (300, 1000), 2, torch.float64).numpy(),
        "seed": Noise(1, torch.arange(300)).uniform(5, (300, 1000), 2, torch.float64).numpy(),
    }
    for name, other in others.items():
        rows, columns = other.shape
        correlation = np.corrcoef(u[:rows, :columns].ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(other.size), name


@pytest.mark.parametrize("shape", [(3, 7), (3, 2, 5, 5)])
def test_an_image_has_its_numbers_in_every_batch(shape: tuple[int, ...]) -> None:
    index = torch.tensor([9, 0, 4])
    whole = Noise(0, index).uniform(1, shape, 0, torch.float32)
    for i in range(3):
        alone = Noise(0, index[i : i + 1]).uniform(1, (1, *shape[1:]), 0, torch.float32)
        assert torch.equal(alone[0], whole[i])


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_several_rows_of_an_image_do_not_depend_on_the_split(rows: int) -> None:
    index = torch.tensor([9, 0, 4, 4, 2])
    whole = Noise(5, index).uniform(1, (5 * rows, 7, 3), 2, torch.float64)
    for size in (1, 2, 3):
        parts = [Noise(5, part).uniform(1, (len(part) * rows, 7, 3), 2, torch.float64) for part in index.split(size)]
        assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(whole[2 * rows : 3 * rows], whole[3 * rows : 4 * rows])  # one image twice
    assert len(whole[: 3 * rows].unique()) == whole[: 3 * rows].numel()  # every neuron of every row has its own


def test_rows_are_neurons_of_their_image() -> None:
    # What an image draws depends on how many neurons it has, not on how they are laid out.
    noise = Noise(0, torch.arange(4))
    flat = noise.bits(1, (4, 24), 0)
    assert torch.equal(noise.bits(1, (8, 3, 4), 0).reshape(4, 24), flat)
