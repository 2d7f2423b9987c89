"""The gradients of a spike count against finite differences of the line that stands for it, and against autograd."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from snnconvert.calibration.straight_through import straight_through
from snnconvert.converter.neurons.two_phase import rounded_count

STEPS = 4
CASES = [("one for all", (1, 1)), ("by channel", (3, 1))]


def fire(signed: bool) -> Callable[[Tensor], Tensor]:
    return lambda v: rounded_count(v, STEPS, signed)


def numbers(seed: int, shape: tuple[int, ...], own_height: bool) -> list[Tensor]:
    draw = np.random.default_rng(seed)
    z, bias = draw.normal(0.4, 1.5, (6, 3, 5)), draw.normal(0, 0.3, (3, 1))
    theta = draw.uniform(0.5, 2, shape)
    height = draw.uniform(0.5, 2, shape) if own_height else theta
    return [torch.tensor(x) for x in (z, bias, theta, height)]


def chain(z: Tensor, bias: Tensor, theta: Tensor, height: Tensor, signed: bool) -> Tensor:
    """Return the same as a chain of operations, for autograd."""
    line = ((z + bias) * STEPS / theta).clamp(-STEPS if signed else 0, STEPS)
    count = rounded_count((z + bias) * STEPS / theta, STEPS, signed).detach()
    return (line + (count - line).detach()) * height / STEPS


@pytest.mark.parametrize("own_height", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", [shape for _, shape in CASES], ids=[name for name, _ in CASES])
@given(seed=st.integers(0, 10_000))
def test_gradients_are_those_of_autograd(shape: tuple[int, ...], signed: bool, own_height: bool, seed: int) -> None:
    weight = torch.tensor(np.random.default_rng(seed + 1).normal(size=(6, 3, 5)))
    found, expected = ([x.clone().requires_grad_() for x in numbers(seed, shape, own_height)] for _ in range(2))
    out = straight_through(*found, fire=fire(signed), low=-STEPS if signed else 0, steps=STEPS)
    reference = chain(*expected, signed)
    assert torch.allclose(out, reference, atol=1e-12)
    (out * weight).sum().backward()
    (reference * weight).sum().backward()
    for f, e in zip(found, expected, strict=True):
        assert f.grad is not None
        assert e.grad is not None
        assert f.grad.shape == f.shape
        assert torch.allclose(f.grad, e.grad, atol=1e-10)


@pytest.mark.parametrize("signed", [False, True])
def test_the_gradient_of_theta_is_that_of_learned_step_sizes(signed: bool) -> None:
    # Esser et al. 2020: d a / d theta = N / T - [low < v < T] z / theta, here with z + b in the place of z.
    z, bias, theta, _ = numbers(0, (3, 1), False)
    theta.requires_grad_()
    straight_through(
        z, bias, theta, theta, fire=fire(signed), low=-STEPS if signed else 0, steps=STEPS
    ).sum().backward()
    current, scale = (z + bias).numpy(), theta.detach().numpy()
    v = current * STEPS / scale
    inside = (v > (-STEPS if signed else 0)) & (v < STEPS)
    count = np.floor(v + 0.5).clip(-STEPS if signed else 0, STEPS)
    expected = (count / STEPS - inside * current / scale).sum((0, 2))[:, None]
    assert theta.grad is not None
    assert np.allclose(theta.grad, expected, atol=1e-12)
    assert inside.any()
    assert not inside.all()


@pytest.mark.parametrize("number", [0, 1, 2], ids=["z", "bias", "theta"])
def test_gradients_are_finite_differences_of_the_line_plus_a_constant(number: int) -> None:
    given_ = [x.requires_grad_() for x in numbers(3, (3, 1), False)[:3]]
    z, bias, theta = given_
    straight_through(z, bias, theta, theta, fire=fire(False), low=0, steps=STEPS).sum().backward()
    gradient = given_[number].grad
    assert gradient is not None
    start = [x.detach().numpy() for x in given_]
    v = (start[0] + start[1]) * STEPS / start[2]
    rest = np.floor(v + 0.5).clip(0, STEPS) - v.clip(0, STEPS)  # what rounding adds stays as it is

    def total(z: np.ndarray, bias: np.ndarray, theta: np.ndarray) -> float:
        return float((((z + bias) * STEPS / theta).clip(0, STEPS) + rest).__mul__(theta / STEPS).sum())

    for place in list(np.ndindex(*start[number].shape))[:20]:
        step = np.zeros_like(start[number])
        step[place] = 1e-6
        ends = [total(*(x + sign * step if i == number else x for i, x in enumerate(start))) for sign in (1, -1)]
        assert float(gradient[place]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


def test_any_count_passes_through() -> None:
    z = torch.tensor([[0.3], [2.0], [-1.0]], requires_grad=True)
    counts = torch.tensor([[3.0], [1.0], [2.0]])
    one = torch.ones(1)
    out = straight_through(z, torch.zeros(1), 2 * one, 4 * one, fire=lambda v: counts, low=0, steps=STEPS)
    assert torch.equal(out, counts)  # h N / T
    out.sum().backward()
    assert z.grad is not None
    assert z.grad.flatten().tolist() == [2.0, 0.0, 0.0]  # h / theta within the window, which ends before v = T


def test_a_bias_may_differ_for_each_neuron() -> None:
    z, bias = torch.zeros(2, 3, 5), torch.linspace(-1, 3, 15).reshape(3, 5).requires_grad_()
    one = torch.ones(3, 1)
    out = straight_through(z, bias, one, one, fire=fire(False), low=0, steps=STEPS)
    out.sum().backward()
    assert bias.grad is not None
    assert torch.equal(bias.grad, 2.0 * ((bias > 0) & (bias < 1)))
