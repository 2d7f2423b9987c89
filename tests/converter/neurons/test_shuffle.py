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
