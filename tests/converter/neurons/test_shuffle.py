"""Shuffling: counts stay, order goes, evenly."""

import pytest
import torch
from scipy import stats

from snnconvert.converter.neurons import Noise, shuffle


def train(steps: int = 4, batch: int = 5000, neurons: int = 3) -> torch.Tensor:
    spikes = torch.zeros(steps, batch, neurons)
    spikes[0] = 1.0
    spikes[1, :, 1:] = 1.0
    return spikes


@pytest.mark.parametrize("kind", ["none", "shared", "per-neuron"])
def test_counts_are_kept(kind: str) -> None:
    found = shuffle(train(), kind, 0, Noise(0, torch.arange(5000)))
    assert torch.equal(found.sum(0), train().sum(0))
    assert set(found.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("kind", ["shared", "per-neuron"])
def test_every_step_is_equally_likely(kind: str) -> None:
    found = shuffle(train(), kind, 0, Noise(0, torch.arange(5000)))
    assert stats.chisquare(found[:, :, 0].sum(1)).pvalue > 1e-3


def test_shared_moves_the_neurons_of_a_site_together_and_per_neuron_does_not() -> None:
    noise = Noise(0, torch.arange(5000))
    shared = shuffle(train(), "shared", 0, noise)
    assert torch.equal(shared[:, :, 1], shared[:, :, 2])
    apart = shuffle(train(), "per-neuron", 0, noise)
    together = (apart[:, :, 1] == apart[:, :, 2]).all(0).double().mean()
    assert together == pytest.approx(1 / 6, abs=0.02)  # two of four steps: six choices


def test_none_is_the_train_itself() -> None:
    spikes = train()
    assert shuffle(spikes, "none", 0, Noise(0, torch.arange(5000))) is spikes


def ternary(steps: int, batch: int, neurons: int) -> torch.Tensor:
    """Return trains whose counts run from -T to T, each with spikes of one sign, at its first steps."""
    counts = torch.arange(batch * neurons).reshape(batch, neurons) % (2 * steps + 1) - steps
    return (torch.arange(steps)[:, None, None] < counts.abs()) * counts.sign().double()


@pytest.mark.parametrize("kind", ["shared", "per-neuron"])
def test_ternary_trains_keep_counts_and_signs(kind: str) -> None:
    spikes = ternary(5, 300, 7)
    found = shuffle(spikes, kind, 2, Noise(1, torch.arange(300)))
    assert spikes.sum(0).unique().tolist() == list(range(-5, 6))
    assert torch.equal(found.sum(0), spikes.sum(0))
    assert torch.equal(found.abs().sum(0), spikes.abs().sum(0))
    assert not torch.equal(found, spikes)


@pytest.mark.parametrize("kind", ["shared", "per-neuron"])
def test_a_negative_spike_is_equally_likely_at_every_step(kind: str) -> None:
    spikes = -torch.ones(1, 5000, 1).double() * (torch.arange(4) == 0)[:, None, None]
    found = shuffle(spikes, kind, 0, Noise(0, torch.arange(5000)))
    assert stats.chisquare(-found[:, :, 0].sum(1)).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["shared", "per-neuron"])
def test_rows_of_an_image_are_shuffled_the_same_in_every_batch(kind: str) -> None:
    spikes = ternary(4, 6 * 3, 5)  # 6 images of 3 rows
    index = torch.tensor([4, 0, 7, 7, 1, 9])
    whole = shuffle(spikes, kind, 1, Noise(3, index))
    split = [shuffle(spikes[:, 3 * i : 3 * i + 3], kind, 1, Noise(3, index[i : i + 1])) for i in range(6)]
    assert torch.equal(torch.cat(split, 1), whole)
    orders = {tuple(whole[:, row, n].tolist()) for row in range(18) for n in range(5) if spikes[:, row, n].sum() == 2}
    assert len(orders) > 1
