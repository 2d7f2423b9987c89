"""Corrected neurons against loops over single neurons in numpy, with numbers that float64 holds exactly."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from snnconvert.converter.neurons import (
    Correction,
    IntegrateAndFire,
    Neuron,
    Noise,
    Place,
    TwoPhase,
    TwoPhaseProbabilistic,
)

STEPS, CHANNELS, WIDTH = 5, 3, 2
THETA = np.array([0.5, 1.0, 2.0])
KINDS = ("none", "bias", "bias by step", "potential", "potential by neuron", "everything")


def sixteenths(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-24, 40, shape) / 16


def correction(kind: str, seed: int = 0) -> Correction:
    bias, by_step = sixteenths(CHANNELS, seed=seed) / 4, sixteenths(STEPS, CHANNELS, seed=seed + 1) / 4
    start, by_neuron = sixteenths(CHANNELS, seed=seed + 2), sixteenths(CHANNELS, WIDTH, seed=seed + 3)
    found: dict[str, dict[str, np.ndarray]] = {
        "none": {},
        "bias": {"bias": bias},
        "bias by step": {"bias": by_step},
        "potential": {"potential": start},
        "potential by neuron": {"potential": by_neuron},
        "everything": {"bias": by_step, "potential": by_neuron, "height": THETA / 4},
    }
    return Correction(**{name: torch.tensor(value) for name, value in found[kind].items()})


def parts(given: Correction) -> tuple[np.ndarray, np.ndarray]:
    """Return the bias [steps, channels] and the initial potential [channels, width] in units of theta, from numpy."""
    bias = np.zeros(CHANNELS) if given.bias is None else given.bias.numpy()
    start = np.zeros(CHANNELS) if given.potential is None else given.potential.numpy()
    start = start if start.ndim == 2 else np.repeat(start[:, None], WIDTH, 1)
    return np.broadcast_to(bias, (STEPS, CHANNELS)), start


def streaming(currents: np.ndarray, given: Correction, v0: float, shift: float) -> np.ndarray:
    """Return the spikes of integrate-and-fire neurons, one neuron and one step after the other."""
    bias, start = parts(given)
    train = np.zeros_like(currents)
    for image, channel, neuron in np.ndindex(*currents.shape[1:]):
        theta = THETA[channel]
        v = (v0 + start[channel, neuron]) * theta
        for t in range(STEPS):
            v += currents[t, image, channel, neuron] + bias[t, channel] + shift * theta / STEPS
            if v >= theta:
                train[t, image, channel, neuron] = 1
                v -= theta
    return train


def two_phase(currents: np.ndarray, given: Correction, signed: bool) -> np.ndarray:
    """Return the spikes of two-phase neurons: first the whole window comes in, then they fire."""
    bias, start = parts(given)
    train = np.zeros_like(currents)
    for image, channel, neuron in np.ndindex(*currents.shape[1:]):
        theta = THETA[channel]
        v = theta / 2 + start[channel, neuron] * theta
        for t in range(STEPS):
            v += currents[t, image, channel, neuron] + bias[t, channel]
        for t in range(STEPS):
            s = 1 if v >= theta else -1 if signed and v < 0 else 0
            train[t, image, channel, neuron] = s
            v -= theta * s
    return train


def stepped(neuron: Neuron, currents: Tensor, noise: Noise) -> Tensor:
    """Return the spikes that come out when each step's current goes in."""
    potential, train = neuron.start(currents[0]), []
    for t, current in enumerate(currents):
        potential = neuron.integrate(potential, current, t)
        if neuron.streaming:
            spikes, potential = neuron.fire(potential, t, noise)
            train.append(spikes)
    if not neuron.streaming:
        for t in range(len(currents)):
            spikes, potential = neuron.fire(potential, t, noise)
            train.append(spikes)
    return torch.stack(train)


def make(kind: type[Neuron], given: Correction, signed: bool = False, **options: Any) -> Neuron:
    return kind(torch.tensor(THETA), STEPS, Place(0, 3, signed=signed), given, **options)


