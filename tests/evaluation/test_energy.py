"""Energy models against sums written out by hand, on counts that are made up."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import UsageError
from snnconvert.converter.graph import prepare
from snnconvert.converter.neurons import Correction
from snnconvert.converter.thresholds import Thresholds
from snnconvert.evaluation.energy import ENERGY_MODELS, energy, sram_access, weight_bits
from snnconvert.evaluation.operations import LayerOperations, Operations, SiteOperations

CONV = LayerOperations("conv", "conv2d", True, 27, 36, 112, 700, 972, 2800, 700, 0.0, 0.0)
LINEAR = LayerOperations("fc", "linear", True, 36, 10, 370, 360, 360, 0, 0, 12.5, 125.0)
POOL = LayerOperations("pool", "avg_pool2d", False, 36, 9, 0, 36, 36, 8, 2, 5.0, 5.0)
SKIP = LayerOperations("add", "identity", False, 36, 36, 0, 36, 36, 0, 0, 3.0, 3.0)
SITE = SiteOperations("relu", 36, 12.5, 12.5 / 36 / 4, 144)
COUNTS = Operations("if", 4, 0, 1, False, (SITE,), (CONV, LINEAR, POOL, SKIP))
READ = 10.0  # all memories here are below 8 KB


def test_horowitz_by_hand() -> None:
    every, cached = (energy(COUNTS, "horowitz-45nm", once=once) for once in (False, True))
    assert every.snn.parts == pytest.approx(
        {
            "synaptic operations": 0.9 * 133,
            "analog macs": 4.6 * 2800,
            "analog additions": 0.9 * 8,
            "neuron updates": 0.9 * 144,
            "resets": 0.9 * 12.5,
        }
    )
    assert every.ann.parts == pytest.approx({"macs": 4.6 * 1060, "additions": 0.9 * 36})
    assert cached.snn.picojoules == pytest.approx(every.snn.picojoules - 4.6 * 2100 - 0.9 * 6)
    assert cached.ann == every.ann
    assert every.ratio == pytest.approx(every.ann.picojoules / every.snn.picojoules)


def test_lemaire_by_hand() -> None:
    only = energy(replace(COUNTS, layers=(LINEAR,)), "lemaire")
    assert only.snn.parts == pytest.approx(
        {
            "inputs": 12.5 * READ,
            "weights": (125 + 4 * 10) * READ,
            "potentials": 2 * (125 + 144) * READ,
            "outputs": 12.5 * READ,
            "operations": 0.1 * (125 + 144 + 12.5),
            "addressing": 0.1 * 125,
        }
    )
    assert only.ann.parts == pytest.approx(
        {
            "inputs": 36 * READ,
            "weights": (360 + 10) * READ,
            "outputs": 10 * READ,
            "operations": 3.2 * 360 + 0.1 * 10,
            "addressing": 0.1 * 360,
        }
    )


def test_lemaire_charges_an_image_as_a_formal_layer_does() -> None:
    image = energy(replace(COUNTS, layers=(CONV,), sites=()), "lemaire")
    assert image.ann.parts == pytest.approx(
        {
            "inputs": 700 * READ,
            "weights": (700 + 36) * READ,
            "outputs": 36 * READ,
            "operations": 3.2 * 700 + 0.1 * 36,
            "addressing": 0.1 * (27 + 36 + 112),
        }
    )
    assert image.snn.picojoules == pytest.approx(4 * image.ann.picojoules)
    assert energy(replace(COUNTS, layers=(CONV,), sites=()), "lemaire", once=True).snn.picojoules == pytest.approx(
        image.ann.picojoules
    )


def test_lemaire_addresses_two_coordinates_in_a_convolution() -> None:
    spiking = replace(CONV, analog=0, analog_once=0, events=6.0, synaptic_operations=50.0)
    parts = energy(replace(COUNTS, layers=(spiking,), sites=()), "lemaire").snn.parts
    assert parts["addressing"] == pytest.approx(0.1 * 50 + 2 * 6 * 3.2)


@pytest.mark.parametrize("model", ENERGY_MODELS)
def test_every_figure_names_its_model_and_is_the_sum_of_its_parts(model: str) -> None:
    found = energy(COUNTS, model)
    for one, network in ((found.snn, "snn"), (found.ann, "ann")):
        assert (one.model, one.network) == (model, network)
        assert one.picojoules == pytest.approx(sum(one.parts.values()))
        assert all(part >= 0 for part in one.parts.values())
    assert json.loads(json.dumps(found.as_json()))["snn"]["model"] == model
    nothing = energy(replace(COUNTS, sites=(), layers=()), model)
    assert (nothing.snn.picojoules, nothing.ratio) == (0, float("inf"))


def test_more_spikes_cost_more() -> None:
    busy = replace(LINEAR, events=25.0, synaptic_operations=250.0)
    for model in ENERGY_MODELS:
        less, more = (energy(replace(COUNTS, layers=(one,)), model) for one in (LINEAR, busy))
        assert more.snn.picojoules > less.snn.picojoules
        assert more.ann == less.ann


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown energy model 'horowitz': expected one of horowitz-45nm, lemaire"):
        energy(COUNTS, "horowitz")


@pytest.mark.parametrize(
    ("size", "picojoules"),
    [(0, 10), (2**13, 10), (2**14, 15), (2**15, 20), (2**17.5, 60), (2**20, 100), (2**21, 116)],
)
def test_an_access_to_a_memory(size: float, picojoules: float) -> None:
    assert sram_access(size) == pytest.approx(picojoules)


def test_a_memory_has_a_size() -> None:
    with pytest.raises(UsageError, match="bytes of a memory"):
        sram_access(-1)


def test_the_bits_of_binarised_weights() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    example = torch.randn(2, 3, 6, 6)
    net(example)
    whole = 32 * sum(p.numel() for p in net.parameters())
    with torch.no_grad():
        net[2].weight.copy_(net[2].weight.sign() * torch.rand(5, 1, 1, 1))  # type: ignore[operator, union-attr]
    graph = prepare(net, example)
    thresholds = Thresholds({site.name: torch.ones(1) for site in graph.sites}, None, "stated", "layer")
    found = weight_bits(convert(graph, thresholds, neuron="if", steps=2)).weights
    assert found == whole - 31 * 5 * 4 * 9 + 32 * 5


def test_the_bits_of_a_network() -> None:
    graph = prepare(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), torch.randn(2, 3))
    thresholds = Thresholds({"1": torch.ones(4)}, None, "given", "channel")
    found = weight_bits(convert(graph, thresholds, neuron="if", steps=2))
    assert (found.weights, found.thresholds, found.corrections) == (32 * (12 + 4 + 8 + 2), 32 * 4, 0)
    corrected = replace(thresholds, corrections={"1": Correction(torch.zeros(4), None, None)})
    more = weight_bits(convert(graph, corrected, neuron="if", steps=2))
    assert (more.corrections, more.total) == (32 * 4, found.total + 32 * 4)
