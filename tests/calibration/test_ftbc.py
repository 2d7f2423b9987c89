"""Time-dependent bias against a loop over neurons in numpy, and on images that it has not seen."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration.ftbc import ftbc
from snnconvert.calibration.side_by_side import Meeting, correct
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import Correction
from snnconvert.converter.thresholds import Thresholds

STEPS = 4


def corrected(graph: PreparedGraph, thresholds: Thresholds, x: Tensor, size: int = 100) -> Thresholds:
    return correct(graph, thresholds, x.split(size), ftbc, name="ftbc", neuron="if")


def loop(currents: np.ndarray, activation: np.ndarray, theta: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return b [steps, channels] after one batch of ``currents`` [steps, batch, channels, places], from the paper.

    At step t: fire with b[t]; b[t] -= mean(theta s - a) / 2; fire again with the new b[t], and go on from there.
    """
    bias, v = bias.copy(), np.zeros_like(activation) + theta[:, None] / 2
    for t in range(STEPS):
        for c in range(len(theta)):
            u = v[:, c] + currents[t, :, c] + bias[t, c]
            error = np.where(u >= theta[c], theta[c], 0.0) - activation[:, c]
            bias[t, c] -= 0.5 * error.mean()
            u = v[:, c] + currents[t, :, c] + bias[t, c]
            v[:, c] = np.where(u >= theta[c], u - theta[c], u)
    return bias


@pytest.fixture(scope="module")
def one() -> tuple[PreparedGraph, Tensor, np.ndarray]:
    """Return a network of one site that sees its images as they are, images, and these as currents in numpy."""
    model = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3)[:, :, None, None])
    x = torch.randn(60, 3, 2, 2, generator=torch.Generator().manual_seed(3)).double()
    return prepare(model, x[:2]), x, x.flatten(2).numpy()


THETA = torch.tensor([0.6, 1.1, 2.3]).double()


@pytest.mark.parametrize("start", [None, torch.linspace(-0.3, 0.3, 3), torch.linspace(-0.3, 0.3, 12).reshape(4, 3)])
@pytest.mark.parametrize("batches", [1, 3])
def test_biases_are_those_of_a_loop(
    one: tuple[PreparedGraph, Tensor, np.ndarray], batches: int, start: Tensor | None
) -> None:
    graph, x, z = one
    given = Thresholds({"1": THETA}, STEPS, "given", "channel")
    expected = np.zeros((STEPS, 3))
    if start is not None:
        given = replace(given, corrections={"1": Correction(bias=start.double())})
        expected = expected + start.double().numpy()
    for n in range(batches):
        currents = np.broadcast_to(z[20 * n : 20 * n + 20], (STEPS, 20, 3, 4))
        expected = loop(currents, np.maximum(currents[0], 0), THETA.numpy(), expected)
    found = corrected(graph, given, x[: 20 * batches], 20).corrections["1"]
    assert found.bias is not None
    assert found.bias.shape == (STEPS, 3)
    assert np.allclose(found.bias, expected, rtol=0, atol=1e-12)
    assert np.abs(expected).max() > 0.05
    assert found.potential is None


def test_the_second_site_reads_the_steps_of_the_corrected_first(
    net: nn.Module, graph: PreparedGraph, thresholds: Thresholds, many: Tensor
) -> None:
    net, x, (first, second) = net.double(), many[:40].double(), graph.sites
    graph = prepare(net, x[:2])
    found = corrected(graph, thresholds, x, 40)
    theta = {name: value.double().numpy() for name, value in found.values.items()}
    b = found.corrections[first.name].bias
    assert b is not None
    with torch.no_grad():
        v, train = np.zeros((40, 4, 6, 6)) + theta[first.name][:, None, None] / 2, []
        for t in range(STEPS):
            v = v + net.conv(x).numpy() + b[t].numpy()[:, None, None]
            spikes = v >= theta[first.name][:, None, None]
            train.append(spikes * theta[first.name][:, None, None])
            v = v - train[-1]
        currents = np.stack([net.hidden(torch.tensor(s).flatten(1)).numpy() for s in train])
        activation = net.activations(x)[1].numpy()
    expected = loop(currents[..., None], activation[..., None], theta[second.name], np.zeros((STEPS, 5)))
    assert np.allclose(found.corrections[second.name].bias, expected, rtol=0, atol=1e-9)  # type: ignore[arg-type]


def test_the_mean_output_of_each_step_comes_closer_on_images_held_out(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, meetings: Callable[..., list[Meeting]]
) -> None:
    def errors(given: Thresholds) -> Tensor:
        """Return mean(theta s[t] - a) at each step of the first site, [steps, channels]."""
        meeting, found = meetings(graph, given, many[800:], "if")[0], []
        neuron = meeting.neuron
        potential = neuron.start(meeting.current[0])
        for t in range(STEPS):
            potential = neuron.integrate(potential, meeting.current[t], t)
            spikes = (potential >= neuron.threshold).float()
            potential = potential - spikes * neuron.threshold
            found.append(meeting.channel_mean(spikes * neuron.threshold - meeting.ann_activation))
        return torch.stack(found)

    found = corrected(graph, thresholds, many[:800])
    assert errors(found).abs().mean() < errors(thresholds).abs().mean() / 2


def test_the_answer_comes_closer_on_images_held_out(graph: PreparedGraph, thresholds: Thresholds, many: Tensor) -> None:
    def error(given: Thresholds) -> Tensor:
        model = convert(graph, given, neuron="if", steps=STEPS)
        return (model(many[800:]) - graph.module(many[800:])).mean(0).abs().sum()

    assert error(corrected(graph, thresholds, many[:800])) < error(thresholds) / 2


@pytest.mark.parametrize("neuron", ["two-phase", "tpp"])
def test_two_phase_neurons_are_refused(graph: PreparedGraph, thresholds: Thresholds, many: Tensor, neuron: str) -> None:
    with pytest.raises(UsageError, match="for streaming neurons: two-phase ones see sums\nhint: use 'bias'"):
        correct(graph, thresholds, [many[:5]], ftbc, name="ftbc", neuron=neuron)
