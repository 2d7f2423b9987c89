"""What kinds of network can be reconstructed, and what is refused."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.calibration import learning, student
from snnconvert.calibration.reconstruction import reconstruct
from snnconvert.calibration.settings import Settings
from snnconvert.calibration.student import Student, divergence
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import CalibrationRefused, DataRefused, ModelRefused, UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.thresholds import Thresholds

Below = Callable[[PreparedGraph, Tensor, int], Thresholds]
FAST = Settings(iterations=60, weight_rate=1e-2, threshold_rate=1e-2)


def epochs(x: Tensor, size: int = 50) -> Callable[[int], Iterable[Tensor]]:
    return lambda epoch: x.split(size)


class Maps(nn.Module):
    """Several outputs that are no class scores, and None beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.deep, self.number = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 3), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        h = F.relu(self.conv(x))
        return {"map": self.deep(h), "nothing": None, "more": [self.number(h.mean((2, 3)))]}


class Tokens(nn.Module):
    """GELU: a site of both signs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.gelu(2 * self.a(x.flatten(1, 2)))).mean(1)


class Capped(nn.Module):
    """ReLU6 behind activations that hardly reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(36, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu6(self.a(x.flatten(1)) + 0.5))


def prepared(model: nn.Module) -> PreparedGraph:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()
    return prepare(model.eval(), torch.randn(2, 1, 6, 6))


def errors(graph: PreparedGraph, thresholds: Thresholds, x: Tensor, neuron: str) -> list[float]:
    model = convert(graph, thresholds, neuron=neuron, steps=4)
    pairs = zip(*(torch.utils._pytree.tree_leaves(m(x)) for m in (model, graph.module)), strict=True)
    return [(a - b).square().mean().item() for a, b in pairs if b is not None]


