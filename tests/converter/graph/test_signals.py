"""Signals, constants and structure, on a graph written by hand."""

import operator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from snnconvert.converter.graph import functions, prepare
from snnconvert.converter.graph.operations import OPERATIONS, Kind
from snnconvert.converter.graph.signals import (
    constant_in_time,
    constants,
    imageless,
    kind_of,
    nodes_in,
    operation_of,
    structure,
)
from snnconvert.converter.graph.sites import site_of


def test_nodes_are_told_apart() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    weight = graph.get_attr("weight")
    doubled = graph.call_function(torch.mul, (weight, 2))
    product = graph.call_function(F.linear, (x, doubled))
    size = graph.call_method("size", (x, 0))
    shape = graph.call_function(getattr, (x, "shape"))
    last = graph.call_function(operator.getitem, (shape, -1))
    half = graph.call_function(operator.floordiv, (last, 2))
    ramp = graph.call_function(torch.arange, (half,))
    transposed = graph.call_function(getattr, (x, "T"))
    check = graph.call_function(torch._assert, (x, "message"))
    mixed = graph.call_function(torch.add, (product, ramp))
    output = graph.output(mixed)
    assert constants(graph) == {weight, doubled}
    assert structure(graph) == {size, shape, last, half, ramp, check}
    assert imageless(graph) == constants(graph) | structure(graph)
    assert not {x, product, transposed, mixed, output} & (constants(graph) | structure(graph))


def test_a_graph_of_signals_has_neither() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.relu, (x,)))
    assert constants(graph) == set()
    assert structure(graph) == set()


def test_what_is_computed_from_weights_and_shapes_is_imageless() -> None:
    graph = fx.Graph()
    x, weight = graph.placeholder("x"), graph.get_attr("weight")
    size = graph.call_method("size", (x, 1))
    cut = graph.call_function(torch.narrow, (weight, 0, 0, size))
    sum_ = graph.call_function(torch.add, (x, cut))
    graph.output(sum_)
    assert imageless(graph) == {weight, size, cut}
    assert cut not in constants(graph) | structure(graph)


KINDS: dict[str, tuple[Any, Kind | None]] = {
    "convolution": (lambda g, x, y, w: g(F.conv2d, x, w, w), Kind.LINEAR),
    "convolution by name": (lambda g, x, y, w: g(F.conv2d, x, weight=w), Kind.LINEAR),
    "convolution with signal weights": (lambda g, x, y, w: g(F.conv2d, x, y), Kind.ANALOG),
    "convolution of a weight with a signal": (lambda g, x, y, w: g(F.conv2d, w, y), Kind.ANALOG),
    "convolution with a signal bias": (lambda g, x, y, w: g(F.conv2d, x, w, bias=y), Kind.ANALOG),
    "linear with signal weights": (lambda g, x, y, w: g(F.linear, w, x), Kind.ANALOG),
    "sum": (lambda g, x, y, w: g(torch.add, x, y, alpha=2), Kind.LINEAR),
    "concat": (lambda g, x, y, w: g(torch.cat, [x, w, y], 1), Kind.LINEAR),
    "assignment of a signal": (lambda g, x, y, w: g(functions.assign, x, (slice(None), 0), y), Kind.LINEAR),
    "product with a weight": (lambda g, x, y, w: g(torch.mul, w, x), Kind.LINEAR),
    "product with a number": (lambda g, x, y, w: g(torch.mul, x, 2.0), Kind.LINEAR),
    "product of two signals": (lambda g, x, y, w: g(torch.mul, x, y), Kind.ANALOG),
    "product with itself": (lambda g, x, y, w: g(torch.mul, x, x), Kind.ANALOG),
    "product of two signals by name": (lambda g, x, y, w: g(torch.mul, x, other=y), Kind.ANALOG),
    "matrices": (lambda g, x, y, w: g(torch.matmul, w, y), Kind.LINEAR),
    "matrices of signals": (lambda g, x, y, w: g(torch.matmul, x, y), Kind.ANALOG),
    "einsum": (lambda g, x, y, w: g(torch.einsum, "ij,jk->ik", x, w), Kind.LINEAR),
    "einsum of signals": (lambda g, x, y, w: g(torch.einsum, "ij,jk->ik", x, y), Kind.ANALOG),
    "quotient": (lambda g, x, y, w: g(torch.div, x, w), Kind.LINEAR),
    "quotient of signals": (lambda g, x, y, w: g(torch.div, x, y), Kind.ANALOG),
    "quotient by a signal": (lambda g, x, y, w: g(torch.div, 1.0, x), Kind.ANALOG),
    "selection by a signal": (lambda g, x, y, w: g(torch.index_select, x, 1, y), Kind.ANALOG),
    "maximum pool": (lambda g, x, y, w: g(F.max_pool2d, x, 2), Kind.WINDOW),
    "activation": (lambda g, x, y, w: g(F.prelu, x, w), Kind.ACTIVATION),
    "activation with a signal slope": (lambda g, x, y, w: g(F.prelu, x, y), Kind.ANALOG),
    "power of a number": (lambda g, x, y, w: g(torch.pow, 2.0, x), Kind.ANALOG),
    "layer norm": (lambda g, x, y, w: g(F.layer_norm, x, (4,), w), Kind.ANALOG),
    "unknown": (lambda g, x, y, w: g(torch.special.bessel_j0, x), None),
    "weights": (lambda g, x, y, w: g(torch.mul, w, w), Kind.LINEAR),
}


@pytest.mark.parametrize(("make", "kind"), KINDS.values(), ids=KINDS)
def test_the_kind_of_a_call_depends_on_which_arguments_are_signals(make: Any, kind: Kind | None) -> None:
    graph = fx.Graph()
    x, y, weight = graph.placeholder("x"), graph.placeholder("y"), graph.get_attr("weight")
    node = make(lambda function, *args, **kwargs: graph.call_function(function, args, kwargs), x, y, weight)
    assert kind_of(node, constants(graph)) is kind
    assert operation_of(node) is OPERATIONS.get(node.target)
    assert kind_of(x, set()) is None


def test_nodes_are_found_in_nested_arguments_in_order() -> None:
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    assert nodes_in(([y, 1], {"a": (x, slice(None, y))})) == [y, x, y]
    assert nodes_in(3) == []


def test_what_is_constant_in_time_ends_at_the_first_site(network: Any, images: Tensor) -> None:
    graph = prepare(network(lambda m, x: m.head(m.relu(m.conv(x * 2)) + m.conv(x))), images).module.graph
    constant = constant_in_time(graph)
    sites = {n for n in graph.nodes if site_of(n) is not None}
    assert {n.name for n in graph.nodes if n.op in ("placeholder", "get_attr")} <= {n.name for n in constant}
    assert sum(n.target is F.conv2d for n in constant) == 2
    assert not constant & (sites | {r for s in sites for r in s.users})
