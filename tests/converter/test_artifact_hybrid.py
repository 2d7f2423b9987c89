"""Artefacts of networks with signed sites and analog operations, and artefacts from before there were any."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_structure

from snnconvert.converter.artifact import load, save
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ArtefactRefused
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.graph.activation import activation
from snnconvert.converter.graph.operations import BY_NAME
from snnconvert.converter.neurons import SHUFFLES
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.tensor_file import write_tensors
from snnconvert.converter.thresholds import Thresholds


class Hybrid(nn.Module):
    """A gate, a pool of both signs, attention over patches, and outputs in a structure."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.block = nn.ModuleDict({"norm": nn.LayerNorm(6), "hidden": nn.Linear(6, 8), "out": nn.Linear(8, 6)})
        self.attention, self.head = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> dict[str, Any]:
        h = F.silu(self.stem(x))
        h = F.max_pool2d(h * self.gate(h.mean((2, 3), keepdim=True)).sigmoid(), 2).flatten(2).transpose(1, 2)
        n = self.block["norm"](h)
        h = h + self.attention(n, n, n)[0]
        h = h + self.block["out"](F.gelu(self.block["hidden"](h)))
        return {"logits": self.head(h.mean(1)), "parts": [h.softmax(2), n]}


def images(count: int = 5) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def spiking(graph: PreparedGraph, **options: Any) -> SpikingModel:
    dtype = graph.weight.dtype
    values = {s.name: torch.linspace(0.2, 0.5, s.channels, dtype=dtype) for s in graph.sites}
    return convert(graph, Thresholds(values, None, "given", "channel"), steps=5, **options)


@pytest.fixture
def graph() -> PreparedGraph:
    torch.manual_seed(0)
    return prepare(Hybrid().eval(), images(2))


def header(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["snnconvert"])
        return found