@pytest.mark.parametrize("scope", ["layer", "network"])
@pytest.mark.parametrize("neuron", ["if", "two-phase", "tpp"])
def test_outputs_need_not_be_class_scores(many: Tensor, below_maximum: Below, neuron: str, scope: str) -> None:
    graph = prepared(Maps())
    thresholds = below_maximum(graph, many[:100], 4)
    found = reconstruct(graph, thresholds, epochs(many[:800]), neuron=neuron, settings=replace(FAST, scope=scope))
    after, before = (errors(graph, t, many[800:], neuron) for t in (found, thresholds))
    assert len(after) == 2
    assert all(a < b for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("neuron", ["two-phase", "tpp"])
def test_sites_of_both_signs_learn(
    many: Tensor, below_maximum: Below, neuron: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student, "COMPILING_PAYS", 1000)  # for so small a network it does not
    graph = prepared(Tokens())
    assert [site.signed for site in graph.sites] == [True]
    thresholds = below_maximum(graph, many[:100], 4)

    def distance(given: Thresholds) -> float:  # scores count up to what they have in common
        model = convert(graph, given, neuron=neuron, steps=4)
        return divergence(model(many[800:]), graph.module(many[800:])).item()

    settings = replace(FAST, iterations=600)
    found = reconstruct(graph, thresholds, epochs(many[:800]), neuron=neuron, settings=settings)
    assert distance(found) < 0.8 * distance(thresholds)


@pytest.mark.parametrize("neuron", ["if", "two-phase"])
def test_thresholds_at_a_cap_come_down_and_stay_below_it(many: Tensor, neuron: str) -> None:
    graph = prepared(Capped())
    (site,) = graph.sites
    thresholds = Thresholds({site.name: torch.full((8,), 6.0)}, 4, "given", "channel")
    settings = Settings(iterations=80, learn=("threshold",), threshold_rate=5e-2, scope="layer")
    found = reconstruct(graph, thresholds, epochs(many[:400]), neuron=neuron, settings=settings)
    assert site.cap == 6
    assert (found.values[site.name] < 4.5).all()
    assert errors(graph, found, many[800:], neuron) < errors(graph, thresholds, many[800:], neuron)


@pytest.mark.parametrize("cap", [6.0, 0.7, 0.1, 3.3, 1.9, 12.7])
def test_a_cap_is_kept_and_costs_no_gradient(cap: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Hardtanh(0.0, cap), nn.Linear(4, 2)).eval()
    graph, x = prepare(model, torch.randn(2, 3)), torch.rand(30, 3) * cap
    (site,) = graph.sites
    thresholds = Thresholds({site.name: torch.full((4,), cap)}, 4, "given", "channel")
    learner = Student(graph, thresholds, "two-phase", replace(FAST, scope="layer"), {})
    (logarithm,) = learner.log_threshold.values()
    with torch.no_grad():
        logarithm.add_(0.3)
    learner.keep_caps()
    learner.thresholds().check(graph, 4, "two-phase")
    assert torch.allclose(learner.thresholds().values[site.name], thresholds.values[site.name])
    learner.loss((x,)).backward()
    assert logarithm.grad is not None
    assert logarithm.grad.any()


def test_thresholds_pushed_against_a_cap_come_back_at_once(many: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FAR_WORSE", "_WORSE"):  # the loss grows with other images
        monkeypatch.setattr(learning, name, torch.inf)
    graph = prepared(Capped())
    (site,) = graph.sites
    thresholds = Thresholds({site.name: torch.full((8,), 5.0)}, 4, "given", "channel")
    settings = Settings(iterations=40, learn=("threshold",), threshold_rate=0.1, scope="layer")

    def batches(epoch: int) -> Iterable[Tensor]:
        return (many if epoch else 40 * many)[:1000].split(50)  # first much larger, then as they are

    found = reconstruct(graph, thresholds, batches, neuron="two-phase", settings=settings)
    convert(graph, found, neuron="two-phase", steps=4)
    assert (found.values[site.name] < 5).all()

    only_large = reconstruct(graph, thresholds, lambda epoch: batches(0), neuron="two-phase", settings=settings)
    convert(graph, only_large, neuron="two-phase", steps=4)
    assert (only_large.values[site.name] > 5.9).all()  # it did push


def test_wrong_settings_are_named(graph: PreparedGraph, thresholds: Thresholds, many: Tensor) -> None:
    def run(message: str, **change: Any) -> None:
        with pytest.raises(UsageError, match=message):
            reconstruct(graph, thresholds, epochs(many), neuron="if", settings=replace(FAST, **change))

    run("unknown scope 'layers'", scope="layers")


def test_what_does_not_fit_is_refused(graph: PreparedGraph, thresholds: Thresholds, many: Tensor) -> None:
    def run(given: Thresholds = thresholds, x: Tensor = many, neuron: str = "if", **options: Any) -> Thresholds:
        return reconstruct(graph, given, epochs(x), neuron=neuron, settings=FAST, **options)

    with pytest.raises(CalibrationRefused, match="given thresholds are for any T, corrections for one"):
        run(replace(thresholds, steps=None))
    with pytest.raises(CalibrationRefused, match="corrections for 'tpp' neurons, got 'if'"):
        run(replace(thresholds, neuron="tpp"))
    with pytest.raises(UsageError, match="unknown neuron 'lif'"):
        run(neuron="lif")
    with pytest.raises(UsageError, match="belong to integrate-and-fire neurons"):
        run(neuron="two-phase", shift=True)
    with pytest.raises(DataRefused, match="takes images of shape 1x6x6, got 6x6"):
        run(x=many[:, 0])
    with pytest.raises(CalibrationRefused, match="the loss is nan before the first step\nhint: check the images"):
        run(x=torch.full((5, 1, 6, 6), torch.nan))
    with pytest.raises(CalibrationRefused, match="hold no image\nhint: give at least one batch"):
        reconstruct(graph, thresholds, lambda epoch: [], neuron="if", settings=FAST)


def test_streaming_neurons_are_refused_where_values_have_both_signs(many: Tensor, below_maximum: Below) -> None:
    graph = prepared(Tokens())
    with pytest.raises(ModelRefused):
        reconstruct(graph, below_maximum(graph, many[:9], 4), epochs(many), neuron="if")
