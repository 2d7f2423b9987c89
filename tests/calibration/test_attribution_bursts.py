"""Errors of sites that fire bursts: those of a window m times as long, and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration.attribution import PARTS, SiteError, attribute
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.thresholds import Thresholds

STEPS, THETA = 4, 1.5


@pytest.fixture(scope="module")
def one() -> tuple[PreparedGraph, Tensor]:
    """Return a network of one site that sees its images as they are, and images spread evenly up to theta."""
    layers = nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)
    nn.init.eye_(layers[0].weight)
    x = torch.rand(1000, 4, generator=torch.Generator().manual_seed(0)).double() * THETA
    return prepare(nn.Sequential(*layers).double().eval(), x[:2]), x


def errors(graph: PreparedGraph, x: Tensor, neuron: str, m: int, steps: int = STEPS, theta: float = THETA) -> SiteError:
    values = {"1": torch.full((1,), theta).double()}
    given = Thresholds(values, steps, "given", "layer", bursts={"1": m} if m > 1 else {})
    return attribute(graph, given, x.split(300), neuron=neuron).sites[0]


@pytest.mark.parametrize("neuron", ["if", "two-phase", "tpp"])
@pytest.mark.parametrize("m", [1, 2, 4, 8])
def test_quantisation_falls_with_the_square_of_the_burst(
    one: tuple[PreparedGraph, Tensor], neuron: str, m: int
) -> None:
    graph, x = one
    parts = errors(graph, x, neuron, m).parts
    # the variance of a uniform rounding error, theta^2 / (12 T^2 m^2), by the mean square theta^2 / 3
    assert parts["quantisation"] == pytest.approx(1 / (4 * STEPS**2 * m**2), rel=0.05)
    assert parts["clipped"] == parts["inherited"] == parts["temporal"] == 0


@pytest.mark.parametrize("m", [1, 4])
def test_what_exceeds_theta_is_clipped_as_without_bursts(one: tuple[PreparedGraph, Tensor], m: int) -> None:
    graph, x = one
    value = x.numpy()
    expected = np.square(np.maximum(value - 0.5 * THETA, 0)).sum() / np.square(value).sum()
    found = errors(graph, x, "two-phase", m, theta=0.5 * THETA)
    assert found.parts["clipped"] == pytest.approx(expected)
    assert expected > 0.05


@pytest.mark.parametrize("neuron", ["if", "two-phase", "tpp"])
def test_all_parts_are_those_of_the_longer_window(one: tuple[PreparedGraph, Tensor], neuron: str) -> None:
    graph, x = one
    found, expected = errors(graph, x, neuron, 4, theta=1.0), errors(graph, x, neuron, 1, 4 * STEPS, theta=1.0)
    assert dict(found.parts) == pytest.approx({name: expected.parts[name] for name in PARTS}, rel=1e-6, abs=1e-12)
    assert found.total == pytest.approx(expected.total, rel=1e-2)
    assert (found.parts["stochastic"] > 0) == (neuron == "tpp")


def test_signed_sites_are_clipped_at_theta_on_both_sides() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double().eval()
    x = torch.randn(40, 6).double() * 2
    graph = prepare(model, x)
    name, value = graph.sites[0].name, model[:2](x).detach().numpy()
    given = Thresholds({name: torch.full((1,), 0.6).double()}, STEPS, "given", "layer", bursts={name: 4})
    found = attribute(graph, given, [x], neuron="two-phase").sites[0]
    power, clipped = np.square(value).sum(), np.clip(value, -0.6, 0.6)
    sent = np.clip(np.floor(value * 4 * STEPS / 0.6 + 0.5), -4 * STEPS, 4 * STEPS) * 0.6 / (4 * STEPS)
    assert (value < -0.6).any()
    assert found.parts["clipped"] == pytest.approx(np.square(value - clipped).sum() / power)
    assert found.parts["quantisation"] == pytest.approx(np.square(sent - clipped).sum() / power)
    assert found.total == pytest.approx(np.square(sent - value).sum() / power)


def test_the_error_that_the_next_site_inherits_falls_too(graph: PreparedGraph, many: Tensor) -> None:
    x = many[:50]
    values = {site.name: torch.full((1,), 4.0) for site in graph.sites}
    plain = Thresholds(values, STEPS, "given", "layer")
    first, second = (site.name for site in graph.sites)
    before, after = (
        {entry.site: entry for entry in attribute(graph, given, [x], neuron="two-phase").sites}
        for given in (plain, replace(plain, bursts={first: 4}))
    )
    assert after[second].parts["inherited"] < before[second].parts["inherited"] / 4
    assert after[first].total < before[first].total / 4
