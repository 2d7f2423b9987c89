"""Corrected networks: the executors against each other, and a bias against the layer's own."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snnconvert.converter.convert import convert
from snnconvert.converter.graph import PreparedGraph, Site, prepare
from snnconvert.converter.neurons import CONVERTIBLE, SHUFFLES, Correction
from snnconvert.converter.simulation import SpikingModel, spiking_model
from snnconvert.converter.thresholds import Thresholds

STEPS = 8
KINDS = ("bias", "bias by step", "potential", "potential by neuron", "height", "everything")


def dyadic(*shape: int, seed: int) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).integers(-6, 9, shape) / 16)


def correction(site: Site, kind: str, seed: int) -> Correction:
    bias, by_step = dyadic(site.channels, seed=seed) / 2, dyadic(STEPS, site.channels, seed=seed)
    start, by_neuron = dyadic(site.channels, seed=seed), dyadic(*site.shape, seed=seed)
    height = dyadic(site.channels, seed=seed).abs() + 0.25
    found: dict[str, Correction] = {
        "bias": Correction(bias=bias),
        "bias by step": Correction(bias=by_step),
        "potential": Correction(potential=start),
        "potential by neuron": Correction(potential=by_neuron),
        "height": Correction(height=height),
        "everything": Correction(by_step, by_neuron, height),
    }
    return found[kind]


def thresholds(graph: PreparedGraph) -> Thresholds:
    return Thresholds({s.name: torch.full((s.channels,), 0.5).double() for s in graph.sites}, None, "given", "channel")


def corrected(graph: PreparedGraph, kind: str, **options: Any) -> SpikingModel:
    found = {site.name: correction(site, kind, number) for number, site in enumerate(graph.sites)}
    return convert(graph, replace(thresholds(graph), corrections=found), steps=STEPS, **options)


@pytest.fixture
def graph(network: nn.Module, images: Tensor) -> PreparedGraph:
    return prepare(network, images)


@pytest.fixture(scope="module")
def signed() -> tuple[PreparedGraph, Tensor]:
    """Return a network with a site of both signs, and images."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double().eval()
    x = torch.randn(7, 6).double()
    return prepare(model, x), x


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_layers_and_steps_agree_bit_for_bit(
    graph: PreparedGraph, images: Tensor, neuron: str, kind: str, shuffle: str
) -> None:
    model = corrected(graph, kind, neuron=neuron, shuffle=shuffle)
    reference = model(images, executor="steps")
    assert torch.equal(model(images, executor="layers"), reference)
    plain = convert(graph, thresholds(graph), neuron=neuron, steps=STEPS, shuffle=shuffle)
    assert not torch.equal(plain(images, executor="steps"), reference)


@pytest.mark.parametrize("kind", KINDS)
def test_two_phase_counts_are_exact(graph: PreparedGraph, images: Tensor, kind: str) -> None:
    model = corrected(graph, kind, neuron="two-phase")
    assert torch.equal(model(images, executor="counts"), model(images, executor="steps"))
    counts, steps = (model.activity(images, executor=executor) for executor in ("counts", "steps"))
    assert all(torch.equal(counts[name], steps[name]) for name in steps)


@pytest.mark.parametrize("kind", ["bias by step", "everything"])
def test_tpp_counts_agree_in_distribution(graph: PreparedGraph, images: Tensor, kind: str) -> None:
    model = corrected(graph, kind, neuron="tpp")
    many = images[:1].expand(3000, *images.shape[1:])
    fast, slow = model(many, executor="counts"), model(many, executor="layers")
    error = (fast.var(0) + slow.var(0)).div(3000).sqrt()
    assert ((fast.mean(0) - slow.mean(0)).abs() < 4 * error).all()


@pytest.mark.parametrize("neuron", ["two-phase", "tpp"])
@pytest.mark.parametrize("kind", KINDS)
def test_sites_of_both_signs_agree(signed: tuple[PreparedGraph, Tensor], neuron: str, kind: str) -> None:
    graph, x = signed
    model = corrected(graph, kind, neuron=neuron)
    reference = model(x, executor="steps")
    assert torch.allclose(model(x, executor="layers"), reference, rtol=0, atol=1e-12)
    if neuron == "two-phase":
        assert torch.allclose(model(x, executor="counts"), reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["bias by step", "everything"])
