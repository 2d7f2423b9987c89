"""`lif`: forwards the converter's neuron, backwards a slow loop, and autograd of a smooth stand-in."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.converter.errors import UsageError
from snnconvert.converter.neurons import LeakyIntegrateAndFire, Noise, Place
from snnconvert.model_zoo.baselines import METHODS
from snnconvert.model_zoo.baselines.lif import Lif, MembraneLoop, run, run_back
from snnconvert.model_zoo.baselines.mt_lif import MultiThresholdLif
from snnconvert.model_zoo.baselines.surrogates import SURROGATES

Array = NDArray[np.float64]


def simulated(currents: Array, leak: float, theta: float, most: int, hard: bool) -> tuple[Array, Array]:
    """Return outputs and potentials of neurons, by a loop over neurons, steps and thresholds."""
    out, potentials = np.zeros_like(currents), np.zeros_like(currents)
    for n in range(currents.shape[1]):
        left = 0.0
        for t in range(len(currents)):
            u = leak * left + currents[t, n]
            count = sum(u >= j * theta for j in range(1, most + 1))
            out[t, n], potentials[t, n] = theta * count, u
            left = (0.0 if count else u) if hard else u - theta * count
    return out, potentials


def drawn(steps: int = 6, neurons: int = 40) -> Tensor:
    torch.manual_seed(0)
    return (torch.randn(steps, neurons) * 16).round() / 16


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(("leak", "theta", "most"), [(0.5, 1.0, 1), (1.0, 0.5, 1), (0.75, 0.25, 4), (0.25, 0.5, 2)])
def test_forwards_it_is_the_loop_and_the_converters_neuron(leak: float, theta: float, most: int, hard: bool) -> None:
    currents = drawn()
    outputs, potentials = run(currents, leak, theta, most, hard)
    expected = simulated(currents.double().numpy(), leak, theta, most, hard)
    assert np.array_equal(outputs.numpy(), expected[0])
    assert np.array_equal(potentials.numpy(), expected[1])
    neuron = LeakyIntegrateAndFire(
        torch.tensor([theta * most]), len(currents), Place(0, 2), burst=most, leak=leak, hard_reset=float(hard)
    )
    train, _ = neuron.spike_train(torch.zeros(1, 40), currents[:, None].clone(), 0, Noise(0, torch.arange(1)))
    assert torch.equal(train[:, 0] * theta, outputs)
    assert outputs.unique().numel() > most / 2


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_backwards_it_is_the_sum_over_all_paths_through_time(surrogate: str, hard: bool) -> None:
    """dL/dI[t] = sum over t' >= t of dL/dout[t'] theta psi(u[t']) k^(t' - t), cut by hard resets in between."""
    leak, theta, most = 0.75, 0.5, 3
    currents, slopes = drawn(), torch.randn(6, 40)
    outputs, potentials = run(currents, leak, theta, most, hard)
    found = run_back(slopes, potentials, leak, theta, most, hard, SURROGATES[surrogate])
    psi = SURROGATES[surrogate](potentials, theta, most)
    for t in range(6):
        expected = torch.zeros(40)
        for later in range(t, 6):
            alive = (outputs[t:later] == 0).all(0) if hard else torch.ones(40)
            expected += slopes[later] * theta * psi[later] * leak ** (later - t) * alive
        assert torch.allclose(found[t], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("hard", [False, True])
def test_backwards_it_is_autograd_of_a_stand_in_with_that_derivative(hard: bool) -> None:
    leak, theta, most, surrogate = 0.5, 0.5, 2, "mt-gauss"
    currents, slopes = drawn().requires_grad_(), torch.randn(6, 40)
    left = torch.zeros(40)
    for current, slope in zip(currents, slopes, strict=True):
        u = leak * left + current
        spikes = (u / theta).floor().clamp(0, most).detach()
        smooth = SURROGATES[surrogate](u.detach(), theta, most) * u  # has the surrogate as its derivative
        left = u * (spikes == 0) if hard else u - theta * spikes
        (theta * smooth * slope).sum().backward(retain_graph=True)
    again = currents.detach().clone().requires_grad_()
    outputs = MembraneLoop.apply(again, leak, theta, most, hard, SURROGATES[surrogate])
    (outputs * slopes).sum().backward()
    assert torch.allclose(again.grad, currents.grad, rtol=1e-5, atol=1e-6)


def test_half_precision_comes_out_as_it_went_in() -> None:
    currents = drawn().bfloat16().requires_grad_()
    outputs = MembraneLoop.apply(currents, 0.5, 1.0, 1, False, SURROGATES["arctangent"])
    outputs.sum().backward()
    assert (outputs.dtype, currents.grad.dtype) == (torch.bfloat16, torch.bfloat16)
    assert torch.equal(outputs.float(), run(currents.detach().float(), 0.5, 1.0, 1, False)[0])


@given(st.lists(st.floats(-4, 8), min_size=1, max_size=20), st.integers(1, 5), st.sampled_from([0.25, 0.5, 1.0]))
def test_one_step_rounds_down_whatever_the_leak(currents: list[float], most: int, theta: float) -> None:
    u = torch.tensor([currents])
    expected = np.clip(np.floor(u.numpy() / theta), 0, most) * theta
    for leak in (0.1, 0.5, 1.0):
        assert np.array_equal(run(u, leak, theta, most, False)[0].numpy(), expected)


@given(st.integers(-64, 512), st.integers(1, 5), st.sampled_from([0.25, 0.5, 1.0]))
def test_two_steps_without_a_leak_are_within_one_of_twice_the_levels(sixteenths: int, most: int, theta: float) -> None:
    u = sixteenths / 16
    outputs, _ = run(torch.full((2, 1), u), 1.0, theta, most, False)
    assert abs(float(outputs.sum()) / theta - np.clip(np.floor(2 * u / theta), 0, 2 * most)) <= 1


def test_one_threshold_of_several_is_lif() -> None:
    settings = {"leak": 0.75, "threshold": 0.5, "surrogate": "arctangent"}
    several, one = MultiThresholdLif(**settings, thresholds=1), Lif(**settings)
    currents, slopes = drawn(), torch.randn(6, 40)
    found = []
    for method in (several, one):
        x = currents.clone().requires_grad_()
        outputs = method.neuron(6)(x)
        (outputs * slopes).sum().backward()
        found.append((outputs.detach(), x.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert several.simulated(6) == one.simulated(6)
    assert several.neuron(6).units() == one.neuron(6).units()


def test_units_are_theta_of_a_whole_burst() -> None:
    units = MultiThresholdLif(threshold=0.5, thresholds=4).neuron(2).units()
    assert (units.theta.tolist(), units.burst, units.height) == ([2.0], 4, None)
    assert MultiThresholdLif(leak=0.25, hard_reset=True).simulated(2) == ("lif", {"leak": 0.25, "hard_reset": 1.0})


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("lif", {"leak": 0.0}, "0 < leak <= 1"),
        ("lif", {"leak": 1.5}, "0 < leak <= 1"),
        ("lif", {"threshold": 0.0}, "finite threshold above 0"),
        ("lif", {"threshold": float("inf")}, "finite threshold above 0"),
        ("lif", {"surrogate": "sigmoid"}, "unknown surrogate 'sigmoid'"),
        ("mt-lif", {"thresholds": 0}, "1 to 256 thresholds"),
        ("mt-lif", {"thresholds": 257}, "1 to 256 thresholds"),
    ],
)
def test_settings_out_of_range(method: str, settings: dict[str, object], message: str) -> None:
    METHODS[method]().check(4)
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(METHODS[method](), **settings).check(4)  # type: ignore[arg-type]
