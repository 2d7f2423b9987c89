"""The step-by-step reference against trains that a plain loop writes down."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snnconvert.converter.neurons import Noise
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.simulation.steps import Steps

STEPS = 8


def train(model: SpikingModel, x: Tensor, index: int = 0) -> Tensor:
    noise = Noise(model.seed, torch.arange(index, index + len(x)))
    found: Tensor = Steps(model.network, noise).run((x,))
    assert found.shape == (model.steps, *x.shape)
    return found


def loop(current: float, potential: float, currents_first: bool) -> list[float]:
    """Return the spikes of a soft-reset neuron of threshold 1; all current first, or one step at a time."""
    spikes = []
    potential += STEPS * current if currents_first else 0.0
    for _ in range(STEPS):
        potential += 0.0 if currents_first else current
        spikes.append(float(potential >= 1))
        potential -= spikes[-1]
    return spikes


@pytest.mark.parametrize("neuron", ["if", "two-phase"])
def test_trains_are_those_of_a_loop(wire: Callable[..., SpikingModel], currents: Tensor, neuron: str) -> None:
    found = train(wire(9, neuron=neuron, steps=STEPS), currents)
    for column, current in enumerate(currents[0].tolist()):
        assert found[:, 0, column].tolist() == loop(current, 0.5, neuron == "two-phase")


def test_tpp_at_a_whole_potential_fires_so_often_and_at_random_steps(wire: Callable[..., SpikingModel]) -> None:
    model = wire(1, neuron="tpp", steps=STEPS)
    for count in range(STEPS + 1):
        found = train(model, torch.full((400, 1), count / STEPS))
        assert set(found.unique().tolist()) <= {0.0, 1.0}
        assert (found.sum(0) == count).all()
        mean = found.mean((1, 2))
        spread = 4 * (count / STEPS * (1 - count / STEPS) / 400) ** 0.5
        assert ((mean - count / STEPS).abs() <= spread).all()


@pytest.mark.parametrize("shuffle", ["shared", "per-neuron"])
def test_shuffling_moves_spikes_and_keeps_their_number(
    wire: Callable[..., SpikingModel], currents: Tensor, shuffle: str
) -> None:
    plain, moved = (
        train(wire(9, neuron="if", steps=STEPS, shuffle=s), currents.expand(40, 9)) for s in ("none", shuffle)
    )
    assert torch.equal(moved.sum(0), plain.sum(0))
    assert not torch.equal(moved, plain)
    if shuffle == "shared":  # the neurons of an image keep their steps in common
        together = [sorted(map(tuple, t[:, 0].tolist())) for t in (plain, moved)]
        assert together[0] == together[1]


def test_spikes_are_scaled_by_the_threshold(wire: Callable[..., SpikingModel], currents: Tensor) -> None:
    model = wire(9, neuron="if", steps=STEPS)
    model.neurons["site_0"].threshold.fill_(0.25)
    assert set(train(model, currents).unique().tolist()) == {0.0, 0.25}
