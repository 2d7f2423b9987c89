"""Artefacts: the same spikes after a round trip, and a refusal for everything that is not one."""

import json
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
from snnconvert.converter.neurons import CONVERTIBLE, SHUFFLES
from snnconvert.converter.simulation import SpikingModel
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
    kinds: list[dict[str, Any]] = [{"neuron": n, "shuffle": s} for n in CONVERTIBLE for s in SHUFFLES]
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


def test_an_argument_without_a_form_is_refused_on_saving(tmp_path: Path) -> None:
    model = simple()
    call = next(n for n in model.ann.graph.nodes if n.op == "call_function")
    call.kwargs = {"device": torch.device("cpu")}
    with pytest.raises(ModelRefused, match="type device"):
        save(tmp_path / "x.snn", model, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exact", [True, False])
def test_numbers_that_fit_in_half_precision_are_stored_so(exact: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.half())
        net[0].weight[0, 0] = torch.tensor([[0.0, -0.0, 65504.0], [2**-24, 6e-5, -1.5], [1.0, 0.5, 0.25]]).half()
        if not exact:
            net[3].weight[0, 0] = 1 / 3
    model = spiking(prepare(net, images(2)))
    save(tmp_path / "a.snn", model, {})
    with safe_open(tmp_path / "a.snn", "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kinds = {tuple(t.shape): t.dtype for name, t in stored.items() if name.startswith("weights.")}
    assert kinds[4, 1, 3, 3] == torch.float16
    assert kinds[3, 144] == (torch.float16 if exact else torch.float32)
    again, _ = load(tmp_path / "a.snn")
    for one, other in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
        assert not one.is_floating_point() or torch.equal(torch.signbit(one), torch.signbit(other))
    x = images()
    assert torch.equal(model(x), again(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_of_numbers_stay_what_they_are(dtype: torch.dtype, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    graph = prepare(net.to(dtype), images(2).to(dtype))
    save(tmp_path / "a.snn", spiking(graph), {})
    again, _ = load(tmp_path / "a.snn")
    assert again.graph.weight.dtype == graph.weight.dtype
