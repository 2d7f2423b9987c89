"""Corrections and changed weights survive a file, a copy and another type of number; old files are still read."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from snnconvert.converter.artifact import FORMAT, load, save
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ArtefactRefused, CalibrationRefused
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import CONVERTIBLE, SHUFFLES, Correction
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.tensor_file import write_tensors
from snnconvert.converter.thresholds import Thresholds

STEPS = 6


class Shortcut(nn.Module):
    """A residual add, a cap, and weights that two calls share."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self.stem(x))
        h = F.relu(self.inner(F.relu(self.inner(h))) + h)
        return self.head(F.avg_pool2d(h, 2).flatten(1))


class Signed(nn.Module):
    """A site of both signs, with channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.gelu(self.a(x.flatten(1, 2)))).mean(1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {"shortcut": Shortcut, "signed": Signed}


def images(count: int = 5) -> Tensor:
    return torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def prepared(name: str = "shortcut") -> PreparedGraph:
    torch.manual_seed(0)
    return prepare(NETWORKS[name]().eval(), images(2))


def thresholds(graph: PreparedGraph, neuron: str) -> Thresholds:
    """Return thresholds with every kind of correction, and with other weights; none of the numbers is round."""
    values, corrections, draw = {}, {}, torch.Generator().manual_seed(3)
    for number, site in enumerate(graph.sites):
        values[site.name] = torch.rand(site.channels, generator=draw) + 0.3
        bias = torch.randn(*((STEPS,) if number % 2 else ()), site.channels, generator=draw) / 20
        start = torch.randn(site.channels if number % 2 else site.shape, generator=draw) / 5
        height = values[site.name] * 1.1 if number % 2 == 0 else None
        corrections[site.name] = Correction(bias, start, height)
    if len(corrections) > 2:
        del corrections[graph.sites[1].name]
    weights = {
        name: buffer + torch.randn(buffer.shape, generator=draw) / 30
        for name, buffer in graph.module.named_buffers()
        if not name.startswith("head")
    }
    source = {"images": 9, "corrections": [{"name": "bias", "images": 9}]}
    return Thresholds(values, STEPS, "given", "channel", source, ("a warning",), neuron, corrections, weights)


def corrected(name: str, neuron: str, shuffle: str = "none") -> SpikingModel:
    graph = prepared(name)
    return convert(graph, thresholds(graph, neuron), neuron=neuron, steps=STEPS, shuffle=shuffle)


CASES = [("shortcut", neuron) for neuron in CONVERTIBLE] + [("signed", "two-phase"), ("signed", "tpp")]


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize(("name", "neuron"), CASES)
def test_a_round_trip_changes_no_spike(name: str, neuron: str, shuffle: str, tmp_path: Path) -> None:
    original = corrected(name, neuron, shuffle)
    save(tmp_path / "1.snn", original, {})
    once, _ = load(tmp_path / "1.snn")
    save(tmp_path / "2.snn", once, {})
    twice, _ = load(tmp_path / "2.snn")
    for executor in original.executors:
        expected = original(images(), executor=executor)
        assert torch.equal(once(images(), executor=executor), expected)
        assert torch.equal(twice(images(), executor=executor), expected)


@pytest.mark.parametrize(("name", "neuron"), CASES)
def test_the_corrections_come_back_as_they_were(name: str, neuron: str, tmp_path: Path) -> None:
    original = corrected(name, neuron)
    save(tmp_path / "x.snn", original, {})
    model, _ = load(tmp_path / "x.snn")
    loaded = model.thresholds
    for field in ("steps", "rule", "per", "source", "warnings", "neuron"):
        assert getattr(loaded, field) == getattr(original.thresholds, field)
    for site in original.graph.sites:
        expected = original.thresholds.corrections.get(site.name, Correction())
        for found, value in zip(loaded.corrections[site.name], expected, strict=True):
            assert (found is None) == (value is None)
            assert value is None or torch.equal(found, value)
    for before, after in zip(constants(original), constants(model), strict=True):
        value, found = original.thresholds.weights.get(before), loaded.weights.get(after)
        assert (found is None) == (value is None) == before.startswith("head")
        assert value is None or (found is not None and torch.equal(found, value))


def constants(model: SpikingModel) -> list[str]:
    """Return the names of the constants, in the order in which the graph reads them."""
    return [str(node.target) for node in model.ann.graph.nodes if node.op == "get_attr"]


@pytest.mark.parametrize(("name", "neuron"), CASES)
def test_the_network_itself_is_in_the_file_unchanged(name: str, neuron: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = NETWORKS[name]().eval()(images())
    original = corrected(name, neuron)
    assert torch.allclose(original.ann(images()), expected, atol=1e-6)
    assert not torch.allclose(original.body(images()), expected, atol=1e-3)
    save(tmp_path / "x.snn", original, {})
    loaded, _ = load(tmp_path / "x.snn")
    assert torch.equal(loaded.ann(images()), original.ann(images()))
    assert torch.equal(loaded.graph.module(images()), original.ann(images()))
    assert torch.equal(loaded.body(images()), original.body(images()))


@pytest.mark.parametrize(("name", "neuron"), CASES)
def test_a_copy_says_the_same_and_stands_alone(name: str, neuron: str) -> None:
    original = corrected(name, neuron)
    expected = {executor: original(images(), executor=executor) for executor in original.executors}
    twin, ann = copy.deepcopy(original), original.ann(images())
    assert torch.equal(twin.ann(images()), ann)
    for buffer in original.buffers():
        buffer.zero_()
    for executor, answer in expected.items():
        assert torch.equal(twin(images(), executor=executor), answer)
    assert torch.equal(twin.ann(images()), ann)


@pytest.mark.parametrize(("name", "neuron"), CASES)
def test_in_double_precision_it_is_what_is_converted_there(name: str, neuron: str, tmp_path: Path) -> None:
    model, graph, x = corrected(name, neuron), prepared(name), images().double()
    ann = model.ann(images()).double()
    model.double()
    assert torch.allclose(model.ann(x), ann, atol=1e-5)
    graph.module.double()
    expected = convert(graph, thresholds(prepared(name), neuron), neuron=neuron, steps=STEPS)
    save(tmp_path / "x.snn", model, {})
    loaded, _ = load(tmp_path / "x.snn")
    for executor in model.executors:
        found = model(x, executor=executor)
        assert found.dtype is torch.float64
        assert torch.equal(found, expected(x, executor=executor))
        assert torch.equal(loaded(x, executor=executor), found)


def test_another_type_and_back_changes_nothing() -> None:
    model = corrected("shortcut", "two-phase")
    expected = model(images())
    assert torch.equal(model.double().float()(images()), expected)


def parts(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        return {n: file.get_tensor(n) for n in file.keys()}, json.loads(file.metadata()["snnconvert"])  # noqa: SIM118


@pytest.mark.parametrize("neuron", CONVERTIBLE)
@pytest.mark.parametrize(("version", "without"), [(1, ("neuron", "bursts")), (2, ("bursts",)), (3, ())])
def test_files_of_earlier_formats_are_read(version: int, without: tuple[str, ...], neuron: str, tmp_path: Path) -> None:
    graph = prepared()
    values = {site.name: torch.full((1,), 0.7) for site in graph.sites}
    original = convert(graph, Thresholds(values, None, "given", "layer"), neuron=neuron, steps=STEPS)
    save(tmp_path / "x.snn", original, {"a": 1})
    tensors, document = parts(tmp_path / "x.snn")
    assert {name.split(".")[0] for name in tensors} == {"weights", "threshold"}
    assert document["format"] == FORMAT == 4
    for name in without:  # which is all that the earlier format does not have, but for half precision
        del document["thresholds"][name]
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    write_tensors(tmp_path / "old.snn", tensors, "snnconvert", document | {"format": version})
    loaded, about = load(tmp_path / "old.snn")
    assert about == {"a": 1}
    assert loaded.thresholds.neuron is None
    assert loaded.thresholds.weights == loaded.thresholds.bursts == {}
    assert torch.equal(loaded(images()), original(images()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias.site_0": torch.ones(3)}, r"expected a finite bias of shape \[4\] or \[6, 4\], got shape \[3\]"),
        ({"potential.site_0": torch.ones(4, 1, 1)}, r"a finite potential of shape \[4\] or \[4, 6, 6\]"),
        ({"height.site_0": torch.full((4,), torch.nan)}, "a finite height .* got NaN or infinity"),
        ({"changed.stem_weight_value": torch.ones(4, 1, 3)}, "changed weights 'weight_.*' that do not fit"),
        ({"changed.stem_weight_value": torch.full((4, 1, 3, 3), torch.inf)}, "that are NaN or infinite"),
    ],
)
def test_corrections_that_do_not_fit_are_a_damaged_file(
    change: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.snn"
    save(path, corrected("shortcut", "two-phase"), {})
    tensors, document = parts(path)
    assert set(change) <= set(tensors)
    write_tensors(path, tensors | change, "snnconvert", document)
    with pytest.raises(ArtefactRefused, match=rf"x\.snn is a damaged \.snn file: CalibrationRefused: .*{message}"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neuron": "tpp"}, "corrections for 'tpp' neurons, got 'two-phase'"),
        ({"steps": 4}, "computed for T=4, got T=6"),
        ({"corrections": {}}, "damaged .snn file: TypeError"),
    ],
)
def test_corrections_for_something_else_are_a_damaged_file(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.snn"
    save(path, corrected("shortcut", "two-phase"), {})
    tensors, document = parts(path)
    document["thresholds"] |= change
    write_tensors(path, tensors, "snnconvert", document)
    with pytest.raises(ArtefactRefused, match=message):
        load(path)


def test_a_loaded_model_is_converted_again_for_its_neuron_and_window_only(tmp_path: Path) -> None:
    original = corrected("shortcut", "two-phase")
    save(tmp_path / "x.snn", original, {})
    loaded, _ = load(tmp_path / "x.snn")
    again = convert(loaded.graph, loaded.thresholds, neuron="two-phase", steps=STEPS)
    assert torch.equal(again(images()), original(images()))
    with pytest.raises(CalibrationRefused, match="for 'two-phase' neurons, got 'tpp'"):
        convert(loaded.graph, loaded.thresholds, neuron="tpp", steps=STEPS)
    with pytest.raises(CalibrationRefused, match="computed for T=6, got T=7"):
        convert(loaded.graph, loaded.thresholds, neuron="two-phase", steps=7)
