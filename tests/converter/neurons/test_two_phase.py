"""The deterministic two-phase neuron: its steps add up to its closed form."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.converter.neurons import Noise, TwoPhase
from snnconvert.converter.neurons.two_phase import rounded_count


@given(st.lists(st.integers(-32, 64), min_size=1, max_size=16))
def test_steps_closed_form_and_numpy_agree(sixteenths: list[int]) -> None:
    steps = len(sixteenths)
    neuron = TwoPhase(torch.tensor([0.5]).double(), steps, 0, 2)
    noise = Noise(0, torch.arange(1))
    currents = torch.tensor(sixteenths).double()[:, None, None] / 16
    potential, spikes = neuron.start(currents[0]), []
    for current in currents:
        potential = neuron.integrate(potential, current)
    for step in range(steps):
        spike, potential = neuron.fire(potential, step, noise)
        spikes.append(float(spike))
    expected = np.clip(np.floor(np.sum(sixteenths) / 16 / 0.5 + 0.5), 0, steps)
    assert sum(spikes) == expected
    assert spikes == sorted(spikes, reverse=True)  # the spikes come first
    assert float(neuron.count(currents.sum(0), noise)) == expected


def test_the_count_is_numpy_rounding_half_up() -> None:
    v = torch.tensor([-1.0, 0.49, 0.5, 1.49, 1.5, 7.9, 9.0])
    assert rounded_count(v, 8).tolist() == [0, 0, 1, 1, 2, 8, 8]
