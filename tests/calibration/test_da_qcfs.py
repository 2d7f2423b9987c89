"""DA-QCFS against its equations in numpy on one layer, and on images that it has not seen."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration.da_qcfs import WEIGHT, da_qcfs
from snnconvert.calibration.potential import potential
from snnconvert.calibration.side_by_side import Meeting, correct
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import Correction
from snnconvert.converter.thresholds import Thresholds

STEPS = 4
THETA = np.array([0.6, 1.1, 2.3])
MOVED = np.array([0.2, -0.1, 0.0])

One = tuple[PreparedGraph, Tensor, Thresholds]


@pytest.fixture(scope="module")
def one() -> One:
    """Return a network of one site that sees its images as they are; in the spiking network a bias is added to them."""
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3)[:, :, None, None])
        model[0].bias.zero_()
    x = torch.randn(8 * 150, 3, 2, 2, generator=torch.Generator().manual_seed(3)).double()
    graph = prepare(model, x[:2])
    weights = {"_0_bias_value": torch.tensor(MOVED)}
    return graph, x, Thresholds({"1": torch.tensor(THETA)}, STEPS, "given", "channel", weights=weights)


def reference(batches: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return psi and phi after ``batches`` [batch, channels, places] of pre-activations, one image a row."""
    psi, phi = np.zeros(3), np.zeros(3)
    for n, z in enumerate(batches):
        weight = max(1 / (n + 1), 0.01)
        for c in range(3):
            ann, snn = z[:, c], z[:, c] + MOVED[c]
            psi[c] = (1 - weight) * psi[c] + weight * (ann - snn).mean()
            count = np.floor((snn + psi[c]) * STEPS / THETA[c] + 0.5).clip(0, STEPS)
            error = np.maximum(ann, 0).mean() - (THETA[c] * count / STEPS).mean()
            phi[c] = (1 - weight) * phi[c] + weight * error
    return psi, phi


@pytest.mark.parametrize("batches", [1, 2, 5, 150])
def test_shift_and_height_are_those_of_numpy(one: One, batches: int) -> None:
    graph, x, thresholds = one
    parts = x[: 8 * batches].split(8)
    found = correct(graph, thresholds, parts, da_qcfs, name="da-qcfs", neuron="two-phase").corrections["1"]
    psi, phi = reference([part.flatten(2).numpy() for part in parts])
    assert np.allclose(found.bias, psi, atol=1e-12)  # type: ignore[arg-type]
    assert np.allclose(found.height, THETA + phi, atol=1e-9)  # type: ignore[arg-type]
    assert np.allclose(psi, -MOVED, atol=1e-12)
    assert np.abs(phi).max() > 0.005
    assert found.potential is None


def test_after_many_batches_a_batch_keeps_its_weight() -> None:
    assert WEIGHT == 0.01  # of the paper


def test_the_answer_is_that_of_the_equation(one: One) -> None:
    graph, x, thresholds = one
    found = correct(graph, thresholds, x[:400].split(100), da_qcfs, name="da-qcfs", neuron="two-phase")
    psi, phi = reference([part.flatten(2).numpy() for part in x[:400].split(100)])
    z = x[400:500].numpy() + MOVED[:, None, None] + psi[:, None, None]
    theta, height = THETA[:, None, None], (THETA + phi)[:, None, None]
    sent = height * np.floor(z * STEPS / theta + 0.5).clip(0, STEPS) / STEPS
    with torch.no_grad():
        weight, bias = (graph.module.get_buffer(f"_3_{name}_value") for name in ("weight", "bias"))
        expected = torch.tensor(sent).flatten(1) @ weight.T + bias
    model = convert(graph, found, neuron="two-phase", steps=STEPS)
    for executor in model.executors:
        assert torch.allclose(model(x[400:500], executor=executor), expected, atol=1e-9)