@pytest.mark.parametrize(("v0", "shift"), [(0.5, 0.0), (0.0, 0.625)])  # 5/8: what a step adds is dyadic
@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000))
def test_streaming_neurons_are_those_of_a_loop(kind: str, v0: float, shift: float, seed: int) -> None:
    currents, given = sixteenths(STEPS, 2, CHANNELS, WIDTH, seed=seed), correction(kind, seed)
    neuron = make(IntegrateAndFire, given, initial_potential=v0, shift=shift)
    found = stepped(neuron, torch.tensor(currents), Noise(0, torch.arange(2)))
    assert np.array_equal(found, streaming(currents, given, v0, shift))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000))
def test_two_phase_neurons_are_those_of_a_loop(kind: str, signed: bool, seed: int) -> None:
    currents, given = sixteenths(STEPS, 2, CHANNELS, WIDTH, seed=seed), correction(kind, seed)
    neuron, noise = make(TwoPhase, given, signed), Noise(0, torch.arange(2))
    expected = two_phase(currents, given, signed)
    assert np.array_equal(stepped(neuron, torch.tensor(currents), noise), expected)
    total = torch.tensor(currents.sum(0))
    assert np.array_equal(neuron.count(total, noise), expected.sum(0))
    assert np.array_equal(neuron.expected_count(total), expected.sum(0))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_tpp_neurons_at_a_whole_potential_fire_so_often(kind: str, signed: bool) -> None:
    given, wanted = correction(kind), np.random.default_rng(4).integers(-7, 8, (6, CHANNELS, WIDTH))
    bias, start = parts(given)
    total = (wanted - start) * THETA[:, None] - bias.sum(0)[:, None]
    currents = np.zeros((STEPS, *total.shape))
    currents[1] = total
    neuron, noise = make(TwoPhaseProbabilistic, given, signed), Noise(3, torch.arange(6))
    expected = wanted.clip(-STEPS if signed else 0, STEPS)
    assert np.array_equal(stepped(neuron, torch.tensor(currents), noise).sum(0), expected)
    assert np.array_equal(neuron.count(torch.tensor(total), noise), expected)
    assert np.array_equal(neuron.expected_count(torch.tensor(total)), expected)


@given(st.floats(-1.5, 1.5), st.floats(-0.25, 0.25), st.floats(-1, 1))
def test_the_expected_count_of_tpp_below_one_threshold_is_a_product(z: float, bias: float, start: float) -> None:
    # For 0 <= f <= 1 thresholds, no spike comes with probability prod_n (1 - f / n), from the definition of the neuron.
    given = Correction(torch.full((CHANNELS,), bias).double(), torch.full((CHANNELS,), start).double())
    found = make(TwoPhaseProbabilistic, given, signed=True).expected_count(torch.full((1, CHANNELS, 1), z).double())
    for channel, theta in enumerate(THETA):
        f = (z + STEPS * bias) / theta + start
        if abs(f) <= 1:
            expected = np.sign(f) * (1 - np.prod([1 - abs(f) / n for n in range(1, STEPS + 1)]))
            assert float(found[0, channel, 0]) == pytest.approx(expected, abs=1e-4)


def test_the_mean_of_drawn_counts_is_the_expected_one() -> None:
    given, total = correction("everything"), torch.tensor(sixteenths(1, CHANNELS, WIDTH, seed=5) * 2 + 0.03)
    neuron = make(TwoPhaseProbabilistic, given)
    many, noise = total.expand(20_000, CHANNELS, WIDTH), Noise(1, torch.arange(20_000))
    expected = neuron.expected_count(total)[0]
    currents = torch.zeros(STEPS, *many.shape).double()
    currents[0] = many
    for drawn in (neuron.count(many, noise), stepped(neuron, currents, noise).sum(0)):
        share = expected - expected.floor()
        spread = 4.5 * (share * (1 - share) / 20_000).sqrt()
        assert ((drawn.mean(0) - expected).abs() <= spread + 1e-12).all()
    assert ((expected > 0.05) & (expected < STEPS - 0.05)).any()  # not all of them are silent or full


