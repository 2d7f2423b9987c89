"""The gradients of a spike count against finite differences of the line that stands for it, and against autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from snnconvert.calibration.straight_through import (
    Fire,
    _fused_backward,
    _fused_forward,
    drawn,
    rounded,
    straight_through,
)
from snnconvert.converter.fused import compiler
from snnconvert.converter.neurons.tpp import mean_count_table, stochastic_count
from snnconvert.converter.neurons.two_phase import rounded_count

STEPS = 4
CASES = [("one for all", (1, 1)), ("by channel", (3, 1))]


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
    out = straight_through(*found, fire=rounded, most=STEPS, low=-STEPS if signed else 0)
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
    straight_through(z, bias, theta, theta, fire=rounded, most=STEPS, low=-STEPS if signed else 0).sum().backward()
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
    straight_through(z, bias, theta, theta, fire=rounded, most=STEPS).sum().backward()
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


def test_a_bias_may_differ_for_each_neuron() -> None:
    z, bias = torch.zeros(2, 3, 5), torch.linspace(-1, 3, 15).reshape(3, 5).requires_grad_()
    one = torch.ones(3, 1)
    out = straight_through(z, bias, one, one, fire=rounded, most=STEPS)
    out.sum().backward()
    assert bias.grad is not None
    assert torch.equal(bias.grad, 2.0 * ((bias > 0) & (bias < 1)))


@given(seed=st.integers(0, 10_000))
def test_of_short_numbers_it_counts_and_adds_up_exactly(seed: int) -> None:
    z, bias, theta, height = (x.float() for x in numbers(seed, (3, 1), True))
    short = z.bfloat16()
    weight = torch.tensor(np.random.default_rng(seed).normal(size=z.shape)).bfloat16()
    outs, gradients = [], []
    for given_z in (short, short.float()):
        leaves = [x.clone().requires_grad_() for x in (given_z, bias, theta, height)]
        out = straight_through(*leaves, fire=rounded, most=STEPS)
        (out * weight.to(out.dtype)).backward(torch.ones_like(out))
        outs.append(out)
        gradients.append([x.grad for x in leaves])
    assert torch.equal(outs[0], outs[1].bfloat16())
    for found, expected in zip(*gradients, strict=True):
        assert found is not None
        assert expected is not None
        assert torch.equal(found, expected.to(found.dtype))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("most", [1, 127, 128, 300])
def test_long_windows_count_as_far_as_they_must(most: int, signed: bool) -> None:
    z, one = torch.linspace(-2, 2, 41).double(), torch.ones(1).double()
    height = one.clone().requires_grad_()
    out = straight_through(z, 0 * one, one, height, fire=rounded, most=most, low=-most if signed else 0)
    (out * z).sum().backward()
    count = np.floor(z.numpy() * most + 0.5).clip(-most if signed else 0, most)
    assert count.max() == most
    assert np.allclose(out.detach(), count / most, atol=1e-12)
    assert height.grad is not None
    assert height.grad.item() == pytest.approx((count * z.numpy()).sum() / most, rel=1e-12)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=st.integers(0, 10_000), most=st.integers(1, 32))
def test_drawn_counts_are_those_of_tpp_neurons(dtype: torch.dtype, signed: bool, seed: int, most: int) -> None:
    draw = np.random.default_rng(seed)
    grid = np.arange(-most - 1, most + 2)  # where a count is certain, and beyond the window
    v = torch.tensor(np.concatenate([draw.normal(0, most, 50), grid]), dtype=dtype)
    largest = 1 - torch.finfo(dtype).eps  # with which a sum may be rounded up
    uniform = torch.tensor(draw.random(len(v)), dtype=dtype).clamp(max=largest)
    uniform[-1] = largest
    expected = stochastic_count(v.abs(), uniform, most) * v.sign() if signed else stochastic_count(v, uniform, most)
    table, low = mean_count_table(most).to(dtype), -most if signed else 0
    assert torch.equal(drawn(v, (uniform, table), most, low), expected)
    one = torch.full((1,), float(most), dtype=dtype)  # a threshold that makes z equal v, and a height that makes a = N
    out = straight_through(v, torch.zeros(1).to(v), one, one, uniform, table, fire=drawn, most=most, low=low)
    assert torch.equal(out, expected)


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler was found")
@pytest.mark.parametrize(
    ("fire", "dtype", "layout", "z_dtype", "signed"),
    [
        # few of all combinations, because each that is new is compiled for seconds
        (rounded, torch.float32, torch.contiguous_format, torch.float32, True),
        (drawn, torch.float32, torch.contiguous_format, torch.float32, True),
        (rounded, torch.float64, torch.channels_last, torch.float64, True),
        (drawn, torch.float64, torch.channels_last, torch.float64, True),
        (rounded, torch.float32, torch.channels_last, torch.bfloat16, False),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_fused_is_the_same(
    fire: Fire, dtype: torch.dtype, layout: torch.memory_format, z_dtype: torch.dtype, signed: bool
) -> None:
    tolerance = 50 * torch.finfo(dtype).eps
    for seed, (most, shape) in enumerate([(4, (6, 3, 5, 4)), (8, (2, 3, 7, 9))]):
        draw = torch.Generator().manual_seed(seed)
        z = torch.randn(shape, generator=draw).to(z_dtype, memory_format=layout)
        scale = torch.rand(3, 3, 1, 1, generator=draw, dtype=dtype)
        needed: dict[Fire, tuple[Tensor, ...]] = {
            rounded: (),
            drawn: (torch.rand(shape, generator=draw, dtype=dtype), mean_count_table(most).to(dtype)),
        }
        outcomes = []
        for fuse in (False, True):
            leaves = [x.clone().requires_grad_() for x in (z, scale[0] - 0.5, scale[1] + 0.5, scale[2] + 0.5)]
            out = straight_through(*leaves, *needed[fire], fire=fire, most=most, low=-most if signed else 0, fuse=fuse)
            (out * (1 + scale[0]) * torch.linspace(-1, 1, shape[-1], dtype=dtype)).sum().backward()
            outcomes.append([out.detach(), *(x.grad for x in leaves)])
        for eager, fused in zip(*outcomes, strict=True):
            assert eager is not None
            assert fused is not None
            assert eager.dtype == fused.dtype
            assert eager.any()
            assert (eager - fused).abs().max() <= tolerance * eager.abs().max()
    for function in (_fused_forward, _fused_backward):
        assert function.failure is None
        assert function.compiled is not None
