"""`slssnn`: the block is its neurons step by step, its gradient that of a clipped ramp."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.converter.errors import UsageError
from snnconvert.converter.neurons import Noise, Place, TwoPhase
from snnconvert.model_zoo.baselines.slssnn import BlockNeuron, Slssnn, block


@given(st.integers(-64, 256), st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([0.5, 1.0, 2.0]))
def test_forwards_it_is_the_simulation_bit_for_bit(sixteenths: int, steps: int, theta: float) -> None:
    z, v, count = sixteenths / 16, theta / 2, 0
    for _ in range(steps):
        v += z
        fires = v >= theta
        count += fires
        v -= theta * fires
    expected = theta * count / steps
    if v < theta:  # a neuron that is driven by more than theta keeps what it could not fire, and is at its largest
        assert float(block(torch.tensor([z]), torch.tensor([theta]), steps)) == expected
    else:
        assert expected <= float(block(torch.tensor([z]), torch.tensor([theta]), steps)) == theta
    neuron = TwoPhase(torch.tensor([theta]), steps, Place(0, 2))
    counts = neuron.window(torch.tensor([[z]]), Noise(0, torch.arange(1)))
    assert float(block(torch.tensor([z]), torch.tensor([theta]), steps)) == float(counts) * theta / steps


def test_backwards_it_is_a_clipped_ramp() -> None:
    torch.manual_seed(0)
    z, slopes = torch.randn(200) * 3, torch.randn(200)
    neuron = BlockNeuron(1.5, 4).train()
    one = z.clone().requires_grad_()
    (neuron(one) * slopes).sum().backward()
    other, theta = z.clone().requires_grad_(), torch.tensor([1.5], requires_grad=True)
    (torch.minimum(other.clamp(min=0), theta) * slopes).sum().backward()
    assert torch.equal(one.grad, other.grad)
    assert torch.allclose(neuron.theta.value.grad, theta.grad)


def test_it_learns_through_thresholds_at_their_least() -> None:
    neuron = BlockNeuron(1.0, 4).train()
    with torch.no_grad():
        neuron.theta.value.fill_(-1.0)
    assert float(neuron.theta().detach()) == pytest.approx(0.01)
    neuron(torch.tensor([2.0])).sum().backward()
    assert float(neuron.theta.value.grad) == 1.0
    assert float(neuron.eval().units().theta) == float(torch.tensor(0.01).half())


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan, math.inf])
def test_settings_out_of_range(threshold: float) -> None:
    Slssnn().check(4)
    with pytest.raises(UsageError, match="expected a finite threshold above 0, got"):
        Slssnn(threshold).check(4)
