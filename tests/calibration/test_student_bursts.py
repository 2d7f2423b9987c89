"""The student of a network with bursts against the spiking network, and its gradients against a longer window's."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.calibration.settings import Settings
from snnconvert.calibration.streaming_student import StreamingStudent
from snnconvert.calibration.student import Student
from snnconvert.converter.convert import convert
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import Correction
from snnconvert.converter.thresholds import Thresholds

STEPS = 3
Below = Callable[[PreparedGraph, Tensor, int], Thresholds]


class Residual(nn.Module):
    """A stem, a block with a shortcut, and a capped head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1 if i == 0 else 3, 3, 3, padding=1) for i in range(3))
        self.wide, self.head = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.layers[0](x))
        h = F.relu(self.layers[2](F.relu(self.layers[1](h))) + h)
        return self.head(F.relu6(self.wide(h.mean((2, 3)))))


class Signed(nn.Module):
    """A site of both signs, and one of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.gelu(self.a(x.flatten(1, 2))))).mean(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"residual": Residual, "signed": Signed}


def prepared(name: str) -> PreparedGraph:
    torch.manual_seed(0)
    return prepare(NETWORKS[name]().double().eval(), torch.randn(2, 1, 6, 6).double())


def corrected(graph: PreparedGraph, thresholds: Thresholds) -> Thresholds:
    """Return ``thresholds`` with every kind of correction."""
    draw, found = torch.Generator().manual_seed(0), {}
    for number, site in enumerate(graph.sites):
        bias, start, height = (torch.randn(site.channels, generator=draw).double() for _ in range(3))
        worth = thresholds.values[site.name] / thresholds.bursts.get(site.name, 1)
        found[site.name] = Correction(0.02 * bias, 0.2 * start, worth * (1 + 0.1 * height) if number % 2 else None)
    return replace(thresholds, corrections=found)


def bursting(graph: PreparedGraph, thresholds: Thresholds) -> Thresholds:
    """Return ``thresholds`` with bursts of 4 and 2 at the first and the second site."""
    return replace(thresholds, bursts={graph.sites[0].name: 4, graph.sites[1].name: 2})


def student(graph: PreparedGraph, thresholds: Thresholds, neuron: str, **settings: Any) -> Student:
    kind = StreamingStudent if neuron == "if" else Student
    return kind(graph, thresholds, neuron, Settings(**{"mixed": False, "iterations": 10, **settings}), {})


CASES = [("residual", "if"), ("residual", "two-phase"), ("signed", "two-phase")]


@pytest.mark.parametrize("given", ["plain", "corrected"])
@pytest.mark.parametrize(("name", "neuron"), CASES)
def test_it_says_what_the_spiking_network_says(
    name: str, neuron: str, given: str, many: Tensor, below_maximum: Below
) -> None:
    graph, x = prepared(name), many[:20].double()
    plain = below_maximum(graph, x, STEPS)
    thresholds = bursting(graph, plain)
    thresholds = corrected(graph, thresholds) if given == "corrected" else thresholds
    model, found = convert(graph, thresholds, neuron=neuron, steps=STEPS), student(graph, thresholds, neuron)
    assert torch.allclose(found.run(x), model(x), atol=1e-9)
    assert not torch.allclose(model(x), convert(graph, plain, neuron=neuron, steps=STEPS)(x), atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_of_tpp_it_draws_counts(name: str, many: Tensor, below_maximum: Below) -> None:
    graph, x = prepared(name), many[:1].double().expand(3000, 1, 6, 6)
    thresholds = corrected(graph, bursting(graph, below_maximum(graph, many[:20].double(), STEPS)))
    found = student(graph, thresholds, "tpp").run(x).detach()
    expected = convert(graph, thresholds, neuron="tpp", steps=STEPS)(x)
    error = (found.var(0) + expected.var(0)).div(3000).sqrt()
    assert ((found.mean(0) - expected.mean(0)).abs() < 4 * error).all()
    assert (found.std(0) / expected.std(0) - 1).abs().max() < 0.2


@pytest.mark.parametrize("name", NETWORKS)
def test_its_gradients_are_those_of_the_longer_window(name: str, many: Tensor, below_maximum: Below) -> None:
    graph, x, m = prepared(name), many[:20].double(), 4
    plain = below_maximum(graph, x, STEPS * m)
    burst = replace(plain, steps=STEPS, bursts={site.name: m for site in graph.sites})
    one, other = (student(graph, given, "two-phase") for given in (burst, plain))
    for each in (one, other):
        each.loss((x,)).backward()
    for first, second in zip(one.groups(), other.groups(), strict=True):
        for a, b in zip(first["params"], second["params"], strict=True):
            assert torch.allclose(a.grad, b.grad, rtol=1e-6, atol=1e-12)
            assert a.grad.abs().max() > 0


@pytest.mark.parametrize("neuron", ["two-phase", "if"])
def test_what_is_learned_keeps_the_bursts(neuron: str, many: Tensor, below_maximum: Below) -> None:
    graph, x = prepared("residual"), many[:20].double()
    given = corrected(graph, bursting(graph, below_maximum(graph, x, STEPS)))
    found = student(graph, given, neuron)
    with torch.no_grad():
        for log in found.log_threshold.values():
            log += 0.1
    after = found.thresholds()
    assert after.bursts == given.bursts
    after.check(graph, STEPS, neuron)
    for site in graph.sites:
        height, before = (t.corrections[site.name].height for t in (after, given))
        ratio = after.values[site.name] / given.values[site.name]  # below e^0.1 at a cap
        assert height is None or torch.allclose(height, before * ratio)
    assert torch.allclose(found.run(x), convert(graph, after, neuron=neuron, steps=STEPS)(x), atol=1e-9)
