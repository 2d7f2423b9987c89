"""Thresholds without data: moments against numerical integration, thresholds against those from data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor, nn

from snnconvert.calibration import PER, RULES, calibrate, thresholds_from_batch_norm
from snnconvert.calibration.batch_norm import rectified
from snnconvert.converter.errors import CalibrationRefused
from snnconvert.converter.graph import PreparedGraph, Site, prepare


@pytest.mark.parametrize("cap", [None, 6.0, 0.5])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-2.0, 1.5), (3.0, 0.2), (7.0, 4.0)])
def test_moments_are_those_of_numerical_integration(mean: float, deviation: float, cap: float | None) -> None:
    top = np.inf if cap is None else cap

    def moment(power: int) -> float:
        breaks = [0.0, min(top, mean + 12 * deviation)]
        body, _ = quad(lambda z: z**power * norm.pdf(z, mean, deviation), *breaks, epsabs=1e-12, points=[max(0, mean)])
        return body + (0.0 if cap is None else cap**power * norm.sf(cap, mean, deviation))

    as_tensors = torch.tensor([mean]).double(), torch.tensor([deviation**2]).double()
    first, variance = rectified(*as_tensors, Site("a", cap))
    assert float(first) == pytest.approx(moment(1), abs=1e-7)
    assert float(variance) == pytest.approx(moment(2) - moment(1) ** 2, abs=1e-6)


def test_moments_without_deviation_are_the_activation() -> None:
    first, variance = rectified(torch.tensor([-1.0, 2.0, 9.0]).double(), torch.zeros(3).double(), Site("a", 6.0))
    assert torch.allclose(first, torch.tensor([0.0, 2.0, 6.0]).double())
    assert torch.allclose(variance, torch.zeros(3).double(), atol=1e-9)


def conv_bn(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Sequential:
    found = nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, **options), nn.BatchNorm2d(outputs, momentum=None)
    )
    nn.init.uniform_(found[1].weight, 0.5, 1.5)
    nn.init.uniform_(found[1].bias, -0.5, 0.5)
    return found


class Residual(nn.Module):
    """Two convolutions and a residual add, each summand with statistics of its own."""

    def __init__(self, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.a, self.b, self.c = conv_bn(3, 8), conv_bn(8, 8), conv_bn(8, 8, 1)
        self.first, self.last = activation(), activation()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.a(x))
        return self.head(self.last(self.b(h) + self.c(h)).mean((2, 3)))


def trained(model: nn.Module, images: Tensor) -> PreparedGraph:
    """Return ``model`` prepared, with batch norm statistics that are exact for ``images``."""
    model.train()
    with torch.no_grad():
        model(images)
    return prepare(model.eval(), images[:2])


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(48, 3, 12, 12)


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("steps", [1, 4, 16])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6])
def test_thresholds_are_close_to_those_from_data(
    images: Tensor, activation: Callable[[], nn.Module], steps: int, per: str
) -> None:
    graph = trained(Residual(activation), images)
    found = thresholds_from_batch_norm(graph, steps=steps, per=per)
    expected = calibrate(graph, [images], steps=steps, per=per)
    assert found.source == {"images": 0, "data": "batch-norm statistics"}
    for site in graph.sites:
        ratio = found.values[site.name] / expected.values[site.name]
        assert ratio.min() > 0.75
        assert ratio.max() < 1.33


def test_a_cap_limits_thresholds_without_data(images: Tensor) -> None:
    model = Residual(nn.ReLU6)
    with torch.no_grad():
        model.a[1].bias.fill_(5.0), model.a[1].weight.fill_(3.0)
    graph = trained(model, images)
    for rule in RULES:
        theta = thresholds_from_batch_norm(graph, steps=4, rule=rule).values[graph.sites[0].name]
        assert theta.max() <= 6
        assert theta.min() > 5


def test_the_gaussian_rule_reads_what_batch_norm_remembers(images: Tensor) -> None:
    model = Residual()
    graph = trained(model, images)
    found = thresholds_from_batch_norm(graph, steps=4, rule="gaussian")
    mean, deviation = (p.detach().double() for p in (model.a[1].bias, model.a[1].weight))
    z = mean[:, None] + deviation[:, None] * torch.linspace(-8, 8, 20_001).double()
    weight = torch.exp(-(torch.linspace(-8, 8, 20_001).double() ** 2) / 2)

    def error(theta: Tensor) -> Tensor:
        level = theta[:, None] / 4
        return ((z.relu() - level * (z / level + 0.5).floor().clamp(0, 4)) ** 2 * weight).sum(1)

    theta = found.values["first"].double()
    around = torch.stack([error(theta * share) for share in torch.linspace(0.5, 2, 151).tolist()])
    assert bool((error(theta) <= around.amin(0) * (1 + 1e-6)).all())
    assert found.warnings == ()


class Wired(nn.Module):
    """Two normalised branches, joined by ``wire`` before a site."""

    def __init__(self, wire: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.wire = conv_bn(3, 4), conv_bn(3, 4), wire
        self.head = nn.LazyLinear(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.wire(self.a(x), self.b(x)).relu().mean((2, 3)))


WIRES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor], Any]] = {
    "add": (lambda a, b: a + b, lambda a, b: a + b, lambda a, b: a + b),
    "sub": (lambda a, b: a - b, lambda a, b: a - b, lambda a, b: a + b),
    "concat": (lambda a, b: torch.cat([b, a], 1), lambda a, b: torch.cat([b, a]), lambda a, b: torch.cat([b, a])),
    "slice": (lambda a, b: a[:, :, ::2, ::2], lambda a, b: a, lambda a, b: a),
    "border": (lambda a, b: F.pad(a, (1, 1, 1, 1)), lambda a, b: a, lambda a, b: a),
    "more channels": (
        lambda a, b: F.pad(a, pad=(0, 0, 0, 0, 1, 2)),
        lambda a, b: F.pad(a, (1, 2)),
        lambda a, b: F.pad(a, (1, 2)),
    ),
}


@pytest.mark.parametrize("name", WIRES)
def test_moments_follow_the_wires(images: Tensor, name: str) -> None:
    wire, of_means, of_variances = WIRES[name]
    model = Wired(wire)
    graph = trained(model, images)
    norms = [branch[1] for branch in (model.a, model.b)]
    mean = of_means(*(n.bias.detach().double() for n in norms))
    deviation = of_variances(*(n.weight.detach().double() ** 2 for n in norms)).sqrt()
    found = thresholds_from_batch_norm(graph, steps=4, rule="max").values[graph.sites[0].name]
    top = (mean + 5 * deviation).clamp(min=0)
    assert torch.allclose(found.double(), torch.where(top > 0, top, top.max()), rtol=1e-5)


UNKNOWN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a multiple": lambda a, b: torch.add(a, b, alpha=2),
    "twice the same": lambda a, b: a + a,
    "some channels": lambda a, b: a[:, :2],
    "mirrored": lambda a, b: F.pad(a[:, None], (0, 0, 0, 0, 1, 1), mode="replicate")[:, 0],
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_wires_that_are_not_understood_are_refused_not_guessed(images: Tensor, name: str) -> None:
    with pytest.raises(CalibrationRefused, match="no batch norm tells the distribution at"):
        thresholds_from_batch_norm(trained(Wired(UNKNOWN[name]), images), steps=4)


def test_border_of_a_sequence_is_no_channel() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3, momentum=None), nn.ConstantPad1d(2, 0.0), nn.ReLU())
    model = nn.Sequential(*model, nn.Flatten(), nn.LazyLinear(2))
    found = thresholds_from_batch_norm(trained(model, torch.randn(20, 2, 6)), steps=4)
    assert [len(theta) for theta in found.values.values()] == [3]


def test_a_network_without_batch_norm_names_its_sites_and_asks_for_data() -> None:
    layers = [part for _ in range(7) for part in (nn.Linear(4, 4), nn.ReLU())]
    graph = prepare(nn.Sequential(*layers, nn.Linear(4, 2)).eval(), torch.randn(2, 4))
    names = ", ".join(site.name for site in graph.sites[:3])
    with pytest.raises(CalibrationRefused, match=f"distribution at {names} and 4 more\nhint: calibrate on images"):
        thresholds_from_batch_norm(graph, steps=4)


def test_a_channel_that_batch_norm_silences_takes_the_threshold_of_its_layer(images: Tensor) -> None:
    model = Residual()
    with torch.no_grad():
        model.a[1].bias[0] = -100.0
    found = thresholds_from_batch_norm(trained(model, images), steps=4)
    assert found.warnings[0].startswith("1 of 16 channels, at 1 of 2 sites (first), were never active")
    assert bool((found.values["first"] > 0).all())


def test_a_pool_before_a_layer_has_the_moments_of_both_signs(images: Tensor) -> None:
    # its value is encoded as max(v, 0) - max(-v, 0), and pooling counts as changing no moments
    layers = conv_bn(3, 6), nn.ReLU(), conv_bn(6, 4), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1), nn.ReLU()
    model = nn.Sequential(*layers, nn.Conv2d(2, 2, 1))
    model[4] = conv_bn(4, 2, 1)
    found = thresholds_from_batch_norm(trained(model, images), steps=4, rule="max").values
    norm_ = model[2][1]
    mean, spread = norm_.bias.detach(), 5 * norm_.weight.detach()
    assert torch.allclose(found["3.positive"], mean + spread, rtol=1e-5)
    assert torch.allclose(found["3.negative"], spread - mean, rtol=1e-5)


ANALOG: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "an activation function": (nn.GELU, r"at 2\n"),
    "a layer norm": (lambda: nn.LayerNorm(12), r"at 2\n"),
    "attention over channels": (lambda: nn.Softmax(1), r"at 2\n"),
}


@pytest.mark.parametrize("name", ANALOG)
def test_sites_behind_analog_operations_are_refused_by_name(images: Tensor, name: str) -> None:
    layer, names = ANALOG[name]
    model = nn.Sequential(conv_bn(3, 4), nn.ReLU(), layer(), conv_bn(4, 4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with pytest.raises(CalibrationRefused, match=f"no batch norm tells the distribution {names}"):
        thresholds_from_batch_norm(trained(model, images), steps=4)


def test_a_transformer_has_no_batch_norm_and_is_refused_by_name(images: Tensor) -> None:
    layers = nn.Flatten(2), nn.LayerNorm(12), nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 2)
    graph = trained(nn.Sequential(*layers), images[:, :, :4, :3])
    assert [site.name for site in graph.sites] == ["1", "3"]
    with pytest.raises(CalibrationRefused, match="tells the distribution at 1, 3\n"):
        thresholds_from_batch_norm(graph, steps=4)


def capped(*caps: float | None) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(1, 4, 3)]
    for number, cap in enumerate(caps):
        activation = nn.ReLU() if cap is None else nn.Hardtanh(0.0, cap)
        layers += [activation, nn.Conv2d(4, 4, 1) if number + 1 < len(caps) else nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(144, 3)).eval()


def test_without_batch_norm_largest_values_become_thresholds() -> None:
    graph = prepare(capped(1.5, 2.5), torch.randn(2, 1, 8, 8))
    found = thresholds_from_batch_norm(graph, steps=4)
    assert [found.values[site.name].tolist() for site in graph.sites] == [[1.5], [2.5]]
    assert (found.rule, found.per, found.steps) == ("cap", "layer", None)
    assert found.source == {"data": "the activations' largest values"}


def test_one_activation_without_a_largest_value_is_refused() -> None:
    graph = prepare(capped(1.5, None), torch.randn(2, 1, 8, 8))
    with pytest.raises(CalibrationRefused, match="no batch norm tells the distribution"):
        thresholds_from_batch_norm(graph, steps=4)
