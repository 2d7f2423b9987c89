"""Bursts, up to m spikes of theta / m a step: against neurons with a window of T m steps, and against loops."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from snnconvert.converter.errors import UsageError
from snnconvert.converter.neurons import (
    CONVERTIBLE,
    NEURONS,
    Correction,
    IntegrateAndFire,
    Neuron,
    Noise,
    Place,
    TwoPhase,
    TwoPhaseProbabilistic,
)
from snnconvert.converter.neurons.tpp import mean_count

NONE = Correction()
NOISE, TRIALS = Noise(0, torch.arange(1)), 20_000
SIXTEENTHS = st.lists(st.integers(-64, 96), min_size=1, max_size=8)
BURSTS = st.integers(1, 5)


def make(
    kind: type[Neuron], theta: float, steps: int, burst: int = 1, moved: Correction = NONE, **options: Any
) -> Neuron:
    place = Place(3, 2, signed=options.pop("signed", False))
    return kind(torch.tensor([theta]).double(), steps, place, moved, burst=burst, **options)


def answered(neuron: Neuron, total: Tensor, noise: Noise = NOISE) -> Tensor:
    """Return the spikes [T, ...] of a two-phase neuron into which ``total`` came."""
    potential, train = neuron.start(total) + total, []
    for step in range(neuron.steps):
        spikes, potential = neuron.fire(potential, step, noise)
        train.append(spikes)
    return torch.stack(train)


@pytest.mark.parametrize("signed", [False, True])
@given(SIXTEENTHS, BURSTS)
def test_two_phase_bursts_are_a_longer_window(signed: bool, sixteenths: list[int], m: int) -> None:
    steps, theta = len(sixteenths), 0.5 * m  # so that theta / m is exact
    total = torch.tensor([[sum(sixteenths) / 16]]).double()
    burst, plain = make(TwoPhase, theta, steps, m, signed=signed), make(TwoPhase, theta, steps * m, signed=signed)
    low = -steps * m if signed else 0
    expected = np.clip(np.floor(np.sum(sixteenths) / 16 / 0.5 + 0.5), low, steps * m)
    assert float(burst.count(total, NOISE)) == float(burst.expected_count(total)) == expected
    assert float(plain.count(total * m, NOISE)) == expected
    output = burst.count(total, NOISE) * burst.height / steps
    assert torch.equal(output, plain.count(total * m, NOISE) * plain.height / (steps * m))
    train = answered(burst, total)
    assert torch.equal(train, answered(plain, total * m).unflatten(0, (steps, m)).sum(1))
    assert train.sum() == expected
    assert train.abs().max() <= m


@pytest.mark.parametrize("signed", [False, True])
@given(st.lists(st.floats(-4, 4), min_size=1, max_size=12), st.integers(1, 9), BURSTS, st.floats(0.05, 4))
def test_two_phase_bursts_round_to_tm_levels(
    signed: bool, means: list[float], steps: int, m: int, theta: float
) -> None:
    z = torch.tensor([means]).double()
    neuron = make(TwoPhase, theta, steps, m, signed=signed)
    exact = z.numpy() * steps * m / theta + 0.5
    clear = torch.tensor(np.abs(exact - np.round(exact)) > 1e-9)  # of ties
    expected = np.clip(np.floor(exact), -steps * m if signed else 0, steps * m)
    found = neuron.count(z * steps, NOISE)
    assert np.array_equal(found[clear], expected[clear.numpy()])
    assert torch.equal(answered(neuron, z * steps).sum(0)[clear], found[clear])
    inside = (found.abs() < steps * m) & (z > 0)
    error = (found * neuron.height / steps - z)[inside].abs()
    assert (error <= theta / (2 * steps * m) * (1 + 1e-9)).all()  # half a level, which is m times finer


@given(SIXTEENTHS, st.sampled_from([1, 2, 4]), st.integers(-16, 16), st.integers(-16, 16))
def test_a_bias_is_a_current_and_a_potential_in_units_of_what_a_spike_takes(
    sixteenths: list[int], m: int, bias: int, start: int
) -> None:
    steps = len(sixteenths)
    total = torch.tensor([[sum(sixteenths) / 16]]).double()
    moved = Correction(torch.tensor([bias / 16]).double(), torch.tensor([start / 16]).double())
    burst, plain = make(TwoPhase, 2.0, steps, m, moved), make(TwoPhase, 2.0, steps * m, 1, moved)
    expected = np.clip(np.floor((sum(sixteenths) + steps * bias) / 16 * m / 2 + start / 16 + 0.5), 0, steps * m)
    assert float(burst.count(total, NOISE)) == float(plain.count(total * m, NOISE)) == expected
    assert float(answered(burst, total).sum()) == expected


def test_a_height_is_that_of_one_spike() -> None:
    height = torch.tensor([0.75]).double()
    assert float(make(TwoPhase, 2.0, 4, 4, Correction(height=height)).height) == 0.75
    assert float(make(TwoPhase, 2.0, 4, 4).height) == 0.5
    assert make(TwoPhase, 2.0, 4, 4).most == 16


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("steps", "m"), [(1, 4), (3, 2), (4, 1), (4, 4), (5, 3)])
def test_tpp_trains_are_those_of_the_longer_window(steps: int, m: int, signed: bool) -> None:
    theta, noise = 0.5 * m, Noise(5, torch.arange(200))
    totals = torch.tensor(np.random.default_rng(steps).integers(-8 if signed else 0, 9 * steps * m, (200, 7)) / 16)
    burst, plain = (make(TwoPhaseProbabilistic, theta, *size, signed=signed) for size in ((steps, m), (steps * m, 1)))
    train = answered(burst, totals, noise)
    assert torch.equal(train, answered(plain, totals * m, noise).unflatten(0, (steps, m)).sum(1))
    levels = totals.abs() / 0.5
    magnitude = train.sum(0) * (totals.sign() if signed else 1)
    for count in (magnitude, burst.count(totals, noise) * (totals.sign() if signed else 1)):
        assert (count >= levels.floor().clamp(max=steps * m)).all()
        assert (count <= levels.ceil().clamp(max=steps * m)).all()
    assert train.abs().max() <= m


@pytest.mark.parametrize(("steps", "m"), [(1, 4), (2, 2), (4, 4)])
def test_tpp_bursts_have_the_mean_count_of_the_longer_window(steps: int, m: int) -> None:
    p_values, noise = [], Noise(11, torch.arange(TRIALS))
    neuron = make(TwoPhaseProbabilistic, 2.0, steps, m)
    for v in np.random.default_rng(m).uniform(0, steps * m, 6):  # in thresholds
        low, total = int(np.floor(v)), torch.full((TRIALS, 1), float(v) * 2.0 / m).double()
        share = float(mean_count(torch.tensor(v), steps * m)) - low
        assert float(neuron.expected_count(total[:1])) == pytest.approx(low + share, abs=1e-6)
        for counts in (neuron.count(total, noise), answered(neuron, total, noise).sum(0)):
            assert set(counts.unique().tolist()) <= {low, low + 1}
            found = np.array([(counts == low).sum(), (counts == low + 1).sum()])
            expected = np.array([1 - share, share]) * TRIALS
            if expected.min() > 5:
                p_values.append(stats.chisquare(found, expected).pvalue)
    assert len(p_values) >= 6
    assert min(p_values) > 1e-3 / len(p_values)


def loop(currents: np.ndarray, theta: float, m: int, v0: float, shift: float) -> list[int]:
    """Return the spikes of each step: while the potential is theta / m or more one is fired, at most m of them."""
    v, train = v0 * theta / m, []
    for current in currents:
        v += current + shift * theta / m / len(currents)
        fired = 0
        while fired < m and v >= theta / m:
            v -= theta / m
            fired += 1
        train.append(fired)
    return train


def streamed(neuron: Neuron, currents: np.ndarray) -> list[int]:
    """Return the spikes of each step of a streaming neuron."""
    potential, train = neuron.start(torch.zeros(1, 1).double()), []
    for step, current in enumerate(torch.tensor(currents)):
        spikes, potential = neuron.fire(neuron.integrate(potential, current, step), step, NOISE)
        train.append(int(spikes))
    return train


@given(SIXTEENTHS, BURSTS, st.sampled_from([(0.5, 0.0), (0.0, 0.5), (0.25, 0.0)]))
def test_if_fires_while_it_can(sixteenths: list[int], m: int, begin: tuple[float, float]) -> None:
    v0, shift = begin
    currents = np.array(sixteenths) / 16
    if shift and len(currents) & (len(currents) - 1):
        currents = currents + 1 / 1024  # keep clear of ties, which theta / 2T makes inexact
    neuron = make(IntegrateAndFire, 0.5 * m, len(currents), m, initial_potential=v0, shift=shift)
    assert streamed(neuron, currents) == loop(currents, 0.5 * m, m, v0, shift)


@given(st.integers(0, 64), st.integers(1, 9), BURSTS)
def test_an_even_current_gives_if_neurons_the_count_of_the_longer_window(level: int, steps: int, m: int) -> None:
    z = level / 64 * m  # up to theta
    found = streamed(make(IntegrateAndFire, float(m), steps, m), np.full(steps, z))
    assert sum(found) == min(np.floor(steps * z + 0.5), steps * m)
    assert sum(found) == sum(streamed(make(IntegrateAndFire, float(m), steps * m), np.full(steps * m, z)))


def test_windows_and_bursts_too_long_for_the_table_are_refused() -> None:
    make(TwoPhaseProbabilistic, 1.0, 1024, 4)
    with pytest.raises(UsageError, match="at most T = 4096, got 1024 with bursts of 5\nhint: use 'two-phase'"):
        make(TwoPhaseProbabilistic, 1.0, 1024, 5)


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_only_bursts_are_printed(neuron: str) -> None:
    assert "burst" not in repr(make(NEURONS[neuron], 1.0, 4))
    assert "burst=3" in repr(make(NEURONS[neuron], 1.0, 4, 3))
