"""Networks some of whose sites fire bursts: the executors against each other, and against longer windows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import CONVERTIBLE, SHUFFLES, Noise
from snnconvert.converter.simulation import SpikingModel, spiking_model
from snnconvert.converter.simulation.steps import Steps
from snnconvert.converter.thresholds import Thresholds

STEPS = 4


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


def thresholds(graph: PreparedGraph, *bursts: int) -> Thresholds:
    """Return thresholds of 1/2 with ``bursts`` at the first sites."""
    names = [site.name for site in graph.sites]
    values = {site.name: torch.full((site.channels,), 0.5).double() for site in graph.sites}
    given = {name: burst for name, burst in zip(names, bursts, strict=False) if burst > 1}
    return Thresholds(values, None, "given", "channel", bursts=given)


def mixed(graph: PreparedGraph, neuron: str, *bursts: int, steps: int = STEPS, **options: Any) -> SpikingModel:
    return convert(graph, thresholds(graph, *bursts), neuron=neuron, steps=steps, **options)


@pytest.mark.parametrize("bursts", [(2,), (4, 1, 2), (1, 8, 1, 2)])
@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_layers_and_steps_agree_bit_for_bit(
    graph: PreparedGraph, images: Tensor, neuron: str, bursts: tuple[int, ...]
) -> None:
    model = mixed(graph, neuron, *bursts)
    reference = model(images, executor="steps")
    assert torch.equal(model(images, executor="layers"), reference)
    assert not torch.equal(mixed(graph, neuron)(images, executor="steps"), reference)
    found, expected = (model.activity(images, executor=executor) for executor in ("layers", "steps"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("bursts", [(2,), (4, 1, 2), (1, 8, 1, 2)])
def test_two_phase_counts_are_exact(graph: PreparedGraph, images: Tensor, bursts: tuple[int, ...]) -> None:
    model = mixed(graph, "two-phase", *bursts)
    assert torch.equal(model(images, executor="counts"), model(images, executor="steps"))
    counts, steps = (model.activity(images, executor=executor) for executor in ("counts", "steps"))
    for number, site in enumerate(graph.sites):
        burst = bursts[number] if number < len(bursts) else 1
        assert torch.equal(counts[site.name], steps[site.name])
        assert counts[site.name].max() <= STEPS * burst
        assert burst == 1 or counts[site.name].max() > STEPS  # more than one spike a step


@pytest.mark.parametrize("executor", ["counts", "layers", "steps"])
@pytest.mark.parametrize(("steps", "m"), [(1, 8), (2, 4), (4, 2), (4, 4)])
def test_bursts_everywhere_are_a_longer_window(
    graph: PreparedGraph, images: Tensor, steps: int, m: int, executor: str
) -> None:
    model = mixed(graph, "two-phase", *[m] * len(graph.sites), steps=steps)
    longer = mixed(graph, "two-phase", steps=steps * m)
    assert torch.equal(model(images, executor=executor), longer(images, executor="steps"))
    assert model.levels == longer.levels == steps * m + 1
    assert model.end_to_end_steps * m == longer.end_to_end_steps


@pytest.mark.parametrize("neuron", ["two-phase", "tpp"])
def test_sites_of_both_signs_agree(signed: tuple[PreparedGraph, Tensor], neuron: str) -> None:
    graph, x = signed
    model = mixed(graph, neuron, 4, 2)
    reference = model(x, executor="steps")
    assert torch.allclose(model(x, executor="layers"), reference, rtol=0, atol=1e-12)
    if neuron == "two-phase":
        assert torch.allclose(model(x, executor="counts"), reference, rtol=0, atol=1e-12)
        assert torch.allclose(
            mixed(graph, neuron, 4, 4)(x), mixed(graph, neuron, steps=4 * STEPS)(x), rtol=0, atol=1e-12
        )
    assert (model.levels, model.spike_type) == (2 * 4 * STEPS + 1, "binary and ternary, bursts of up to 4 a step")


def test_tpp_counts_agree_in_distribution(graph: PreparedGraph, images: Tensor) -> None:
    model = mixed(graph, "tpp", 4, 1, 2)
    many = images[:1].expand(3000, *images.shape[1:])
    fast, slow = model(many, executor="counts"), model(many, executor="layers")
    error = (fast.var(0) + slow.var(0)).div(3000).sqrt()
    assert ((fast.mean(0) - slow.mean(0)).abs() < 4 * error).all()


def test_chunks_of_steps_join_without_a_seam(
    graph: PreparedGraph, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mixed(graph, "if", 4, 1, 2)
    whole, curve = model(images), model.by_t(images)
    monkeypatch.setattr(spiking_model, "FEW", 0)
    monkeypatch.setattr(spiking_model, "MEMORY", 1)
    assert torch.equal(model(images), whole)
    assert torch.equal(model.by_t(images), curve)
    assert torch.equal(curve[-1], whole)


@settings(max_examples=30)
@given(st.lists(st.integers(-24, 40), min_size=9, max_size=9), st.integers(1, 5), st.sampled_from([1, 2, 4]))
def test_trains_of_if_are_those_of_a_loop(sixteenths: list[int], steps: int, m: int) -> None:
    layers = [nn.Linear(9, 9, bias=False) for _ in range(2)]
    for layer in layers:
        nn.init.eye_(layer.weight)
    graph = prepare(nn.Sequential(layers[0], nn.ReLU(), layers[1]).double().eval(), torch.zeros(2, 9).double())
    name, x = graph.sites[0].name, torch.tensor([sixteenths]).double() / 16
    given = Thresholds({name: torch.ones(1).double()}, None, "given", "layer", bursts={name: m})
    model = convert(graph, given, neuron="if", steps=steps)
    train = Steps(model.network, Noise(0, torch.arange(1))).run((x,))
    for column, current in enumerate(x[0].tolist()):
        v, expected = 1 / (2 * m), []
        for _ in range(steps):
            v += current
            fired = int(np.clip(np.floor(v * m), 0, m))
            v -= fired / m
            expected.append(fired / m)
        assert train[:, 0, column].tolist() == expected


def test_what_is_said_of_them(graph: PreparedGraph) -> None:
    names = [site.name for site in graph.sites]
    model = mixed(graph, "two-phase", 1, 8, 2)
    described = model.describe()
    assert {site["name"]: site["burst"] for site in described["sites"]} == dict.fromkeys(names, 1) | {
        names[1]: 8,
        names[2]: 2,
    }
    assert model.spike_type == described["spike_type"] == "binary, bursts of up to 8 a step"
    assert model.levels == described["levels"] == 8 * STEPS + 1
    plain = mixed(graph, "two-phase")
    assert (model.end_to_end_steps, model.interval) == (plain.end_to_end_steps, plain.interval)
    assert (plain.spike_type, plain.levels) == ("binary", STEPS + 1)
    assert {site["burst"] for site in plain.describe()["sites"]} == {1}


@pytest.mark.parametrize("shuffle", [name for name in SHUFFLES if name != "none"])
def test_shuffling_is_refused(graph: PreparedGraph, shuffle: str) -> None:
    message = "shuffling re-orders single spikes, and some sites fire bursts\nhint: leave out mixed steps"
    with pytest.raises(UsageError, match=message):
        mixed(graph, "if", 2, shuffle=shuffle)
    mixed(graph, "if", shuffle=shuffle)


def test_other_sites_keep_their_thresholds(graph: PreparedGraph, constant: Callable[..., Thresholds]) -> None:
    given = replace(constant(graph, 0.75), bursts={graph.sites[1].name: 4})
    model = convert(graph, given, neuron="two-phase", steps=STEPS)
    worth = [float(neuron.height.max()) for neuron in model.network.neurons.values()]
    assert worth[1] == 0.75 / 4
    assert set(worth[:1] + worth[2:]) == {0.75}
