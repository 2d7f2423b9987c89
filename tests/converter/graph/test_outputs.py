"""What a model returns: nestings of tensors keep their form, anything else is refused by name."""

from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import snnconvert
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import check, prepare
from snnconvert.converter.thresholds import Thresholds


class Answer(NamedTuple):
    logits: Any
    features: Any = None


Pair = namedtuple("Pair", "first second")


@dataclass
class Object:
    logits: Tensor


def test_named_tuples(network: Any, images: Tensor, converts: Any, tmp_path: Path) -> None:
    def forward(m: Any, x: Tensor) -> Any:
        h = m.relu(m.conv(x))
        return Answer(m.head(h), [Pair(first=h.mean((2, 3)), second={"deep": Pair(m.head(m.relu(m.conv2(h))), x)})])

    model = network(forward)
    graph = converts(model, images)
    assert check(model, images) == graph.audit
    thresholds = Thresholds({s.name: torch.full((s.channels,), 2.0).double() for s in graph.sites}, None, "given", "x")
    snn = convert(graph, thresholds, neuron="two-phase", steps=8)
    for executor in snn.executors:
        found = snn(images, executor=executor)
        assert type(found) is Answer
        assert type(found.features[0]) is tuple  # as any inside another
    snnconvert.save(tmp_path / "pair.snn", snn, {})
    opened = snnconvert.load(tmp_path / "pair.snn")[0](images, executor=executor)
    assert type(opened) is tuple  # a file holds no classes
    assert torch.equal(opened[1][0][1]["deep"][0], found.features[0][1]["deep"][0])


@pytest.mark.parametrize("neuron", ["if", "two-phase"])
def test_nothing_beside_tensors_passes_through(network: Any, images: Tensor, tmp_path: Path, neuron: str) -> None:
    model = network(lambda m, x: {"aux": None, "out": (m.head(m.relu(m.conv(x))), None)})
    graph = prepare(model, images)
    assert check(model, images) == graph.audit
    thresholds = Thresholds({s.name: torch.full((s.channels,), 2.0).double() for s in graph.sites}, None, "given", "x")
    snn = convert(graph, thresholds, neuron=neuron, steps=8)
    snnconvert.save(tmp_path / "none.snn", snn, {})
    for executor in snn.executors:
        found = snn(images, executor=executor)
        assert (found["aux"], found["out"][1], found["out"][0].shape) == (None, None, (3, 5))
        opened = snnconvert.load(tmp_path / "none.snn")[0](images, executor=executor)
        assert torch.equal(opened["out"][0], found["out"][0])
    if snn.answers_every_step:
        assert snn.by_t(images)["aux"] is None


OTHERS: dict[str, tuple[Any, str]] = {
    "a number": (lambda y: (y, 3), "int"),
    "a size": (lambda y: {"y": y, "size": y.size(1)}, "int"),
    "nothing": (lambda y: None, "nothing"),
    "an object": (Object, "Object"),
    "an object in a named tuple": (lambda y: Answer(y, Object(y)), "Object"),
}


@pytest.mark.parametrize(("result", "kind"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_tensor_is_refused(network: Any, images: Tensor, result: Any, kind: str) -> None:
    model = network(lambda m, x: result(m.head(m.relu(m.conv(x)))))
    with pytest.raises(ModelRefused, match=f"must return tensors only, got {kind}\nhint: .*tuples, lists or dicts"):
        prepare(model, images)
    assert f"got {kind}" in check(model, images).reasons[0]
