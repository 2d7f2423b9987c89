"""Analog operations between streaming neurons: changes that add up, and networks that streaming cannot take."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import Noise
from snnconvert.converter.simulation import SpikingModel, spiking_model
from snnconvert.converter.simulation.steps import Steps
from snnconvert.converter.thresholds import Thresholds


class Gated(nn.Module):
    """Squeeze-excite with a sigmoid between ReLUs, a pool of the product, and a softmax next to the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.down, self.up, self.head = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 1), nn.Linear(6, 3)

    def gate(self, h: Tensor) -> Tensor:
        return self.up(self.down(h.mean((2, 3), keepdim=True)).relu()).sigmoid()

    def forward(self, x: Tensor) -> Any:
        h = self.a(x).relu()
        y = h * self.gate(h)
        logits = self.head(F.relu(F.max_pool2d(self.b(y), 2)).mean((2, 3)))
        return logits, y, logits.softmax(1)


def thresholds(graph: PreparedGraph, theta: float = 0.3) -> Thresholds:
    values = {s.name: torch.linspace(theta, 2 * theta, s.channels).double() for s in graph.sites}
    return Thresholds(values, None, "given", "channel")


@pytest.fixture
def model() -> Gated:
    torch.manual_seed(3)
    found = Gated().double().eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.mul_(2)
    return found


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def graph(model: Gated, images: Tensor) -> PreparedGraph:
    return prepare(model, images[:2])


def streaming(graph: PreparedGraph, **options: Any) -> SpikingModel:
    return convert(graph, thresholds(graph), **({"neuron": "if", "steps": 9} | options))


def test_all_sites_are_binary_and_streaming_takes_them(graph: PreparedGraph, images: Tensor) -> None:
    snn = streaming(graph)
    assert (snn.spike_type, snn.streaming, snn.end_to_end_steps) == ("binary", True, 9)
    assert not graph.audit.spiking
    activity = snn.activity(images)
    assert len(activity) == 4
    assert all(0 == counts.min() < counts.max() <= 9 for counts in activity.values())


@pytest.mark.parametrize("shuffle", ["none", "shared", "per-neuron"])
def test_layers_and_steps_agree(graph: PreparedGraph, images: Tensor, shuffle: str) -> None:
    snn = streaming(graph, shuffle=shuffle)
    activities = [snn.activity(images, executor=executor) for executor in ("layers", "steps")]
    assert all(torch.equal(activities[0][name], activities[1][name]) for name in activities[0])
    for found, expected in zip(snn(images, executor="layers"), snn(images, executor="steps"), strict=True):
        assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize("memory", [1, 20_000])
def test_chunks_of_steps_change_nothing(
    graph: PreparedGraph, images: Tensor, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    snn = streaming(graph)
    expected = snn(images, executor="steps")
    monkeypatch.setattr(spiking_model, "FEW", 0)
    monkeypatch.setattr(spiking_model, "MEMORY", memory)
    for found, e in zip(snn(images, executor="layers"), expected, strict=True):
        assert (found - e).abs().max() < 1e-12


def test_the_sum_of_changes_is_the_function_of_the_means(graph: PreparedGraph, model: Gated, images: Tensor) -> None:
    snn = streaming(graph)
    theta = thresholds(graph).values
    activity = snn.activity(images)

    def mean(name: str) -> Tensor:
        return activity[name] * theta[name][:, None, None] / 9

    first, squeezed, encoded, last = (mean(site.name) for site in graph.sites)
    logits, product, softmax = snn(images)
    with torch.no_grad():
        assert torch.allclose(product, first * model.up(squeezed).sigmoid(), atol=1e-12)
        assert torch.allclose(logits, model.head(last.mean((2, 3))), atol=1e-12)
    assert torch.allclose(softmax, logits.softmax(1), atol=1e-12)
    assert (encoded - product).abs().median() < float(theta[graph.sites[2].name].max()) / 9


def test_at_every_step_the_output_is_the_function_of_the_means_so_far(
    graph: PreparedGraph, images: Tensor, model: Gated
) -> None:
    snn = streaming(graph)
    logits, product, softmax = snn.by_t(images)
    assert torch.allclose(softmax, logits.softmax(2), atol=1e-12)
    stepped = Steps(snn.network, Noise(0, torch.arange(4))).run((images,))
    until = torch.arange(1, 10).double()
    for found, train in zip((logits, product, softmax), stepped, strict=True):
        means = train.cumsum(0) / until.reshape(-1, *[1] * (train.ndim - 1))
        assert torch.allclose(found, means, atol=1e-12)


def test_many_steps_approach_the_model(graph: PreparedGraph, images: Tensor, model: Gated) -> None:
    wide = convert(graph, thresholds(graph, 8.0), neuron="if", steps=4096)
    with torch.no_grad():
        expected = model(images)
    for found, e in zip(wide(images), expected, strict=True):
        assert (found - e).abs().max() < 0.05


SIGNED = {
    "a gelu": nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)),
    "a layer norm": nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.LayerNorm(4), nn.Conv2d(4, 2, 1)),
    "five of them": nn.Sequential(*[m for _ in range(5) for m in (nn.Conv2d(1, 1, 1), nn.Tanh())], nn.Conv2d(1, 2, 1)),
}


@pytest.mark.parametrize("name", SIGNED)
def test_sites_of_both_signs_are_refused_by_name(name: str) -> None:
    graph = prepare(SIGNED[name].eval(), torch.randn(2, 1, 6, 6))
    signed = [site.name for site in graph.sites if site.signed]
    with pytest.raises(ModelRefused) as refused:
        convert(graph, thresholds(graph), neuron="if", steps=4)
    message = str(refused.value)
    assert f"{len(signed)} site" in message
    assert ", ".join(signed[:3]) in message
    assert ("and 2 more" in message) == (name == "five of them")
    assert "use 'two-phase' or 'tpp'" in message
    for neuron in ("two-phase", "tpp"):
        convert(graph, thresholds(graph), neuron=neuron, steps=4)