def edit(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> None:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    document = header(path)
    change(document, tensors)
    write_tensors(path, tensors, "snnconvert", document)


def equal(found: Any, expected: Any) -> bool:
    same = (torch.equal(f, e) for f, e in zip(tree_leaves(found), tree_leaves(expected), strict=True))
    return tree_structure(found) == tree_structure(expected) and all(same)


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("neuron", ["two-phase", "tpp"])
def test_a_round_trip_changes_no_spike(graph: PreparedGraph, tmp_path: Path, neuron: str, shuffle: str) -> None:
    original = spiking(graph, neuron=neuron, shuffle=shuffle, seed=5)
    save(tmp_path / "x.snn", original, {})
    loaded, _ = load(tmp_path / "x.snn")
    assert loaded.describe() == original.describe()
    assert [(s.name, s.signed, s.shape, s.axis) for s in loaded.graph.sites] == [
        (s.name, s.signed, s.shape, s.axis) for s in original.graph.sites
    ]
    assert sum(site.signed for site in loaded.graph.sites) >= 4
    for executor in original.executors:
        assert equal(loaded(images(), executor=executor), original(images(), executor=executor))
        assert equal(loaded.activity(images(), executor=executor), original.activity(images(), executor=executor))


def test_the_header_says_what_spikes_and_what_does_not(graph: PreparedGraph, tmp_path: Path) -> None:
    save(tmp_path / "x.snn", spiking(graph, neuron="two-phase"), {})
    found = header(tmp_path / "x.snn")["audit"]
    assert found["sites"] == {site.name: site.spikes for site in graph.sites}
    assert set(found["sites"].values()) == {"ternary", "binary"}
    analog = [(entry["name"], entry.get("path")) for entry in found["analog"]]
    assert ("layer_norm", "block.norm") in analog
    assert any(path == "attention" for _, path in analog)
    assert ("mul", None) in analog  # the gate, in the forward pass of the network itself
    assert found["convertible"] is True
    assert found["spiking"] is False
    assert found["verdict"].startswith(f"hybrid: {len(graph.sites)} sites, ")
    assert found["counts"]["analog"] == len(analog)
    assert found["counts"]["spiking site"] == len(graph.sites)


def test_the_audit_of_a_loaded_network_is_that_of_the_prepared_one(graph: PreparedGraph, tmp_path: Path) -> None:
    original = spiking(graph, neuron="tpp")
    save(tmp_path / "1.snn", original, {})
    loaded, _ = load(tmp_path / "1.snn")
    found, expected = loaded.graph.audit, original.graph.audit
    assert [(e.name, e.role, e.spikes, e.path) for e in found.operations if e.spikes is None] == [
        (e.name, e.role, e.spikes, e.path) for e in expected.operations if e.spikes is None
    ]
    assert (found.verdict, found.neurons, found.executors) == (expected.verdict, expected.neurons, expected.executors)
    save(tmp_path / "2.snn", loaded, {})
    again, once = header(tmp_path / "2.snn")["audit"], header(tmp_path / "1.snn")["audit"]
    paths = [[(entry["name"], entry.get("path")) for entry in audit["analog"]] for audit in (again, once)]
    assert paths[0] == paths[1]
    assert again["sites"] == once["sites"]


def test_a_file_without_the_new_fields_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(64, 3))
    original = spiking(prepare(model.eval(), images(2)), neuron="if")
    save(tmp_path / "x.snn", original, {"a": 1})

    def age(document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        del document["audit"]
        for site in document["sites"].values():
            del site["signed"]
        assert sum("path" in node for node in document["nodes"]) > 0
        for node in document["nodes"]:
            node.pop("path", None)

    edit(tmp_path / "x.snn", age)
    loaded, about = load(tmp_path / "x.snn")
    assert about == {"a": 1}
    assert not any(site.signed for site in loaded.graph.sites)
    for executor in original.executors:
        assert torch.equal(loaded(images(), executor=executor), original(images(), executor=executor))


def test_a_pool_before_a_layer_from_before_pools_were_encoded_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.MaxPool2d(2), nn.Conv2d(2, 3, 3))
    model.double().eval()
    x = images().double()
    original = spiking(prepare(model, x[:2]), neuron="two-phase")
    save(tmp_path / "x.snn", original, {})

    def age(document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        nodes = {node["name"]: node for node in document["nodes"]}
        (pool,) = (name for name, node in nodes.items() if node.get("target") == "max_pool2d")
        encoders = [c for c, site in document["sites"].items() if site["name"] in ("3.positive", "3.negative")]
        gone = [n for n, node in nodes.items() if node.get("target") in ("neg", "sub", *encoders)]
        assert len(gone) == 4
        document["nodes"] = [node for name, node in nodes.items() if name not in gone]
        nodes[document["nodes"][-2]["name"]]["args"][0] = {"node": pool}
        for child in encoders:
            del document["sites"][child], tensors[f"threshold.{child}"]

    edit(tmp_path / "x.snn", age)
    loaded, _ = load(tmp_path / "x.snn")
    theta = loaded.thresholds.values["1"][:, None, None]
    with torch.no_grad():
        said = theta / 5 * (model[0](x) * 5 / theta + 0.5).floor().clamp(0, 5)
        expected = model[2:](said)
    for executor in loaded.executors:
        assert torch.allclose(loaded(x, executor=executor), expected, atol=1e-12)
    assert (loaded.end_to_end_steps, original.end_to_end_steps) == (2 * 5, 3 * 5)


@pytest.mark.usefixtures("own_operations")
def test_a_registered_activation_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @activation("artifact_bump")
    def bump(x: Tensor, width: float = 1.0) -> Tensor:
        return x * torch.exp(-((x / width) ** 2))

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(bump(self.a(x), width=2.0)).mean((2, 3))

    torch.manual_seed(0)
    original = spiking(prepare(Own().eval(), images(2)), neuron="two-phase")
    assert original.spike_type == "ternary"
    save(tmp_path / "x.snn", original, {})
    loaded, _ = load(tmp_path / "x.snn")
    for executor in original.executors:
        assert torch.equal(loaded(images(), executor=executor), original(images(), executor=executor))
    monkeypatch.delitem(BY_NAME, "artifact_bump")
    with pytest.raises(ArtefactRefused, match=r"unknown operation 'artifact_bump'(?s:.*)snnconvert\.activation"):
        load(tmp_path / "x.snn")