def test_chunks_of_steps_find_the_bias_of_their_steps(
    graph: PreparedGraph, images: Tensor, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = corrected(graph, kind, neuron="if")
    whole, curve = model(images), model.by_t(images)
    monkeypatch.setattr(spiking_model, "FEW", 0)
    monkeypatch.setattr(spiking_model, "MEMORY", 1)
    assert torch.equal(model(images), whole)
    assert torch.equal(model.by_t(images), curve)
    assert torch.equal(curve[-1], whole)


class Two(nn.Module):
    """Two layers whose biases can be moved."""

    def __init__(self, moved: Tensor | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.hidden, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3 * 16, 4), nn.Linear(4, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_((parameter * 32).round() / 16)
            if moved is not None:
                self.conv.bias += moved[:3]  # type: ignore[operator]
                self.hidden.bias += moved[3:]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.conv(x).relu().flatten(1)).relu())


@pytest.mark.parametrize("neuron", CONVERTIBLE)
@settings(max_examples=15)
@given(st.lists(st.integers(-16, 16), min_size=7, max_size=7))
def test_a_bias_of_a_site_is_that_of_its_layer(neuron: str, sixteenths: list[int]) -> None:
    moved = torch.tensor(sixteenths).double() / 16
    x = dyadic(4, 1, 6, 6, seed=2) * 4
    graph, other = (prepare(model.double().eval(), x[:2]) for model in (Two(), Two(moved)))
    names = [site.name for site in graph.sites]
    found = {names[0]: Correction(bias=moved[:3]), names[1]: Correction(bias=moved[3:].expand(STEPS, 4))}
    model = convert(graph, replace(thresholds(graph), corrections=found), neuron=neuron, steps=STEPS)
    expected = convert(other, thresholds(other), neuron=neuron, steps=STEPS)
    for executor in model.executors:
        assert torch.equal(model(x, executor=executor), expected(x, executor=executor))


def test_a_height_is_a_factor_of_the_next_layer() -> None:
    x = dyadic(4, 1, 6, 6, seed=2) * 4
    base, scaled = Two().double().eval(), Two().double().eval()
    factors = torch.tensor([0.5, 1.0, 4.0]).double()
    with torch.no_grad():
        scaled.hidden.weight *= factors.repeat_interleave(16)
    graph, other = prepare(base, x[:2]), prepare(scaled, x[:2])
    found = {graph.sites[0].name: Correction(height=0.5 * factors)}
    for neuron in CONVERTIBLE:
        model = convert(graph, replace(thresholds(graph), corrections=found), neuron=neuron, steps=STEPS)
        expected = convert(other, thresholds(other), neuron=neuron, steps=STEPS)
        for executor in model.executors:
            assert torch.equal(model(x, executor=executor), expected(x, executor=executor))


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_changed_weights_are_those_of_the_spiking_network_alone(neuron: str) -> None:
    x = dyadic(4, 1, 6, 6, seed=2) * 4
    moved = dyadic(7, seed=5) * 4
    graph, other = (prepare(model.double().eval(), x[:2]) for model in (Two(), Two(moved)))
    before, original = graph.module(x), {name: b.clone() for name, b in graph.module.named_buffers()}
    changed = {name: b.clone() for name, b in other.module.named_buffers() if not torch.equal(b, original[name])}
    assert sorted(changed) == ["conv_bias_value", "hidden_bias_value"]
    model = convert(graph, replace(thresholds(graph), weights=changed), neuron=neuron, steps=STEPS)
    expected = convert(other, thresholds(other), neuron=neuron, steps=STEPS)
    for executor in model.executors:
        assert torch.equal(model(x, executor=executor), expected(x, executor=executor))
    assert torch.equal(model.ann(x), before)
    assert torch.equal(graph.module(x), before)
    assert not torch.equal(model.body(x), before)
    assert torch.equal(model.body(x), other.module(x))
    assert all(torch.equal(b, original[name]) for name, b in graph.module.named_buffers())
