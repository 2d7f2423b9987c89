"""The deterministic two-phase neuron: its steps add up to its closed form, with spikes of one sign and of both."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from snnconvert.converter.neurons import Noise, Place, TwoPhase
from snnconvert.converter.neurons.two_phase import rounded_count

NOISE = Noise(0, torch.arange(1))


def fired(currents: Tensor, theta: float, signed: bool) -> Tensor:
    """Return the spikes [steps, ...] that ``currents`` [steps, 1, neurons] lead to, step by step."""
    neuron = TwoPhase(torch.tensor([theta]).double(), len(currents), Place(0, 2, signed=signed))
    potential, spikes = neuron.start(currents[0]), []
    for current in currents:
        potential = neuron.integrate(potential, current, 0)
    for step in range(len(currents)):
        spike, potential = neuron.fire(potential, step, NOISE)
        spikes.append(spike)
    return torch.stack(spikes)


def counted(total: Tensor, theta: float, steps: int, signed: bool) -> Tensor:
    return TwoPhase(torch.tensor([theta]).double(), steps, Place(0, 2, signed=signed)).count(total, NOISE)


@pytest.mark.parametrize("signed", [False, True])
@given(st.lists(st.integers(-64, 64), min_size=1, max_size=16))
def test_steps_closed_form_and_numpy_agree(signed: bool, sixteenths: list[int]) -> None:
    steps = len(sixteenths)
    currents = torch.tensor(sixteenths).double()[:, None, None] / 16
    spikes = fired(currents, 0.5, signed).flatten().tolist()
    expected = np.clip(np.floor(np.sum(sixteenths) / 16 / 0.5 + 0.5), -steps if signed else 0, steps)
    assert sum(spikes) == expected
    assert [abs(s) for s in spikes] == [t < abs(expected) for t in range(steps)]  # they come first
    assert float(counted(currents.sum(0), 0.5, steps, signed)) == expected


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12), st.integers(1, 9), st.floats(0.05, 4))
def test_a_signed_train_has_one_sign_and_the_rounded_count(total: list[float], steps: int, theta: float) -> None:
    v = torch.tensor([total]).double() * steps * theta / 2
    currents = torch.zeros(steps, *v.shape).double()
    currents[-1] = v  # all of it in one step: the order of the current does not matter
    spikes = fired(currents, theta, signed=True)
    assert set(spikes.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert not ((spikes > 0).any(0) & (spikes < 0).any(0)).any()
    exact = v / theta + 0.5
    clear = (exact - exact.round()).abs() > 1e-9  # at a tie of floats, subtraction step by step may round another way
    expected = np.clip(np.floor(exact.numpy()), -steps, steps)
    assert np.array_equal(spikes.sum(0)[clear], expected[clear.numpy()])
    assert torch.equal(counted(v, theta, steps, True)[clear], spikes.sum(0)[clear])


@given(st.integers(-400, 400), st.integers(1, 32), st.sampled_from([0.25, 1.0, 8.0]))
def test_dyadic_potentials_are_exact_ties_included(sixteenths: int, steps: int, theta: float) -> None:
    v = torch.tensor([[sixteenths / 16 * theta]]).double()
    currents = torch.zeros(steps, 1, 1).double()
    currents[0] = v
    expected = min(max((sixteenths + 8) // 16, -steps), steps)
    assert float(fired(currents, theta, True).sum()) == expected == float(counted(v, theta, steps, True))
    # without signs the same but for what is cut at zero
    assert float(fired(currents, theta, False).sum()) == max(expected, 0) == float(counted(v, theta, steps, False))


def test_the_count_is_numpy_rounding_half_up() -> None:
    v = torch.tensor([-1.0, 0.49, 0.5, 1.49, 1.5, 7.9, 9.0])
    assert rounded_count(v, 8).tolist() == [0, 0, 1, 1, 2, 8, 8]
    v = torch.tensor([-9.0, -7.6, -1.5, -1.49, -0.51, -0.5, 0.49, 0.5, 9.0])
    assert rounded_count(v, 8, signed=True).tolist() == [-8, -8, -1, -1, -1, 0, 0, 1, 8]


@pytest.mark.parametrize(("rank", "axis", "shape"), [(4, 1, (3, 1, 1)), (3, 2, (3,)), (2, 1, (3,)), (4, 2, (3, 1))])
def test_thresholds_lie_along_the_channels(rank: int, axis: int, shape: tuple[int, ...]) -> None:
    theta = torch.tensor([0.5, 1.0, 2.0])
    neuron = TwoPhase(theta, 4, Place(0, rank, axis))
    assert neuron.threshold.shape == shape
    sizes = [2] * rank
    sizes[axis] = 3
    counts = neuron.count(torch.full(sizes, 2.0), NOISE).movedim(axis, -1)
    assert torch.equal(counts, torch.tensor([4.0, 2.0, 1.0]).expand_as(counts))
