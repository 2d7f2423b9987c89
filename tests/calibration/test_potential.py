"""The initial potential of each neuron against its equation in numpy, and on images that it has not seen."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration.bias import bias
from snnconvert.calibration.potential import potential
from snnconvert.calibration.side_by_side import Meeting, correct
from snnconvert.converter.convert import convert
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import CONVERTIBLE, Correction
from snnconvert.converter.thresholds import Thresholds


def corrected(graph: PreparedGraph, thresholds: Thresholds, x: Tensor, neuron: str) -> Thresholds:
    return correct(graph, thresholds, x.split(100), potential, name="potential", neuron=neuron)


@pytest.mark.parametrize("batches", [1, 3])
def test_the_first_site_starts_from_what_is_missing(
    net: nn.Module, graph: PreparedGraph, thresholds: Thresholds, many: Tensor, batches: int
) -> None:
    found = corrected(graph, thresholds, many[: 100 * batches], "two-phase").corrections[graph.sites[0].name]
    theta = thresholds.values[graph.sites[0].name].double().numpy()[:, None, None]
    with torch.no_grad():
        currents = net.conv(many).double().numpy()
    v0 = np.zeros((4, 6, 6))
    for n in range(batches):
        z = currents[100 * n : 100 * n + 100]
        sent = theta / 4 * np.floor(z * 4 / theta + 0.5 + v0).clip(0, 4)
        v0 += 4 * (np.maximum(z, 0) - sent).mean(0) / theta / (n + 1)
    assert found.potential is not None
    close = np.isclose(found.potential, v0, atol=1e-4)
    assert close.mean() > 0.97  # but for ties of rounding, each worth 1 / 100
    assert np.allclose(found.potential, v0, atol=0.1)
    assert found.bias is None


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_means_of_neurons_come_closer_on_images_held_out(
    graph: PreparedGraph,
    thresholds: Thresholds,
    many: Tensor,
    meetings: Callable[..., list[Meeting]],
    neuron: str,
) -> None:
    def error(given: Thresholds, number: int) -> Tensor:
        meeting = meetings(graph, given, many[800:], neuron)[number]
        return (meeting.ann_activation - meeting.response()).mean(0).square().mean()

    found = corrected(graph, thresholds, many[:800], neuron)
    for number in range(2):
        assert error(found, number) < 0.8 * error(thresholds, number)


Moved = tuple[PreparedGraph, Tensor, Thresholds, Tensor]


@pytest.fixture
def moved() -> Moved:
    """Return a network of two tokens and three channels, whose spiking weights move each neuron by whole levels."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Unflatten(1, (2, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(6, 2))
    model = model.double().eval()
    with torch.no_grad():
        nn.init.eye_(model[0].weight)  # type: ignore[arg-type]
        model[0].bias.fill_(0.25)  # type: ignore[operator, union-attr]
    x = torch.randint(2, 5, (8, 6), generator=torch.Generator().manual_seed(2)).double() / 8
    graph = prepare(model, x)
    shift = torch.tensor([0.125, -0.25, 0.0, 0.0, 0.25, -0.125]).double()
    weights = {"_0_bias_value": shift + 0.25}
    values = {graph.sites[0].name: torch.tensor([1.0, 2.0, 1.0]).double()}
    return graph, x, Thresholds(values, 16, "given", "channel", weights=weights), shift


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_where_nothing_is_cut_one_batch_removes_the_error_of_each_neuron(moved: Moved, neuron: str) -> None:
    graph, x, thresholds, shift = moved
    (site,) = graph.sites
    found = corrected(graph, thresholds, x, neuron)
    levels = -shift.reshape(2, 3) * 16 / thresholds.values[site.name]
    assert torch.equal(found.corrections[site.name].potential, levels)  # type: ignore[arg-type]
    other = torch.flip(x, (0,))
    assert not torch.equal(convert(graph, thresholds, neuron=neuron, steps=16)(other), graph.module(other))
    assert torch.allclose(convert(graph, found, neuron=neuron, steps=16)(other), graph.module(other), rtol=1e-12)


@pytest.mark.parametrize("start", [torch.tensor([1.0, -2.0, 3.0]), torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 1.0]])])
def test_it_is_added_to_the_potential_there_was(moved: Moved, start: Tensor) -> None:
    graph, x, thresholds, shift = moved
    (site,) = graph.sites
    given = replace(thresholds, corrections={site.name: Correction(potential=start.double())})
    found = corrected(graph, given, x, "two-phase").corrections[site.name].potential
    levels = -shift.reshape(2, 3) * 16 / thresholds.values[site.name]
    assert torch.equal(found, levels)  # type: ignore[arg-type]  # the error counts what the first potential did


def test_the_bias_there_was_stays(moved: Moved) -> None:
    graph, x, thresholds, _ = moved
    (site,) = graph.sites
    first = correct(graph, thresholds, [x], bias, name="bias", neuron="two-phase")
    found = corrected(graph, first, x, "two-phase").corrections[site.name]
    assert torch.equal(found.bias, first.corrections[site.name].bias)  # type: ignore[arg-type]
    assert found.potential is not None
    assert found.potential.shape == (2, 3)
