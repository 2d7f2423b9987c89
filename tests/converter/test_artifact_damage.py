"""Damaged artefacts: a refusal that says what is wrong, for everything that is none, and no code that runs."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from snnconvert.converter.artifact import FORMAT, load, save
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ArtefactRefused
from snnconvert.converter.graph import prepare
from snnconvert.converter.tensor_file import write_tensors
from snnconvert.converter.thresholds import Thresholds


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    path = tmp_path / "x.snn"
    torch.manual_seed(0)
    graph = prepare(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval(), images(2))
    thresholds = Thresholds({"1": torch.linspace(0.6, 0.9, 4)}, None, "given", "channel")
    save(path, convert(graph, thresholds, neuron="tpp", steps=4), {"classes": 3})
    with safe_open(path, "pt") as file:
        tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
        return path, tensors, json.loads(file.metadata()["snnconvert"])


Parts = tuple[Path, dict[str, Tensor], dict[str, Any]]


def node(document: dict[str, Any], op: str) -> dict[str, Any]:
    return next(n for n in document["nodes"] if n["op"] == op)


def change_node(kind: str, /, **fields: Any) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    return lambda tensors, document: node(document, kind).update(fields)


def change(*keys: Any, value: Any) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    def apply(tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return apply


def drop(prefix: str) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    def apply(tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
        del tensors[next(name for name in tensors if name.startswith(prefix))]

    return apply


def put(prefix: str, value: Tensor) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    def apply(tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
        tensors[next(name for name in tensors if name.startswith(prefix))] = value

    return apply


DAMAGE: dict[str, tuple[Callable[[dict[str, Tensor], dict[str, Any]], None], str]] = {
    "an operation with a dot": (change_node("call_function", target="os.system"), "unknown operation 'os.system'"),
    "a builtin": (change_node("call_function", target="__import__"), "unknown operation '__import__'"),
    "a module as an operation": (change_node("call_function", target=["eval"]), "damaged .snn file: TypeError"),
    "a method": (change_node("call_function", op="call_method"), "unknown kind of node 'call_method'"),
    "no kind": (change_node("call_function", op=None), "unknown kind of node None"),
    "an unknown site": (change_node("call_module", target="site_9"), "unknown site 'site_9'"),
    "an attribute": (change_node("get_attr", target="__class__.__init__"), "unknown weight '__class__.__init__'"),
    "an argument without a name": (
        change_node("call_function", kwargs={"a=print(), b": 1}),
        "arguments without a name",
    ),
    "a keyword as an argument": (change_node("call_function", kwargs={"class": 1}), "damaged .snn file: SyntaxError"),
    "a node that comes later": (
        change_node("call_module", args=[{"node": "output"}]),
        "node 'output' is read before it is there",
    ),
    "an unknown form": (change_node("call_module", args=[{"eval": "print()"}]), "unknown form of argument 'eval'"),
    "no arguments": (change_node("call_module", args=[]), "damaged .snn file"),
    "too many arguments": (change_node("call_module", args=[{"node": "x"}] * 3), "damaged .snn file"),
    "arguments of another shape": (change_node("call_function", args=[1, 2]), "damaged .snn file"),
    "no output": (lambda t, d: d["nodes"].pop(), "damaged .snn file"),
    "no nodes": (change("nodes", value=[]), "damaged .snn file"),
    "nodes that are none": (change("nodes", value=[3]), "damaged .snn file: TypeError"),
    "nodes without a name": (lambda t, d: d["nodes"][0].pop("name"), "damaged .snn file: KeyError: 'name'"),
    "a weight that is missing": (drop("weights."), "unknown weight"),
    "a weight of another shape": (put("weights._0_weight", torch.ones(2, 2)), "damaged .snn file"),
    "a weight of another type": (put("weights.", torch.ones(4, 1, 3, 3, dtype=torch.int64)), "damaged .snn file"),
    "a threshold that is missing": (drop("threshold."), "damaged .snn file: KeyError"),
    "a threshold of another shape": (put("threshold.", torch.ones(3)), "has 4 channels, its thresholds have shape"),
    "a threshold that is NaN": (put("threshold.", torch.full((4,), math.nan)), "a threshold is NaN or infinite"),
    "a threshold that is infinite": (put("threshold.", torch.full((4,), math.inf)), "a threshold is NaN or infinite"),
    "a threshold of zero": (put("threshold.", torch.zeros(4)), "must be a positive number, got 0.0"),
    "no site": (change("sites", value={}), "unknown site"),
    "an unknown neuron": (change("conversion", "neuron", value="izhikevich"), "unknown neuron 'izhikevich'"),
    "a neuron that is no name": (change("conversion", "neuron", value=3), "unknown neuron 3"),
    "no steps": (change("conversion", "steps", value=0), "T must be a whole number from 1 to 65536, got 0"),
    "steps that are a text": (
        change("conversion", "steps", value="8"),
        "T must be a whole number from 1 to 65536, got '8'",
    ),
    "an option that is none": (change("conversion", "options", value={"leak": 1}), "damaged .snn file: TypeError"),
    "another input": (change("input_shapes", value=[[3, 8, 8]]), "damaged .snn file"),
    "no input": (change("input_shapes", value=[]), "damaged .snn file"),
    "no proof": (change("proof", value={}), "damaged .snn file: TypeError"),
    "no about": (lambda t, d: d.pop("about"), "damaged .snn file: KeyError: 'about'"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_with_a_clear_message(parts: Parts, name: str) -> None:
    path, tensors, document = parts
    damage, message = DAMAGE[name]
    damage(tensors, document)
    write_tensors(path, tensors, "snnconvert", document)
    with pytest.raises(ArtefactRefused) as refused:
        load(path)
    assert message in refused.value.message
    assert str(path) in refused.value.message
    assert refused.value.hint


INJECTIONS = [
    'x=open("{trace}", "w")',
    "x=__import__('pathlib').Path('{trace}').touch()",
    "x): open('{trace}','w')\n    return (0",
]


@pytest.mark.parametrize("code", INJECTIONS)
def test_no_name_in_a_file_becomes_code(parts: Parts, code: str) -> None:
    path, tensors, document = parts
    trace = path.with_name("trace")
    code = code.replace("{trace}", str(trace))
    weight = next(name for name in tensors if name.startswith("weights."))
    tensors[f'weights.a"),{code},("'] = tensors.pop(weight)
    for encoded in document["nodes"]:
        if encoded["op"] == "placeholder":
            encoded["target"] = code
        if encoded.get("target") == weight.removeprefix("weights."):
            encoded["target"] = f'a"),{code},("'
        if encoded["op"] == "call_module":
            encoded["target"] = f"{code}.a"
    (child,) = document["sites"]
    document["sites"] = {f"{code}.a": document["sites"][child] | {"name": code}}
    tensors[f"threshold.{code}.a"] = tensors.pop(f"threshold.{child}")
    document["nodes"] = json.loads(json.dumps(document["nodes"]).replace('"x"', json.dumps(code)))
    write_tensors(path, tensors, "snnconvert", document)
    model, _ = load(path)
    model(images())
    model.ann(images())
    assert not trace.exists()


def test_truncated_and_foreign_files_are_refused(parts: Parts, tmp_path: Path) -> None:
    path, tensors, document = parts
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:size])
        with pytest.raises(ArtefactRefused, match=r"not a \.snn file, or is truncated"):
            load(path)
    write_tensors(path, tensors, "snnconvert.calibration", document)
    with pytest.raises(ArtefactRefused, match=r"not a \.snn file"):
        load(path)
    write_tensors(path, tensors, "snnconvert", document | {"format": FORMAT + 1})
    with pytest.raises(ArtefactRefused, match=f"has format {FORMAT + 1}, .* reads up to {FORMAT}"):
        load(path)
