"""Integrate-and-fire neurons against numpy, and against the closed form for a constant current."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.converter.neurons import IntegrateAndFire, Noise, Place


def counts(current: np.ndarray, theta: float, v0: float, shift: float) -> int:
    """Return the spikes of one neuron in numpy, from the equations."""
    v, n = v0 * theta, 0
    for i in current:
        v += i + shift * theta / len(current)
        if v >= theta:
            v -= theta
            n += 1
    return n


def fired(current: np.ndarray, theta: float, v0: float, shift: float) -> int:
    threshold = torch.tensor([theta]).double()
    neuron = IntegrateAndFire(threshold, len(current), Place(0, 2), initial_potential=v0, shift=shift)
    currents = torch.tensor(current)[:, None, None]
    noise, potential, total = Noise(0, torch.arange(1)), neuron.start(currents[0]), 0.0
    for step, i in enumerate(currents):
        spikes, potential = neuron.fire(neuron.integrate(potential, i, step), step, noise)
        total += float(spikes)
    return int(total)


@given(
    st.lists(st.integers(-16, 48), min_size=1, max_size=20), st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 0.5])
)
def test_the_module_does_what_the_equations_say(current: list[int], v0: float, shift: float) -> None:
    values = np.array(current) / 16
    if shift and len(current) & (len(current) - 1):
        values = values + 1 / 1024  # keep clear of ties, which theta / 2T makes inexact
    assert fired(values, 1.0, v0, shift) == counts(values, 1.0, v0, shift)


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 32])
@pytest.mark.parametrize(("v0", "shift"), [(0.5, 0.0), (0.0, 0.5)])
def test_a_constant_current_gives_the_rounded_count(steps: int, v0: float, shift: float) -> None:
    # Deng and Gu 2021: theta / T clip(floor(T z / theta + 1/2), 0, T)
    for z in np.linspace(-0.5, 1.0, 41) + 0.001:
        expected = np.clip(np.floor(steps * min(z, 1.0) + 0.5), 0, steps)
        assert fired(np.full(steps, min(z, 1.0)), 1.0, v0, shift) == expected


def test_uneven_input_costs_spikes_that_a_two_phase_neuron_keeps() -> None:
    late = np.array([0.0, 0.0, 0.0, 4.0])
    assert fired(late, 1.0, 0.5, 0.0) == 1  # a mean of 1 would be worth 4 spikes
