"""Artefacts: the same spikes after a round trip, and a refusal for everything that is not one."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_structure

from snnconvert.converter.artifact import decode, encode, load, save
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ArtefactRefused, ModelRefused
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import NEURONS, SHUFFLES
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.tensor_file import write_tensors
from snnconvert.converter.thresholds import Thresholds


class Shortcut(nn.Module):
    """A CIFAR ResNet's parameter-free shortcut, ReLU6, a concat and a pool of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.wide = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self.norm(self.stem(x)))
        y = F.relu(self.wide(h) + F.pad(h[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2), "constant", 0))
        y = F.max_pool2d(torch.cat([y, F.relu(-y + 0.5)], 1), 2, padding=1)
        return self.head(y.mean((2, 3)))


class TwoInputs(nn.Module):
    """Two images in, a nested structure out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        h = F.hardtanh(self.a(x) - self.b(y), 0.0, 2.5)
        return {"logits": h.mean((2, 3)), "more": [h.flatten(1)[:, :3], (h.sum((1, 2, 3)),)]}


class Tied(nn.Module):
    """One layer that is called twice, weights that are views of each other, and layouts that are not contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.b.weight = nn.Parameter(self.a.weight.detach().t())
        self.strange = nn.ModuleDict({"a-b, c": nn.Linear(64, 6), "0": nn.Linear(6, 2)})

    def forward(self, x: Tensor) -> Tensor:
        h = self.strange["a-b, c"](x.flatten(1)).relu()
        return self.strange["0"](self.a(self.b(self.a(h).relu()).relu()).relu())


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def spiking(graph: PreparedGraph, theta: float = 0.6, **options: Any) -> SpikingModel:
    values = {s.name: torch.linspace(theta, 1.5 * theta, s.channels) for s in graph.sites}
    return convert(graph, Thresholds(values, None, "given", "channel", {"images": 0}, ("a warning",)), **options)


def simple(**options: Any) -> SpikingModel:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    return spiking(prepare(model, images(2)), **options)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "shortcut": Shortcut,
    "shortcut in double": lambda: Shortcut().double(),
    "two inputs": TwoInputs,
    "tied": Tied,
}


