"""`dsr`: its forward pass step by step in numpy, its backward pass by the formulas, neuron by neuron."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.converter.errors import UsageError
from snnconvert.converter.neurons import IntegrateAndFire, LeakyIntegrateAndFire, Noise, Place
from snnconvert.model_zoo.baselines.dsr import Dsr, DsrNeuron

Array = NDArray[np.float64]
NOISE = Noise(0, torch.arange(1))
BOTH = pytest.mark.parametrize("neurons", ["if", "lif"])


def drawn(steps: int = 5, count: int = 60) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(steps, count) + torch.linspace(-1, 4, count)


def stepped(x: Array, method: Dsr) -> Array:
    """Return the outputs of currents ``x`` [T, neurons] in float32, as the paper's code runs them."""
    theta = np.float32(method.threshold if method.neurons == "if" else np.float32(method.threshold * method.dt))
    b = math.exp(-method.dt / method.tau)
    v, outputs = np.zeros(x.shape[1], np.float32), []
    for current in x.astype(np.float32):
        v = v + current if method.neurons == "if" else np.float32(b) * v + np.float32(1 - b) * current
        s = (v >= np.float32(method.alpha) * theta).astype(np.float32) * theta
        v = v - s
        outputs.append(s if method.neurons == "if" else s / np.float32(method.dt))
    return np.array(outputs)


@BOTH
@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
def test_forwards_it_is_the_simulation(neurons: str, alpha: float) -> None:
    method = Dsr(neurons, threshold=1.5, alpha=alpha, tau=1.0, dt=0.5)
    x = drawn()
    found = method.neuron(5)(x).detach()
    assert np.allclose(found.numpy(), stepped(x.numpy(), method), atol=1e-6)
    assert 0.1 < float((found > 0).float().mean()) < 0.9


@given(st.lists(st.integers(-64, 64), min_size=1, max_size=12), st.sampled_from([0.25, 0.5, 1.0]))
def test_if_is_the_converters_neuron_that_starts_with_what_alpha_leaves(sixteenths: list[int], alpha: float) -> None:
    method, steps = Dsr("if", threshold=0.5, alpha=alpha), len(sixteenths)
    currents = torch.tensor(sixteenths)[:, None] / 16
    name, options = method.simulated(steps)
    assert (name, options) == ("if", {"initial_potential": 1 - alpha, "shift": 0.0})
    neuron = IntegrateAndFire(torch.tensor([0.5]), steps, Place(0, 2), **options)
    train, _ = neuron.spike_train(neuron.start(currents[:1]), currents[:, None].clone(), 0, NOISE)
    assert torch.equal(method.neuron(steps).train()(currents), train[:, 0] * 0.5)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_lif_is_the_converters_leaky_neuron(alpha: float) -> None:
    method = Dsr("lif", threshold=2.0, alpha=alpha, tau=1.0, dt=0.25)
    name, options = method.simulated(5)
    neuron, x = method.neuron(5).eval(), drawn()
    theta, _, height = neuron.units()
    assert name == "lif"
    assert float(height) == pytest.approx(float(theta) / 0.25)
    fired = LeakyIntegrateAndFire(theta, 5, Place(0, 2), **options)
    train, _ = fired.spike_train(fired.start(x[:1]), x[:, None].clone(), 0, NOISE)
    assert torch.allclose(train[:, 0] * height, neuron(x))
    assert 0 < train.mean() < 1


def slopes_of(method: Dsr, x: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor, DsrNeuron]:
    neuron = method.neuron(len(x)).train()
    x = x.clone().requires_grad_()
    (neuron(x) * slopes).sum().backward()
    return x.grad, neuron.theta.value.grad, neuron  # type: ignore[return-value]


@BOTH
def test_backwards_it_is_the_formula(neurons: str) -> None:
    """One neuron after the other, with the sums written out."""
    method, steps = Dsr(neurons, threshold=1.5, alpha=0.5, tau=2.0, dt=0.5), 5
    x, slopes = drawn(steps), torch.randn(steps, 60)
    by_x, by_theta, neuron = slopes_of(method, x, slopes)
    tau, dt = (2.0, 0.5) if neurons == "lif" else (1.0, 1.0)
    decay = 0.5 / 2.0 if neurons == "lif" else 0.0
    theta = float(neuron.theta.value.detach())
    total, seen = 0.0, set()
    for n in range(60):
        w = [math.exp(-(steps - t) * decay) for t in range(1, steps + 1)]
        r = sum(w[t] * float(x[t, n]) for t in range(steps)) / sum(w)
        g = steps * sum(w[t] * float(slopes[t, n]) for t in range(steps)) / sum(w)
        inside = 0 <= r <= tau * theta / dt
        seen.add((r < 0, inside))
        total += dt * g * (r > tau * theta / dt)
        expected = torch.full((steps,), g * inside / (tau * steps))
        assert torch.allclose(by_x[:, n], expected, rtol=1e-4, atol=1e-6)
    assert float(by_theta) == pytest.approx(total, rel=1e-4)
    assert len(seen) == 3  # below, between and above


@BOTH
def test_nothing_is_propagated_through_time(neurons: str) -> None:
    x, slopes = drawn(), torch.randn(5, 60)
    by_x, _, _ = slopes_of(Dsr(neurons, threshold=1.5), x, slopes)
    assert all(torch.equal(by_x[0], step) for step in by_x)
    assert by_x.any()


@given(st.floats(-1, 9))
def test_constant_currents_come_out_as_the_clipped_mean(current: float) -> None:
    steps = 100
    found = Dsr("if", threshold=6.0).neuron(steps)(torch.full((steps, 1), current)).detach().mean()
    assert float(found) == pytest.approx(min(max(current, 0), 6), abs=6 / steps + 1e-3)


def test_thresholds_start_where_they_are_told_and_stay_positive() -> None:
    for method in (Dsr("if", threshold=2.0), Dsr("lif", threshold=2.0, dt=0.25)):
        neuron = method.neuron(4).eval()
        units = neuron.units()
        assert float(units.theta if units.height is None else units.height) == pytest.approx(2.0, rel=1e-3)
        with torch.no_grad():
            neuron.theta.value.fill_(-5.0)
        assert float(neuron.units().theta) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neurons": "alif"}, "unknown kind of neurons 'alif'"),
        ({"threshold": 0.0}, "finite threshold, alpha, tau and dt above 0"),
        ({"threshold": math.inf}, "finite threshold, alpha, tau and dt above 0"),
        ({"alpha": -1.0}, "finite threshold, alpha, tau and dt above 0"),
        ({"tau": math.inf}, "finite threshold, alpha, tau and dt above 0"),
        ({"dt": math.nan}, "finite threshold, alpha, tau and dt above 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], message: str) -> None:
    Dsr("lif").check(4)
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(Dsr(), **settings).check(4)  # type: ignore[arg-type]
