"""`qcfs`: its levels in numpy, its gradient by autograd, its two-phase network, and the residual error."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from snnconvert.converter.errors import UsageError
from snnconvert.converter.graph.sites import site_of
from snnconvert.model_zoo.baselines.method import Epoch
from snnconvert.model_zoo.baselines.qcfs import ClipFloorShift, Qcfs, QcfsNeuron
from snnconvert.model_zoo.baselines.trainee import Trainee


@given(st.lists(st.integers(-64, 128), min_size=1), st.sampled_from([1, 2, 4, 8]), st.sampled_from([0.5, 1.0, 4.0]))
def test_levels_are_numpys(sixteenths: list[int], levels: int, cap: float) -> None:
    x = np.array(sixteenths) / 16
    expected = cap / levels * np.clip(np.floor(levels * x / cap + 0.5), 0, levels)
    assert ClipFloorShift.apply(torch.from_numpy(x), torch.tensor([cap]).double(), levels).tolist() == expected.tolist()


def test_gradients_by_the_formula() -> None:
    torch.manual_seed(0)
    x, slopes = (torch.randn(300) * 3).double(), torch.randn(300).double()
    cap = torch.tensor([2.0], requires_grad=True, dtype=torch.float64)
    y = ClipFloorShift.apply(x.requires_grad_(), cap, 4)
    (y * slopes).sum().backward()
    inside = (x >= 0) & (x <= 2)
    assert torch.allclose(x.grad, slopes * inside)
    # of the formula with the floor as the identity: 1 above, 0 below, (y - x) / lambda between
    by_cap = torch.where(x > 2, torch.ones_like(x), torch.where(inside, (y - x) / 2, torch.zeros_like(x)))
    assert torch.allclose(cap.grad, (slopes * by_cap).sum().reshape(1))


def test_two_phase_neurons_at_l_steps_fire_its_levels(net: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_((parameter * 64).round() / 64)
    x = (images * 4).round() / 4
    trainee = Trainee(net, x[:2], Qcfs(cap=1.0), 4).eval()
    seen: dict[str, Tensor] = {}
    for name, neuron in trainee.neurons.items():
        neuron.register_forward_hook(lambda module, args, y, name=name: seen.update({name: y}))
    logits, network = trainee(x), trainee.spiking()
    assert all(network.thresholds.values[name].tolist() == [1.0] for name in seen)
    assert (network.neuron, network.steps) == ("two-phase", 4)
    for executor in network.executors:
        counts = network.activity(x, executor=executor)
        assert set(counts) == set(seen)
        assert all(torch.equal(counts[name] / 4, seen[name]) for name in seen)
        assert torch.allclose(network(x, executor=executor), logits, atol=1e-6)
    assert all(0 < float(y.detach().mean()) < 1 for y in seen.values())


def test_lambda_becomes_theta_and_the_cap_of_the_site(net: nn.Module, images: Tensor) -> None:
    trainee = Trainee(net, images[:2], Qcfs(cap=3.0), 4)
    with torch.no_grad():
        for number, neuron in enumerate(trainee.neurons.values()):
            neuron.scale.value.fill_(1.5 + number)  # type: ignore[union-attr, operator]
    network = trainee.eval().spiking()
    assert [float(theta) for theta in network.thresholds.values.values()] == [1.5, 2.5, 3.5]
    sites = [site for site in map(site_of, network.graph.module.graph.nodes) if site is not None]
    assert [site.cap for site in sites] == [1.5, 2.5, 3.5]


def test_noise_is_off_outside_training() -> None:
    neuron, x = QcfsNeuron(1.0, 4), torch.full((20_000,), 0.5)
    assert torch.equal(neuron.train()(x), x)
    neuron.get_buffer("sigma").fill_(0.25)
    torch.manual_seed(0)
    noisy = neuron.train()(x).detach()
    assert float(noisy.std()) == pytest.approx(0.25, rel=0.03)
    assert float(noisy.mean()) == pytest.approx(0.5, abs=0.01)
    assert torch.equal(neuron.eval()(x), x)


def test_sigma_is_the_deviation_of_integrate_and_fire_neurons(net: nn.Module, images: Tensor) -> None:
    """Against both networks written out: activations of the quantised one, and neurons stepped by hand."""
    net.pool = nn.AvgPool2d(2)
    trainee = Trainee(net, images[:2], Qcfs(cap=1.0, noise="residual"), 8).eval()
    exact: dict[str, Tensor] = {}
    for name, neuron in trainee.neurons.items():
        neuron.register_forward_hook(lambda module, args, y, name=name: exact.update({name: y.detach()}))
    trainee(images)

    class Spiking(nn.Module):
        """Neurons that fire 0 or 1 while they integrate, from half a threshold."""

        def __init__(self) -> None:
            super().__init__()
            self.v, self.count = 0.5, 0.0

        def forward(self, z: Tensor) -> Tensor:
            v = self.v + z.detach()
            spikes = (v >= 1).float()
            self.v, self.count = v - spikes, self.count + spikes
            return spikes

    for name in trainee.neurons:
        trainee.body.set_submodule(name, Spiking())
    for _ in range(4):
        trainee.body(images)
    rates = {name: trainee.body.get_submodule(name).count / 4 for name in trainee.neurons}  # type: ignore[operator]
    fresh = Trainee(net, images[:2], Qcfs(cap=1.0, noise="residual"), 8).eval()
    found = fresh.rule.after_epoch(Epoch(1.0, 0.0, 0.0), fresh.spiking(), images)["sigma"]
    for name, neuron in fresh.neurons.items():
        gap = (exact[name] - rates[name]).numpy()
        expected = float(np.sqrt(((gap - gap.mean(0)) ** 2).mean()))
        assert found[name] == pytest.approx(expected, rel=0.02)  # ties of float32 may fall to either side
        assert float(neuron.get_buffer("sigma")) == pytest.approx(found[name])
        assert found[name] > 0.01


def test_without_noise_nothing_is_measured(net: nn.Module, images: Tensor) -> None:
    trainee = Trainee(net, images[:2], Qcfs(), 4)
    assert trainee.rule.after_epoch(Epoch(1.0, 0.0, 0.0), trainee.spiking(), images) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cap": 0.0}, "expected a finite cap above 0, got 0.0"),
        ({"cap": math.inf}, "expected a finite cap above 0, got inf"),
        ({"noise": "white"}, "unknown noise 'white'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    Qcfs().check(4)
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(Qcfs(), **settings).check(4)
