"""Trains with gradients through time against the neurons themselves, and against autograd with the same window."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from snnconvert.calibration.through_time import _fused_backward, _fused_forward, through_time
from snnconvert.converter.fused import compiler
from snnconvert.converter.neurons import IntegrateAndFire, Noise, Place

NAMES = ("current", "bias", "worth", "height", "start")


def numbers(seed: int, steps: int) -> list[Tensor]:
    """Return currents of 2 images, 3 channels and 4 places, and what the neurons need, in float64."""
    draw = np.random.default_rng(seed)
    found = (
        draw.normal(0.4, 1.0, (steps, 2, 3, 4)),
        draw.normal(0, 0.3, (steps, 1, 3, 1)),
        draw.uniform(0.5, 2, (3, 1)),
        draw.uniform(0.5, 2, (3, 1)),
        draw.uniform(0, 1, (3, 1)),
    )
    return [torch.from_numpy(x) for x in found]


@given(seed=st.integers(0, 10_000), steps=st.integers(1, 7), most=st.sampled_from([1, 2, 4]))
def test_trains_are_those_of_the_neurons(seed: int, steps: int, most: int) -> None:
    current, bias, worth, height, start = numbers(seed, steps)
    neuron = IntegrateAndFire(worth[:, 0] * most, steps, Place(0, 3), burst=most, initial_potential=0.0)
    train, _ = neuron.spike_train(
        start * worth + torch.zeros_like(current[0]), current + bias, 0, Noise(0, torch.arange(2))
    )
    assert torch.equal(through_time(current, bias, worth, height, start, most=most), train * height)


@given(seed=st.integers(0, 10_000), steps=st.sampled_from([1, 2, 3, 4, 7, 9, 17]), most=st.sampled_from([1, 2, 4]))
def test_gradients_are_those_of_autograd(seed: int, steps: int, most: int) -> None:
    outcomes = []
    weight = torch.from_numpy(np.random.default_rng(seed).normal(size=(steps, 2, 3, 4)))
    for own in (True, False):
        current, bias, worth, height, start = numbers(seed, steps)
        leaves = [x.requires_grad_() for x in (current, bias, worth, height, start)]
        if own:
            train = through_time(current, bias, worth, height, start, most=most)
        else:
            potential, spikes = start, []
            for step in range(steps):
                u = potential + (current[step] + bias[step]) / worth
                line = u * ((u > 0.5) & (u < most + 0.5))
                fired = u.detach().floor().clamp(0, most) + line - line.detach()  # the slope of the line alone
                spikes.append(fired * height)
                potential = u - fired
            train = torch.stack(spikes)
        (train * weight).sum().backward()
        outcomes.append([train.detach(), *(x.grad for x in leaves)])
    for name, one, other in zip(("train", *NAMES), *outcomes, strict=False):
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other, atol=1e-9), name


def test_a_gradient_waits_until_the_membrane_nears_the_threshold() -> None:
    current = torch.tensor([0.2, 0.2, 0.5, 0.0]).reshape(4, 1, 1).double().requires_grad_()
    one, nothing = torch.ones(1).double(), torch.zeros(4, 1, 1).double()
    train = through_time(current, nothing, one, one, torch.zeros(1).double())
    assert train.flatten().tolist() == [0, 0, 0, 0]  # u = 0.2, 0.4, 0.9, 0.9
    train.backward(torch.tensor([1.0, 2.0, 4.0, 8.0]).reshape(4, 1, 1).double())
    assert current.grad is not None
    assert current.grad.flatten().tolist() == [4, 4, 4, 8]


def test_short_numbers_stay_short() -> None:
    current, bias, worth, height, start = (x.float() for x in numbers(0, 4))
    short = current.bfloat16().requires_grad_()
    train = through_time(short, bias, worth, height, start)
    train.sum().backward()
    assert short.grad is not None
    assert (train.dtype, short.grad.dtype) == (torch.bfloat16, torch.bfloat16)
    exact = through_time(short.detach().float(), bias, worth, height, start)
    assert torch.equal(train, exact.bfloat16())


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler was found")
@pytest.mark.parametrize("short", [False, True])
def test_fused_is_the_same(short: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    current = torch.randn(4 * 6, 3, 5, 4, generator=draw).to(memory_format=torch.channels_last).unflatten(0, (4, 6))
    scale = torch.rand(4, 3, 1, 1, generator=draw)
    outcomes = []
    for fuse in (False, True):
        given_current = current.bfloat16() if short else current
        bias = scale[0].expand(4, 1, -1, -1, -1) - 0.5
        leaves = [x.clone().requires_grad_() for x in (given_current, bias, scale[1] + 0.5, scale[2] + 0.5)]
        train = through_time(*leaves, scale[3], fuse=fuse)
        (train * torch.linspace(-1, 1, 4).to(train)).sum().backward()
        outcomes.append([train.detach(), *(x.grad for x in leaves)])
    for eager, fused in zip(*outcomes, strict=True):
        assert eager is not None
        assert fused is not None
        assert eager.dtype == fused.dtype
        assert eager.any()
        assert (eager - fused).abs().max() <= 1e-5 * eager.abs().max()
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    for function in (_fused_forward, _fused_backward):
        assert function.failure is None
        assert function.compiled is not None
