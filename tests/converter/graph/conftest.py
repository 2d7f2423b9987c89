"""Models made of one function, and the comparison of every executor with the model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map

from snnconvert.converter.convert import convert
from snnconvert.converter.graph import PreparedGraph, Role, Site, prepare
from snnconvert.converter.neurons import CONVERTIBLE
from snnconvert.converter.thresholds import Thresholds


class Network(nn.Module):
    """A model whose forward pass is a function of itself and its inputs."""

    def __init__(self, function: Callable[..., Any], modules: dict[str, nn.Module]) -> None:
        super().__init__()
        self.function = function
        self.conv, self.conv2, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Linear(4, 5)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)
        self.weight = nn.Parameter(torch.randn(5, 4))
        self.scale = nn.Parameter(torch.randn(1, 4, 1, 1))
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)

    def head(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


def lively(model: nn.Module) -> nn.Module:
    """Give batch norms the statistics and weights of a trained network, and return ``model`` in evaluation mode."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            for tensor, low, high in (
                (module.running_mean, -1, 1),
                (module.running_var, 0.3, 3),
                (module.weight, -1, 2),
                (module.bias, -1, 1),
            ):
                if tensor is not None:
                    nn.init.uniform_(tensor, low, high)
    return model.eval()


@pytest.fixture
def network() -> Callable[..., Network]:
    """Return a function that makes a float64 `Network` of a function and further modules."""

    def make(function: Callable[..., Any], **modules: nn.Module) -> Network:
        torch.manual_seed(0)
        model = Network(function, modules).double()
        lively(model)
        return model

    return make


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def _thresholds(graph: PreparedGraph, theta: float) -> Thresholds:
    values = {s.name: torch.full((s.channels,), min(theta, s.cap or theta)).double() for s in graph.sites}
    return Thresholds(values, None, "given", "channel")


def _close(found: Any, expected: Any, tolerance: float) -> bool:
    return all(
        f.shape == e.shape and float((f - e).abs().max()) <= tolerance
        for f, e in zip(tree_leaves(found), tree_leaves(expected), strict=True)
    )


@pytest.fixture
def converts() -> Callable[..., PreparedGraph]:
    """Return a check: a model is prepared, executors agree on batches of 3 and 1, and many levels give the model."""

    def check(model: nn.Module, *inputs: Tensor) -> PreparedGraph:
        graph = prepare(model, inputs)
        with torch.no_grad():
            expected = model(*(x.clone() for x in inputs))
        assert _close(graph.module(*inputs), expected, 1e-9)
        wide = convert(graph, _thresholds(graph, 64.0), neuron="two-phase", steps=2**16)
        assert _close(wide(*inputs), expected, 0.02)
        other = any(entry.function or entry.spikes == "ternary" for entry in graph.audit.of(Role.SITE))
        assert set(CONVERTIBLE) - set(graph.audit.executors) == ({"if"} if other else set())
        for neuron in graph.audit.executors:
            model = convert(graph, _thresholds(graph, 0.7), neuron=neuron, steps=4)
            reference = model(*inputs, executor="steps")
            assert _close(model(*inputs, executor="layers"), reference, 1e-9)
            if neuron == "two-phase":
                assert _close(model(*inputs, executor="counts"), reference, 1e-9)
            one = tuple(x[:1] for x in inputs)
            first = tree_map(lambda x: x[:1], reference)
            assert all(_close(model(*one, executor=e), first, 1e-9) for e in ("layers", "steps"))
        return graph

    return check


class _Largest(fx.Interpreter):
    """Runs a prepared graph, and keeps the largest magnitude of each site's channels."""

    def __init__(self, graph: PreparedGraph) -> None:
        super().__init__(graph.module)
        self.found: dict[str, Tensor] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result, site = super().call_module(target, args, kwargs), self.fetch_attr(target)
        assert isinstance(site, Site)
        self.found[site.name] = result.abs().movedim(site.axis, 0).flatten(1).amax(1).clamp(min=1e-3)
        return result


def _spikes_give_the_answer(model: nn.Module, *inputs: Tensor) -> PreparedGraph:
    graph = prepare(model, inputs)
    assert graph.proof.relative < 1e-9
    watch = _Largest(graph)
    with torch.no_grad():
        watch.run(*inputs)
        expected = tree_leaves(model(*inputs))
    snn = convert(graph, Thresholds(watch.found, None, "max", "channel"), neuron="two-phase", steps=4096)
    found = tree_leaves(snn(*inputs, executor="counts"))
    for f, e in zip(found, expected, strict=True):
        assert f.shape == e.shape
        assert float((f - e).abs().max()) <= 0.01 * float(e.max() - e.min())
    assert any(not torch.equal(f, e) for f, e in zip(found, expected, strict=True))  # it fired, and rounded
    return graph


@pytest.fixture
def spikes() -> Callable[..., PreparedGraph]:
    """Return a check: a model is prepared, and with the largest activations as thresholds many spikes answer as it."""
    return _spikes_give_the_answer
