"""Bias correction by channel against its equation in numpy, and on images that it has not seen."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration.bias import bias
from snnconvert.calibration.side_by_side import Meeting, correct
from snnconvert.converter.convert import convert
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import CONVERTIBLE, Correction
from snnconvert.converter.thresholds import Thresholds

See = Callable[..., list[Meeting]]


def corrected(graph: PreparedGraph, thresholds: Thresholds, x: Tensor, neuron: str) -> Thresholds:
    return correct(graph, thresholds, x.split(100), bias, name="bias", neuron=neuron)


def along_channels(x: np.ndarray) -> np.ndarray:
    return x[:, None, None]


@pytest.mark.parametrize("batches", [1, 3])
def test_the_first_site_is_corrected_by_the_mean_error(
    net: nn.Module, graph: PreparedGraph, thresholds: Thresholds, many: Tensor, batches: int
) -> None:
    found = corrected(graph, thresholds, many[: 100 * batches], "two-phase").corrections[graph.sites[0].name]
    theta = along_channels(thresholds.values[graph.sites[0].name].double().numpy())
    with torch.no_grad():
        currents = net.conv(many).double().numpy()
    b = np.zeros(4)
    for n in range(batches):
        z = currents[100 * n : 100 * n + 100]
        sent = theta / 4 * np.floor((z + along_channels(b)) * 4 / theta + 0.5).clip(0, 4)
        b += (np.maximum(z, 0) - sent).mean((0, 2, 3)) / (n + 1)
    assert found.bias is not None
    assert np.allclose(found.bias, b, atol=1e-3 * batches)  # a tie of rounding is worth theta / 4 / 3600
    assert found.potential is None
    assert found.height is None


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_channel_means_come_closer_on_images_held_out(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, meetings: See, neuron: str
) -> None:
    def error(given: Thresholds, number: int) -> Tensor:
        meeting = meetings(graph, given, many[800:], neuron)[number]
        return meeting.channel_mean(meeting.ann_activation - meeting.response()).abs()

    found = corrected(graph, thresholds, many[:800], neuron)
    for number, share in ((0, 0.4), (1, 0.75)):  # the second site has few neurons, and so a mean that is not so sure
        assert error(found, number).mean() < share * error(thresholds, number).mean()


@pytest.fixture
def moved() -> tuple[PreparedGraph, Tensor, Thresholds, Tensor]:
    """Return a network, images that give whole spike counts, and thresholds whose weights move each channel a level."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2)).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3, 6))
        model[0].bias.fill_(0.25)
    x = torch.randint(2, 6, (8, 6), generator=torch.Generator().manual_seed(2)).double() / 8
    graph = prepare(model, x)
    shift = torch.tensor([0.125, -0.25, 0.0]).double()  # one level up, two down
    weights = {"_0_bias_value": model[0].bias.detach() + shift}
    return graph, x, Thresholds({"1": torch.ones(3).double()}, 8, "given", "channel", weights=weights), shift


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_where_nothing_is_cut_one_batch_removes_the_error(
    moved: tuple[PreparedGraph, Tensor, Thresholds, Tensor], neuron: str
) -> None:
    # Whole counts between 1 and T - 1: each neuron then says exactly its current, and the error is that of the weights.
    graph, x, thresholds, shift = moved
    found = corrected(graph, thresholds, x, neuron)
    assert torch.equal(found.corrections["1"].bias, -shift)  # type: ignore[arg-type]
    other = torch.flip(x, (0,))
    assert not torch.equal(convert(graph, thresholds, neuron=neuron, steps=8)(other), graph.module(other))
    assert torch.allclose(convert(graph, found, neuron=neuron, steps=8)(other), graph.module(other), rtol=1e-12)


def test_it_is_added_to_the_bias_there_was(
    moved: tuple[PreparedGraph, Tensor, Thresholds, Tensor],
) -> None:
    graph, x, thresholds, shift = moved
    by_step = torch.tensor([0.25, -0.25] * 4).double()[:, None].expand(8, 3)
    start = Correction(by_step, torch.zeros(3).double())
    found = corrected(graph, replace(thresholds, corrections={"1": start}), x, "two-phase").corrections["1"]
    assert torch.equal(found.bias, by_step - shift)  # type: ignore[arg-type]
    assert torch.equal(found.potential, torch.zeros(3))  # type: ignore[arg-type]