def test_the_height_takes_out_the_share_of_the_error_that_spikes(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, meetings: Callable[..., list[Meeting]]
) -> None:
    # mean((theta + phi) N / T) - mean(theta N / T) = phi mean(N / T), so (1 - mean(N / T)) phi is left.
    found = correct(graph, thresholds, [many[:800]], da_qcfs, name="da-qcfs", neuron="two-phase")

    def means(given: Thresholds, x: Tensor, number: int) -> tuple[Tensor, Tensor]:
        meeting = meetings(graph, given, x, "two-phase")[number]
        response, height = meeting.response(), meeting.neuron.height
        return meeting.channel_mean(meeting.ann_activation - response), meeting.channel_mean(response / height)

    for number, site in enumerate(graph.sites):
        left, share = means(found, many[:800], number)
        phi = found.corrections[site.name].height - thresholds.values[site.name]  # type: ignore[operator]
        assert torch.allclose(left, (1 - share) * phi, atol=1e-4)
        assert means(found, many[800:], number)[0].abs().mean() < means(thresholds, many[800:], number)[0].abs().mean()


def test_one_height_for_all_channels_becomes_one_each(one: One) -> None:
    graph, x, thresholds = one
    given = replace(thresholds, values={"1": torch.ones(1).double()}, per="layer")
    found = correct(graph, given, [x[:100]], da_qcfs, name="da-qcfs", neuron="two-phase").corrections["1"]
    assert found.height is not None
    assert found.height.shape == (3,)
    assert len(set(found.height.tolist())) == 3


def test_a_potential_that_was_there_is_counted(one: One) -> None:
    graph, x, thresholds = one
    first = correct(graph, thresholds, [x[:100]], potential, name="potential", neuron="two-phase")
    found = correct(graph, first, [x[:100]], da_qcfs, name="da-qcfs", neuron="two-phase")
    start = first.corrections["1"].potential
    assert start is not None
    assert torch.equal(found.corrections["1"].potential, start)  # type: ignore[arg-type]
    z = x[:100].numpy()
    count = np.floor(z * STEPS / THETA[:, None, None] + start.numpy() + 0.5).clip(0, STEPS)
    phi = (np.maximum(z, 0) - THETA[:, None, None] * count / STEPS).mean((0, 2, 3))
    assert np.allclose(found.corrections["1"].height, THETA + phi, atol=1e-9)  # type: ignore[arg-type]


def test_it_starts_anew_from_the_first_batch(one: One) -> None:
    graph, x, thresholds = one
    given = replace(thresholds, corrections={"1": Correction(bias=torch.ones(3).double())})
    again, once = (
        correct(graph, t, [x[:50]], da_qcfs, name="da-qcfs", neuron="two-phase").corrections["1"]
        for t in (given, thresholds)
    )
    assert torch.equal(again.bias, once.bias)  # type: ignore[arg-type]
    assert torch.equal(again.height, once.height)  # type: ignore[arg-type]


@pytest.mark.parametrize("m", [2, 3])
def test_bursts_get_the_shift_and_height_of_the_longer_window(one: One, m: int) -> None:
    graph, x, thresholds = one
    burst, plain = (
        correct(graph, given, x[:150].split(50), da_qcfs, name="da-qcfs", neuron="two-phase").corrections["1"]
        for given in (replace(thresholds, bursts={"1": m}), replace(thresholds, steps=STEPS * m))
    )
    assert torch.allclose(burst.bias, plain.bias, atol=1e-12)  # type: ignore[arg-type]
    assert torch.allclose(burst.height * m, plain.height, atol=1e-9)  # type: ignore[arg-type, operator]
    assert not torch.allclose(plain.height, torch.tensor(THETA), atol=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("neuron", ["if", "tpp"])
def test_other_neurons_are_refused(one: One, neuron: str) -> None:
    graph, x, thresholds = one
    with pytest.raises(UsageError, match="corrects deterministic two-phase neurons\nhint: use neuron 'two-phase'"):
        correct(graph, thresholds, [x[:5]], da_qcfs, name="da-qcfs", neuron=neuron)
