"""From a prepared network and thresholds to a spiking network, and what is refused."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import CalibrationRefused, UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import CONVERTIBLE
from snnconvert.converter.thresholds import Thresholds


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(50, 3, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def graph(model: nn.Module, x: Tensor) -> PreparedGraph:
    return prepare(model, x[:2])


def given(dtype: torch.dtype = torch.float32, steps: int | None = None) -> Thresholds:
    return Thresholds({"1": torch.linspace(0.5, 2.25, 8, dtype=dtype)}, steps, "given", "channel")


def by_hand(model: nn.Module, x: Tensor, steps: int, start: float, shift: float) -> Tensor:
    """Return the answer of soft-reset neurons, v[t] = v[t-1] + I + shift theta / T - theta s[t], step by step."""
    theta, z = given().values["1"].double(), nn.functional.linear(x, model[0].weight, model[0].bias).double()  # type: ignore[index]
    v, total = start * theta.expand_as(z), torch.zeros_like(z)
    for _ in range(steps):
        v = v + z + shift * theta / steps
        spikes = (v >= theta).double()
        v, total = v - theta * spikes, total + theta * spikes
    return nn.functional.linear((total / steps).float(), model[2].weight, model[2].bias)  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "start", "shift"),
    [
        ({}, 0.5, 0.0),
        ({"initial_potential": 0.0}, 0.0, 0.0),
        ({"initial_potential": 0.25}, 0.25, 0.0),
        ({"shift": True}, 0.0, 0.5),
        ({"shift": True, "initial_potential": 0.125}, 0.125, 0.5),
    ],
)
def test_integrate_and_fire_options_are_those_of_the_equation(
    model: nn.Module, graph: PreparedGraph, x: Tensor, options: dict[str, Any], start: float, shift: float
) -> None:
    snn = convert(graph, given(), neuron="if", steps=8, **options)
    assert torch.allclose(snn(x), by_hand(model, x, 8, start, shift), atol=1e-5)


def test_the_two_phase_neuron_counts_what_the_equation_says(model: nn.Module, graph: PreparedGraph, x: Tensor) -> None:
    theta = given().values["1"]
    level = torch.clamp(torch.floor(model[0](x) * 8 / theta + 0.5), 0, 8) * theta / 8  # type: ignore[index]
    snn = convert(graph, given(), neuron="two-phase", steps=8)
    assert torch.allclose(snn(x), model[2](level), atol=1e-5)  # type: ignore[index]


def test_defaults_are_tpp_at_eight_steps(graph: PreparedGraph, x: Tensor) -> None:
    snn = convert(graph, given())
    assert (snn.neuron, snn.steps, snn.shuffle, snn.seed, snn.stochastic) == ("tpp", 8, "none", 0, True)
    assert torch.equal(snn(x), convert(graph, given(), neuron="tpp", steps=8, seed=0)(x))


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_the_type_of_thresholds_given_does_not_matter(graph: PreparedGraph, x: Tensor, neuron: str) -> None:
    expected, snn = (convert(graph, given(dtype), neuron=neuron) for dtype in (torch.float32, torch.float64))
    for executor in snn.executors:
        assert torch.equal(snn(x, executor=executor), expected(x, executor=executor))
    whole = Thresholds({"1": torch.tensor([1])}, None, "given", "layer")
    assert convert(graph, whole, neuron=neuron)(x).dtype == torch.float32


def test_a_network_in_double_stays_so(model: nn.Module, x: Tensor) -> None:
    graph = prepare(model.double(), x.double())
    for neuron in CONVERTIBLE:
        snn = convert(graph, given(), neuron=neuron)
        assert all(snn(x.double(), executor=executor).dtype == torch.float64 for executor in snn.executors)


def test_network_and_thresholds_are_left_as_they_were(graph: PreparedGraph, x: Tensor) -> None:
    thresholds, before = given(), graph.module(x)
    values = copy.deepcopy(thresholds.values)
    for neuron in CONVERTIBLE:
        snn = convert(graph, thresholds, neuron=neuron)
        snn(x)
        snn.neurons["site_0"].threshold.fill_(9.0)
    assert torch.equal(thresholds.values["1"], values["1"])
    assert torch.equal(graph.module(x), before)


def test_one_graph_makes_many_networks(graph: PreparedGraph, x: Tensor) -> None:
    few, many = (convert(graph, given(), neuron="two-phase", steps=steps) for steps in (2, 64))
    alone = few(x)
    many(x)
    assert torch.equal(few(x), alone)
    assert (few.steps, many.steps) == (2, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2.5}, "T must be a whole number from 1 to 65536, got 2.5"),
        ({"steps": "8"}, "T must be a whole number from 1 to 65536, got '8'"),
        ({"steps": True}, "T must be a whole number from 1 to 65536, got True"),
        ({"steps": -1}, "T must be a whole number from 1 to 65536, got -1"),
        ({"seed": 2**63}, "seed must be a whole number of 64 bits, got 9223372036854775808"),
        ({"seed": 1.5}, "seed must be a whole number of 64 bits, got 1.5"),
        ({"neuron": "lif"}, "unknown neuron 'lif'"),
        (
            {"neuron": "two-phase", "initial_potential": 0.5},
            "belong to integrate-and-fire.* 'two-phase'",
        ),
        ({"neuron": "if", "initial_potential": float("nan")}, "must be a finite number, got nan"),
        ({"neuron": "if", "initial_potential": float("inf")}, "must be a finite number, got inf"),
    ],
)
def test_wrong_words_are_named(graph: PreparedGraph, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        convert(graph, given(), **options)


def test_thresholds_for_another_window_are_refused(graph: PreparedGraph) -> None:
    with pytest.raises(CalibrationRefused, match="computed for T=8, got T=16"):
        convert(graph, given(steps=8), steps=16)