@pytest.mark.parametrize("kind", KINDS)
def test_the_offset_is_what_a_window_gets(kind: str) -> None:
    given = correction(kind)
    found, (bias, start) = make(TwoPhase, given).offset, parts(given)
    if kind == "none":
        assert found is None
        return
    assert found is not None
    expected = bias.sum(0)[:, None] + start * THETA[:, None]
    assert np.array_equal(found.expand(CHANNELS, WIDTH), expected)


@pytest.mark.parametrize("height", [np.array([1.0, 2.0, 4.0]), np.array([3.0])])
def test_the_height_is_theta_unless_it_was_changed(height: np.ndarray) -> None:
    plain, changed = make(TwoPhase, Correction()), make(TwoPhase, Correction(height=torch.tensor(height)))
    assert np.array_equal(plain.height, THETA[:, None])
    assert np.array_equal(changed.height, height[:, None])
    assert torch.equal(changed.threshold, plain.threshold)
    total = torch.tensor(sixteenths(4, CHANNELS, WIDTH, seed=1))
    noise = Noise(0, torch.arange(4))
    assert torch.equal(changed.count(total, noise), plain.count(total, noise))  # it is a matter of the wire


def test_a_correction_takes_the_place_of_the_one_before() -> None:
    neuron, plain = make(IntegrateAndFire, correction("everything")), make(IntegrateAndFire, Correction())
    assert neuron.bias is not None
    assert neuron.potential is not None
    neuron.correct(Correction())
    assert neuron.bias is None
    assert neuron.potential is None
    currents, noise = torch.tensor(sixteenths(STEPS, 2, CHANNELS, WIDTH, seed=9)), Noise(0, torch.arange(2))
    assert torch.equal(stepped(neuron, currents, noise), stepped(plain, currents, noise))
    assert torch.equal(neuron.height, neuron.threshold)


def test_neurons_keep_copies_without_gradients() -> None:
    given = correction("everything")
    for value in given:
        assert value is not None
        value.requires_grad_()
    neuron = make(TwoPhase, given)
    before = {name: buffer.clone() for name, buffer in neuron.named_buffers()}
    assert set(before) == {"threshold", "own_height", "bias", "potential"}
    for value in given:
        assert value is not None
        value.detach().add_(1)
    for name, buffer in neuron.named_buffers():
        assert torch.equal(buffer, before[name])
        assert not buffer.requires_grad


@pytest.mark.parametrize(("rank", "axis"), [(2, 1), (3, 1), (4, 1), (3, 2), (4, 3)])
@pytest.mark.parametrize("kind", [IntegrateAndFire, TwoPhase])
def test_corrections_lie_along_the_channels(kind: type[Neuron], rank: int, axis: int) -> None:
    sizes = [2] * rank
    sizes[axis] = CHANNELS
    theta, place = torch.tensor(THETA), Place(0, rank, axis)
    values = torch.tensor([0.0, 1.0, 3.0]).double()
    noise, alone = Noise(0, torch.arange(2)), torch.zeros(STEPS, 2, CHANNELS).double()
    everywhere = torch.zeros(STEPS, *sizes).double()
    by_step = torch.eye(STEPS, CHANNELS).double()
    for changed in (Correction(potential=values), Correction(bias=values / 4), Correction(bias=by_step)):
        expected = stepped(kind(theta, STEPS, Place(0, 2), changed), alone, noise)[:, 0]
        found = stepped(kind(theta, STEPS, place, changed), everywhere, noise).movedim(axis + 1, -1)
        assert torch.equal(found, expected.reshape(STEPS, *[1] * (rank - 1), CHANNELS).expand_as(found))
        assert expected.any()
