"""The one-pass executor against the equation of its neurons, site by site."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.convert import convert
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import Noise
from snnconvert.converter.simulation import SpikingModel, channels_last
from snnconvert.converter.simulation.counts import Pass
from snnconvert.converter.thresholds import Thresholds


@pytest.mark.parametrize("steps", [1, 3, 8, 32])
def test_two_phase_is_rounding_to_levels(wire: Callable[..., SpikingModel], currents: Tensor, steps: int) -> None:
    found = wire(9, neuron="two-phase", steps=steps)(currents, executor="counts")
    assert torch.allclose(found, (currents * steps + 0.5).floor().clamp(0, steps) / steps)


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_tpp_rounds_up_or_down(wire: Callable[..., SpikingModel], currents: Tensor, steps: int) -> None:
    found = wire(9, neuron="tpp", steps=steps)(currents.expand(200, 9), executor="counts") * steps
    total = (currents * steps).clamp(0, steps)
    assert (found >= total.floor()).all()
    assert (found <= total.ceil()).all()
    between = (total != total.floor()).expand_as(found)
    assert found[between].unique().numel() > 1


@pytest.mark.parametrize("neuron", ["two-phase", "tpp"])
def test_every_site_says_a_whole_number_of_levels(network: nn.Module, images: Tensor, neuron: str) -> None:
    graph = prepare(network, images)
    thresholds = Thresholds({s.name: torch.full((1,), 0.75) for s in graph.sites}, None, "given", "layer")
    model = convert(graph, thresholds, neuron=neuron, steps=5)
    counts: dict[str, Tensor] = {}
    (given,) = channels_last((images,))  # another order would round otherwise at ties
    found = model.network.counting(given, now=Pass(Noise(0, torch.arange(len(images))), counts))
    assert torch.equal(found, model(images, executor="counts"))
    assert len(counts) == len(graph.sites)
    for count in counts.values():
        assert torch.equal(count, count.round())
        assert 0 <= count.min() < count.max() <= 5


def test_the_structure_of_the_output_is_kept(constant: Callable[[PreparedGraph], Thresholds]) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> dict[str, Any]:
            h = self.layer(x).relu()
            return {"a": h * 2, "b": (h.sum(1), [x])}

    graph = prepare(Named().eval(), torch.randn(2, 3))
    x = torch.randn(5, 3)
    for executor in ("counts", "layers", "steps"):
        found = convert(graph, constant(graph), neuron="two-phase", steps=4)(x, executor=executor)
        assert list(found) == ["a", "b"]
        assert torch.allclose(found["a"].sum(1), 2 * found["b"][0], atol=1e-6)
        assert torch.allclose(found["b"][1][0], x)


def test_what_is_put_in_the_place_of_a_tensor_counts(network: nn.Module, images: Tensor) -> None:
    graph = prepare(network, images)
    thresholds = Thresholds({s.name: torch.full((1,), 0.75) for s in graph.sites}, None, "given", "layer")
    model = convert(graph, thresholds, neuron="two-phase", steps=5)
    before = model(images)
    model.load_state_dict({name: value * 0.5 for name, value in model.state_dict().items()}, assign=True)
    assert not torch.equal(model(images), before)
    assert torch.allclose(model(images), model(images, executor="steps"))


def test_a_copy_has_tensors_of_its_own(network: nn.Module, images: Tensor) -> None:
    graph = prepare(network, images)
    thresholds = Thresholds({s.name: torch.full((1,), 0.75) for s in graph.sites}, None, "given", "layer")
    model = convert(graph, thresholds, neuron="two-phase", steps=5)
    before = model(images)
    copied = copy.deepcopy(model)
    for tensor in model.state_dict().values():
        tensor.zero_()
    assert torch.equal(copied(images), before)
    assert not torch.equal(model(images), before)
