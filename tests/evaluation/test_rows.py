"""Rows against figures that are computed here, by hand or by numpy, from the spikes and answers of small networks."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from snnconvert.converter.neurons import Correction
from snnconvert.converter.simulation import SpikingModel
from snnconvert.evaluation import (
    ENERGY_MODELS,
    Evaluation,
    Operations,
    Row,
    ann_row,
    energy,
    evaluate,
    operations,
    pairs,
    quantised,
    quantised_row,
    spiking_row,
)

from .spike_walk import STEPS, spiking

IMAGES, CLASSES = 12, 3
CALIBRATED = {"calibration": {"images": 100, "seconds": 2.5, "data": "x"}}
TRAINED = {"training": {"method": "mt-lif", "images": 50, "seconds": 7.0, "epochs": 15}}


def net(activation: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    activation = activation or nn.ReLU()
    return nn.Sequential(nn.Conv2d(1, 2, 3), activation, nn.Flatten(), nn.Linear(18, CLASSES)).eval()


def batches(count: int = IMAGES) -> Any:
    draw = torch.Generator().manual_seed(5)
    images = torch.randn(IMAGES, 1, 5, 5, generator=draw)
    labels = torch.randint(0, CLASSES, (IMAGES,), generator=draw)
    return [(images[:count], labels[:count], torch.arange(count))]


def measured(model: SpikingModel, **options: Any) -> tuple[Evaluation, Operations]:
    return evaluate(model, batches(), **options), operations(model, batches(4))


def row(model: SpikingModel, about: dict[str, Any], **options: Any) -> Row:
    return spiking_row("it", model, about, *measured(model, **options))


def test_a_converted_network() -> None:
    model = spiking(net(), 1, 5, 5, neuron="two-phase")
    found, counted = measured(model)
    made = spiking_row("it", model, CALIBRATED, found, counted)
    with torch.no_grad():
        images, labels, _ = batches()[0]
        right = int((model(images).argmax(1) == labels).sum())
        spikes = float(model.activity(images[:4])["1"].sum()) / 4
    interval = binomtest(right, IMAGES).proportion_ci(0.95, "wilson")
    assert (made.kind, made.method, made.images, made.seeds) == ("converted", "two-phase", IMAGES, 1)
    assert made.top1 == pytest.approx(100 * right / IMAGES)
    assert made.ci95 == pytest.approx((100 * interval.low, 100 * interval.high))
    assert (made.steps, made.end_to_end_steps, made.first_answer, made.interval) == (STEPS, 6, 6, STEPS)
    assert (made.levels_per_step, made.spike_type) == (2, "binary")
    assert (made.neurons, made.spikes_per_neuron) == (18, pytest.approx(spikes / 18))
    assert made.synaptic_operations == pytest.approx(3 * spikes)
    assert (made.macs, made.operations_images) == (STEPS * 2 * 9 * 9, 4)
    assert made.weight_bits == 32 * (18 + 2 + 18 * 3 + 3)
    assert made.energy == {name: energy(counted, name).snn.picojoules for name in ENERGY_MODELS}
    assert made.cost == {"kind": "calibration", "seconds": 2.5, "images": 100, "epochs": None}


def test_a_streaming_network_has_its_first_answer_after_one_step() -> None:
    made = row(spiking(net(), 1, 5, 5, neuron="if"), CALIBRATED)
    assert (made.first_answer, made.end_to_end_steps, made.interval) == (1, STEPS, STEPS)


def test_a_directly_trained_network() -> None:
    model = spiking(net(), 1, 5, 5, neuron="if")
    made = row(model, TRAINED, alone=True)
    assert (made.kind, made.method) == ("direct", "mt-lif")
    assert made.cost == {"kind": "training", "seconds": 7.0, "images": 50, "epochs": 15}
    assert made.weight_bits == 32 * (18 + 2 + 18 * 3 + 3)


def test_what_an_artefact_does_not_say_is_unknown() -> None:
    model = spiking(net(), 1, 5, 5)
    assert row(model, {"calibration": {"data": "x"}}).cost is None
    assert row(model, {}).cost is None


def test_levels_of_one_step() -> None:
    assert row(spiking(net(), 1, 5, 5, burst=3), {}).levels_per_step == 4
    assert row(spiking(net(nn.SiLU()), 1, 5, 5, neuron="two-phase"), {}).levels_per_step == 3


def test_the_mean_over_seeds_and_the_first_ones_answers() -> None:
    model = spiking(net(), 1, 5, 5, neuron="tpp")
    made = row(model, {}, seeds=4)
    images, labels, index = batches()[0]
    shares, answers = [], []
    with torch.no_grad():
        for seed in range(4):
            model.seed = seed
            answers.append(model(images, index=index).argmax(1))
            shares.append(100 * float((answers[-1] == labels).double().mean()))
    assert (made.seeds, made.top1) == (4, pytest.approx(np.mean(shares)))
    assert made.top1_std == pytest.approx(np.std(shares, ddof=1))
    assert made.answers.tolist() == answers[0].tolist()


def test_the_ann() -> None:
    model = spiking(net(), 1, 5, 5)
    found, counted = measured(model)
    images, labels, _ = batches()[0]
    with torch.no_grad():
        answers = net()(images).argmax(1)
    right = int((answers == labels).sum())
    interval = binomtest(right, IMAGES).proportion_ci(0.95, "wilson")
    made = ann_row("the ANN", found, model, counted)
    assert (made.name, made.kind, made.images) == ("the ANN", "ann", IMAGES)
    assert made.top1 == pytest.approx(100 * right / IMAGES)
    assert made.ci95 == pytest.approx((100 * interval.low, 100 * interval.high))
    assert made.answers.tolist() == answers.tolist()
    assert made.macs == 2 * 9 * 9 + 18 * 3
    assert made.weight_bits == 32 * (18 + 2 + 18 * 3 + 3)
    assert made.energy["horowitz-45nm"] == pytest.approx(4.6 * made.macs)
    assert made.energy["lemaire"] == energy(counted, "lemaire").ann.picojoules
    spiking_only = ("steps", "end_to_end_steps", "first_answer", "interval", "levels_per_step", "spike_type", "seeds")
    for name in (*spiking_only, "neurons", "spikes_per_neuron", "synaptic_operations", "cost", "top1_std"):
        assert getattr(made, name) is None


def test_another_ann_has_an_accuracy_and_nothing_that_its_graph_would_tell() -> None:
    found, _ = measured(spiking(net(), 1, 5, 5), against=net(nn.Tanh()))
    made = ann_row("another", found, None, None)
    assert found.ann is not None
    assert made.top1 == pytest.approx(found.ann.top1)
    assert (made.macs, made.weight_bits, made.energy) == (None, None, {})


def test_no_ann_has_no_row() -> None:
    found, counted = measured(spiking(net(), 1, 5, 5), alone=True)
    with pytest.raises(ValueError, match="expected an evaluation next to an ANN"):
        ann_row("none", found, None, counted)


@pytest.mark.parametrize("neuron", ["if", "tpp", "two-phase"])
def test_the_quantised_ann_rounds_its_activations(neuron: str) -> None:
    theta = 0.4
    model = spiking(net(), 1, 5, 5, neuron=neuron, theta=theta)
    extra = replace(
        model.thresholds,
        corrections={"1": Correction(bias=torch.full((2,), 5.0))},
        weights={name: value + 1 for name, value in model.graph.module.named_buffers() if value.ndim == 4},
        bursts={"1": 2},
        neuron=neuron,
    )
    assert extra.weights
    learnt = SpikingModel(model.graph, extra, neuron=neuron, steps=STEPS, options=model.options)
    twin = quantised(learnt)
    images = batches()[0][0].double()
    conv, _, _, linear = net().double()
    with torch.no_grad():
        z = conv(images).numpy()
        rounded = theta / STEPS * np.clip(np.floor(z * STEPS / theta + 0.5), 0, STEPS)
        expected = linear(torch.from_numpy(rounded).flatten(1))
        assert twin(images.float()).numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    _, counted = measured(learnt)
    made = quantised_row("4 levels", "thresholds of it", twin, evaluate(twin, batches(), alone=True), counted)
    assert (made.kind, made.method, made.steps, made.levels_per_step) == ("quantised", "thresholds of it", STEPS, 4)
    assert made.answers.tolist() == expected.argmax(1).tolist()
    assert (made.macs, made.weight_bits) == (2 * 9 * 9 + 18 * 3, 32 * (18 + 2 + 18 * 3 + 3))
    assert (made.energy, made.spikes_per_neuron, made.end_to_end_steps, made.cost) == ({}, None, None, None)


def plain(name: str, answers: list[int], labels: list[int]) -> Row:
    return Row(name, "direct", "x", 0.0, (0.0, 0.0), len(labels), np.array(answers), np.array(labels))


def test_pairs_by_hand() -> None:
    labels = [0, 1, 2, 0, 1, 2]
    rows = [plain("a", labels, labels), plain("b", [0, 1, 0, 1, 0, 0], labels), plain("c", [1, 1, 0, 1, 0, 2], labels)]
    assert pairs(rows) == [
        {"first": "a", "second": "b", "agreement": pytest.approx(200 / 6), "only_first": 4, "only_second": 0}
        | {"p_value": pytest.approx(2 / 16)},
        {"first": "a", "second": "c", "agreement": pytest.approx(200 / 6), "only_first": 4, "only_second": 0}
        | {"p_value": pytest.approx(2 / 16)},
        {"first": "b", "second": "c", "agreement": pytest.approx(400 / 6), "only_first": 1, "only_second": 1}
        | {"p_value": 1.0},
    ]
    assert pairs(rows[:1]) == []


def test_pairs_of_different_images_are_none() -> None:
    with pytest.raises(ValueError, match="a and b were evaluated on different images"):
        pairs([plain("a", [0, 1], [0, 1]), plain("b", [0, 1], [1, 1])])


def test_a_row_is_json_without_its_answers() -> None:
    made = row(spiking(net(), 1, 5, 5), CALIBRATED)
    document = json.loads(json.dumps(made.as_json(), allow_nan=False))
    assert set(document) == {
        *("name", "kind", "method", "steps", "end_to_end_steps", "interval", "levels_per_step", "spike_type", "top1"),
        *("top1_std", "ci95", "seeds", "images", "neurons", "spikes_per_neuron", "synaptic_operations", "macs"),
        *("weight_bits", "energy", "cost", "first_answer", "operations_images"),
    }
    assert document["ci95"] == list(made.ci95)
    assert document["energy"] == made.energy
