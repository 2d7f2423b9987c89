"""Bursts survive a file and a copy; damaged ones are refused by name."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from snnconvert.converter.artifact import load, save
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ArtefactRefused, UsageError
from snnconvert.converter.graph import prepare
from snnconvert.converter.neurons import CONVERTIBLE, Correction
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.tensor_file import write_tensors
from snnconvert.converter.thresholds import Thresholds

STEPS = 3
THETA = 0.6


@pytest.fixture
def original(network: nn.Module, images: Tensor, neuron: str) -> SpikingModel:
    """Return a network with bursts at two of its sites, at one of them corrected."""
    graph = prepare(network, images)
    first, *_, last = (site.name for site in graph.sites)
    values = {site.name: torch.full((site.channels,), THETA).double() for site in graph.sites}
    moved = {first: Correction(torch.full((4,), 0.05).double(), torch.full((4,), 0.25).double())}
    given = Thresholds(values, STEPS, "given", "channel", corrections=moved, bursts={first: 4, last: 2})
    return convert(graph, given, neuron=neuron, steps=STEPS)


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_a_round_trip_changes_no_spike(original: SpikingModel, images: Tensor, neuron: str, tmp_path: Path) -> None:
    save(tmp_path / "1.snn", original, {})
    once, _ = load(tmp_path / "1.snn")
    save(tmp_path / "2.snn", once, {})
    twice, _ = load(tmp_path / "2.snn")
    assert once.thresholds.bursts == twice.thresholds.bursts == original.thresholds.bursts
    assert sorted(once.thresholds.bursts.values()) == [2, 4]
    assert once.describe()["sites"] == original.describe()["sites"]
    assert (once.levels, once.spike_type) == (4 * STEPS + 1, "binary, bursts of up to 4 a step")
    for name, theta in original.thresholds.values.items():
        assert torch.equal(once.thresholds.values[name], theta)  # not what a spike is worth
    for executor in original.executors:
        expected = original(images, executor=executor)
        for model in (once, twice, copy.deepcopy(original)):
            assert torch.equal(model(images, executor=executor), expected)


@pytest.fixture
def neuron() -> str:
    return "two-phase"


@pytest.mark.parametrize(
    ("bursts", "message"),
    [
        ({"relu": 0}, "CalibrationRefused: bursts of 0 spikes at relu: no site, or no whole number from 1 to 256"),
        ({"relu": 2.5}, r"CalibrationRefused: bursts of 2\.5 spikes at relu"),
        ({"relu": None}, "CalibrationRefused: bursts of None spikes at relu"),
        ({"elsewhere": 2}, "CalibrationRefused: bursts of 2 spikes at elsewhere"),
        ([4], "AttributeError"),
        (None, "AttributeError"),
        (4, "AttributeError"),
    ],
)
def test_damaged_bursts_are_refused(original: SpikingModel, bursts: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.snn"
    save(path, original, {})
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        document = json.loads(file.metadata()["snnconvert"])
    assert "relu" in document["thresholds"]["bursts"]
    document["thresholds"]["bursts"] = bursts
    write_tensors(path, tensors, "snnconvert", document)
    with pytest.raises(ArtefactRefused, match=rf"x\.snn is a damaged \.snn file: {message}"):
        load(path)


def test_bursts_and_shuffling_in_one_file_are_refused(original: SpikingModel, tmp_path: Path) -> None:
    path = tmp_path / "x.snn"
    save(path, original, {})
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        document = json.loads(file.metadata()["snnconvert"])
    document["conversion"]["shuffle"] = "shared"
    write_tensors(path, tensors, "snnconvert", document)
    with pytest.raises(ArtefactRefused, match="UsageError: shuffling re-orders single spikes, and some sites fire"):
        load(path)
    with pytest.raises(UsageError, match="some sites fire bursts\nhint: leave out mixed steps"):
        convert(original.graph, original.thresholds, neuron="two-phase", steps=STEPS, shuffle="per-neuron")
