"""A function of one's own becomes an activation: one site for each call, by name in artefacts."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import snnconvert
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ArtefactRefused, ModelRefused, UsageError
from snnconvert.converter.graph.operations import BY_NAME, OPERATIONS, Kind, Range
from snnconvert.converter.thresholds import Thresholds

pytestmark = pytest.mark.usefixtures("own_operations")


def wave(x: Tensor, rate: float = 2.0) -> Tensor:
    """Made of several operations, one of them unknown to the table."""
    return x * torch.sigmoid(rate * x) + 0.1 * torch.special.bessel_j0(x)


def test_it_computes_the_function_and_stands_in_the_table() -> None:
    registered = snnconvert.activation("wave")(wave)
    x = torch.randn(5)
    assert torch.equal(registered(x), wave(x))
    assert torch.equal(registered(x, rate=3.0), wave(x, 3.0))
    assert registered.__name__ == "wave"
    line = BY_NAME["wave"]
    assert OPERATIONS[line.function] is line
    assert (line.kind, line.range) == (Kind.ACTIVATION, Range.ANY)
    snnconvert.activation("hill", positive=True)(torch.cosh)
    assert BY_NAME["hill"].range is Range.POSITIVE


@pytest.mark.parametrize("name", ["", "two words", "1st", "a-b", "a.b", "naïve name"])
def test_a_name_is_an_identifier(name: str) -> None:
    with pytest.raises(UsageError, match="an activation's name is letters, digits and underscores, got"):
        snnconvert.activation(name)


@pytest.mark.parametrize("name", ["relu", "gelu", "conv2d", "add"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    before = BY_NAME[name]
    with pytest.raises(UsageError, match=f"there is an operation '{name}' already\nhint: choose another name"):
        snnconvert.activation(name)(wave)
    assert BY_NAME[name] is before


def test_a_function_may_be_registered_again_and_another_may_not() -> None:
    snnconvert.activation("wave")(wave)
    again = snnconvert.activation("wave")(wave)  # a notebook's cell runs twice
    assert BY_NAME["wave"].function is again
    with pytest.raises(UsageError, match="there is an operation 'wave' already"):
        snnconvert.activation("wave")(torch.cosh)


def test_it_is_one_call_and_one_site(network: Any, images: Tensor, spikes: Any) -> None:
    registered = snnconvert.activation("wave")(wave)
    model = network(lambda m, x: m.head(m.conv2(registered(m.conv2(registered(m.conv(x))), rate=0.5))))
    graph = spikes(model, images)
    calls = [n for n in graph.module.graph.nodes if n.target is registered]
    assert [dict(n.kwargs) for n in calls] == [{}, {"rate": 0.5}]
    assert [(s.name, s.spikes) for s in graph.sites] == [("wave", "ternary"), ("wave#2", "ternary")]
    assert graph.audit.spiking
    assert snnconvert.check(model, images).verdict == "spiking network: 2 sites, all ternary"


def test_one_that_is_never_negative_fires_binary_spikes(network: Any, images: Tensor, spikes: Any) -> None:
    registered = snnconvert.activation("hill", positive=True)(lambda x: 1 / torch.cosh(x))
    graph = spikes(network(lambda m, x: m.head(m.conv2(registered(m.conv(x))))), images)
    assert [s.spikes for s in graph.sites] == ["binary"]
    assert "if" not in graph.audit.executors  # streaming neurons take the ReLU family only


NOT_ELEMENTWISE: dict[str, Any] = {
    "a norm": lambda x: x / (x.square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt(),
    "divided by magnitudes": lambda x: x / (1 + x.abs().mean(1, keepdim=True)),
    "divided by the largest": lambda x: x / x.abs().amax((1, 2, 3), keepdim=True),
    "the mean taken off": lambda x: x - x.mean((2, 3), keepdim=True),
    "the next number": lambda x: x * torch.sigmoid(x.roll(1, 3).abs()),
    "the number of positive ones": lambda x: x * (x > 0).double().mean((1, 2, 3), keepdim=True),
}


@pytest.mark.parametrize("function", NOT_ELEMENTWISE.values(), ids=NOT_ELEMENTWISE)
def test_a_function_of_other_numbers_too_is_found(network: Any, images: Tensor, function: Any) -> None:
    registered = snnconvert.activation("wide")(function)
    model = network(lambda m, x: m.head(m.conv2(registered(m.conv(x)))))
    with pytest.raises(ModelRefused, match=r"does not act on each number alone\nhint: leave it unregistered"):
        snnconvert.prepare(model, images)
    assert "does not act on each number alone" in snnconvert.check(model, images).reasons[0]


def test_one_that_is_negative_far_out_only_is_found(network: Any, images: Tensor) -> None:
    registered = snnconvert.activation("hill", positive=True)(lambda x: torch.where(x > 30, -1.0, torch.relu(x)))
    with pytest.raises(ModelRefused, match=r"is negative for some inputs.*\nhint: register it without positive=True"):
        snnconvert.prepare(network(lambda m, x: m.head(m.conv2(registered(m.conv(x))))), images)


@pytest.mark.parametrize("executor", ["counts", "layers", "steps"])
def test_it_fires_the_rounded_value(network: Any, images: Tensor, executor: str) -> None:
    registered = snnconvert.activation("wave")(wave)
    model = network(lambda m, x: m.conv2(registered(m.conv(x))))
    theta, steps = torch.tensor([0.05, 0.1, 1.5, 2.0]).double(), 4
    graph = snnconvert.prepare(model, images)
    snn = convert(graph, Thresholds({"wave": theta}, None, "given", "channel"), neuron="two-phase", steps=steps)
    with torch.no_grad():
        z = F.conv2d(images, model.conv.weight, model.conv.bias, padding=1)
        level = (steps * wave(z) / theta.view(-1, 1, 1) + 0.5).floor().clamp(-steps, steps)
        expected = model.conv2(level * theta.view(-1, 1, 1) / steps)
    assert float(level.min()) < 0 < float(level.max())
    assert torch.equal(snn.activity(images, executor=executor)["wave"], level)
    assert torch.allclose(snn(images, executor=executor), expected, rtol=0, atol=1e-9)


def test_an_artefact_needs_the_same_registration(network: Any, images: Tensor, tmp_path: Path) -> None:
    registered = snnconvert.activation("wave")(wave)
    model = network(lambda m, x: m.head(m.conv2(registered(m.conv(x), rate=3.0))))
    graph = snnconvert.prepare(model, images)
    thresholds = Thresholds({"wave": torch.full((4,), 2.0).double()}, None, "given", "channel")
    snn = convert(graph, thresholds, neuron="two-phase", steps=8)
    snnconvert.save(tmp_path / "wave.snn", snn, {"note": "of one's own"})
    loaded, about = snnconvert.load(tmp_path / "wave.snn")
    assert about == {"note": "of one's own"}
    assert torch.equal(loaded(images), snn(images))
    del OPERATIONS[BY_NAME.pop("wave").function]
    with pytest.raises(
        ArtefactRefused, match=r"unknown operation 'wave' .*\nhint: register it with snnconvert.activation"
    ):
        snnconvert.load(tmp_path / "wave.snn")
    snnconvert.activation("wave")(wave)
    assert torch.equal(snnconvert.load(tmp_path / "wave.snn")[0](images), snn(images))