def of_each_kind(graph: PreparedGraph) -> list[SpikingModel]:
    kinds: list[dict[str, Any]] = [{"neuron": n, "shuffle": s} for n in NEURONS for s in SHUFFLES]
    kinds += [{"neuron": "if", "initial_potential": 0.1}, {"neuron": "if", "shift": True}]
    return [spiking(graph, steps=5, seed=2**60 + 1, **kind) for kind in kinds]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_round_trip_changes_no_spike(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    x = images().double() if "double" in name else images()
    inputs = (x, x.flip(0)) if name == "two inputs" else (x,)
    graph = prepare(model, tuple(i[:2] for i in inputs))
    for number, original in enumerate(of_each_kind(graph)):
        save(tmp_path / f"{number}.snn", original, {})
        loaded, _ = load(tmp_path / f"{number}.snn")
        assert loaded.describe() == original.describe()
        for executor in original.executors:
            expected, found = (m(*inputs, executor=executor) for m in (original, loaded))
            assert tree_structure(found) == tree_structure(expected)
            for e, f in zip(tree_leaves(expected), tree_leaves(found), strict=True):
                assert f.dtype == e.dtype
                assert torch.equal(f, e)


def test_pools_and_residual_adds_survive(network: nn.Module, images: Tensor, tmp_path: Path) -> None:
    for original in of_each_kind(prepare(network, images)):
        save(tmp_path / "x.snn", original, {})
        loaded, _ = load(tmp_path / "x.snn")
        for executor in original.executors:
            assert torch.equal(loaded(images, executor=executor), original(images, executor=executor))
        assert loaded.end_to_end_steps == original.end_to_end_steps


def test_a_second_round_trip_changes_nothing_either(tmp_path: Path) -> None:
    original = simple(neuron="tpp", seed=7)
    save(tmp_path / "1.snn", original, {"a": 1})
    once, about = load(tmp_path / "1.snn")
    save(tmp_path / "2.snn", once, about)
    twice, again = load(tmp_path / "2.snn")
    assert again == about == {"a": 1}
    assert torch.equal(twice(images()), original(images()))
    assert twice.graph.proof == original.graph.proof
    assert twice.graph.notes == original.graph.notes
    for field in ("steps", "rule", "per", "source", "warnings"):
        assert getattr(twice.thresholds, field) == getattr(original.thresholds, field)
    for name, theta in original.thresholds.values.items():
        assert torch.equal(twice.thresholds.values[name], theta)


def test_the_seed_at_hand_is_stored(tmp_path: Path) -> None:
    original = simple(neuron="tpp")
    original.seed = 11
    save(tmp_path / "x.snn", original, {})
    assert load(tmp_path / "x.snn")[0].seed == 11


def test_an_artefact_needs_no_library_of_models(tmp_path: Path) -> None:
    original = simple(neuron="tpp", steps=4)
    save(tmp_path / "x.snn", original, {})
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("timm", "torchvision"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import pathlib, torch
from snnconvert.converter.artifact import load
model, _ = load(pathlib.Path({str(tmp_path / "x.snn")!r}))
x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
print(model(x).double().sum().item().hex())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float.fromhex(done.stdout.strip()) == original(images()).double().sum().item()


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(
    [..., torch.float32, torch.float64, torch.bfloat16, torch.float16]
)  # fmt: skip
number = st.none() | st.integers()
arguments = st.recursive(
    plain | st.builds(slice, number, number, number),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.builds(slice, inner, inner)
    ),
    max_leaves=8,
)


def form(value: Any) -> Any:
    """Return ``value`` in a form that tells apart whatever == does not: types, signs of zero, NaN."""
    if isinstance(value, list | tuple):
        return type(value), [form(v) for v in value]
    if isinstance(value, dict):
        return dict, [(form(k), form(v)) for k, v in value.items()]
    if isinstance(value, slice):
        return slice, form((value.start, value.stop, value.step))
    return type(value), repr(value)


@settings(max_examples=200, deadline=None)
@given(arguments)
def test_arguments_survive_json(value: Any) -> None:
    text = json.dumps(encode(value), allow_nan=False)
    assert form(decode(json.loads(text), {})) == form(value)


def test_nodes_are_arguments_too() -> None:
    node = fx.Graph().placeholder("x")
    value = [node, (node, slice(None, 3)), {"a": node}]
    assert decode(json.loads(json.dumps(encode(value))), {"x": node}) == value
    with pytest.raises(ArtefactRefused, match="'x' is read before it is there"):
        decode({"node": "x"}, {})


@pytest.mark.parametrize("value", [torch.ones(1), 1j, object(), torch.device("cpu"), torch.int64, b"a", {"a": print}])
def test_arguments_without_a_form_are_refused(value: Any) -> None:
    with pytest.raises(ModelRefused, match=r"no place in a \.snn file"):
        encode(value)


@pytest.mark.parametrize("value", [{"eval": "1"}, {"float": 1, "node": 2}, {"__import__": ["os"]}])
def test_unknown_forms_are_refused(value: Any) -> None:
    with pytest.raises(ArtefactRefused, match="unknown form of argument"):
        decode(value, {})


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    path = tmp_path / "x.snn"
    save(path, simple(neuron="tpp", steps=4), {"classes": 3})
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
    "a weight of another shape": (put("weights.", torch.ones(2, 2)), "damaged .snn file"),
    "a weight of another type": (put("weights.", torch.ones(4, 1, 3, 3, dtype=torch.int64)), "damaged .snn file"),
    "a threshold that is missing": (drop("threshold."), "damaged .snn file: KeyError"),
    "a threshold of another shape": (put("threshold.", torch.ones(3)), "has 4 channels, its thresholds have shape"),
    "a threshold that is NaN": (put("threshold.", torch.full((4,), math.nan)), "a threshold is NaN or infinite"),
    "a threshold that is infinite": (put("threshold.", torch.full((4,), math.inf)), "a threshold is NaN or infinite"),
    "a threshold of zero": (put("threshold.", torch.zeros(4)), "must be a positive number, got 0.0"),
    "no site": (change("sites", value={}), "unknown site"),
    "an unknown neuron": (change("conversion", "neuron", value="lif"), "unknown neuron 'lif'"),
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
    write_tensors(path, tensors, "snnconvert", document | {"format": 2})
    with pytest.raises(ArtefactRefused, match="has format 2"):
        load(path)


def test_an_argument_without_a_form_is_refused_on_saving(tmp_path: Path) -> None:
    model = simple()
    call = next(n for n in model.ann.graph.nodes if n.op == "call_function")
    call.kwargs = {"device": torch.device("cpu")}
    with pytest.raises(ModelRefused, match="type device"):
        save(tmp_path / "x.snn", model, {})
    assert list(tmp_path.iterdir()) == []
