"""Signals, constants and structure, on a graph written by hand."""

import operator

import torch
import torch.nn.functional as F
from torch import fx

from snnconvert.converter.graph.signals import constants, structure


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
    assert not {x, product, transposed, mixed, output} & (constants(graph) | structure(graph))


def test_a_graph_of_signals_has_neither() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.relu, (x,)))
    assert constants(graph) == set()
    assert structure(graph) == set()
