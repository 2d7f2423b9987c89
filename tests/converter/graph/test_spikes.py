"""Where neurons are placed: behind each function that is not linear and feeds weights, and nowhere else."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.graph.operations import Kind
from snnconvert.converter.graph.signals import constants, kind_of
from snnconvert.converter.graph.sites import site_of
from snnconvert.converter.graph.spikes import is_synaptic, never_negative, place_sites


def sites(graph: PreparedGraph) -> list[tuple[str, str]]:
    return [(s.name, s.spikes) for s in graph.sites]


def fed_by(graph: PreparedGraph) -> dict[str, str]:
    """Return, by the name of each site, the name of the operation that feeds it."""
    nodes = graph.module.graph.nodes
    found = {site.name: n.all_input_nodes[0] for n in nodes if (site := site_of(n)) is not None}
    return {name: getattr(n.target, "__name__", str(n.target)) for name, n in found.items()}


def squeeze_excite(m: Any, x: Tensor) -> Tensor:
    y = m.relu(m.conv(x))
    return m.head(m.conv2(y * m.gate(m.conv2(y.mean((2, 3), keepdim=True)))))


def shared_by_three(m: Any, x: Tensor) -> Tensor:
    y = m.norm(m.relu(m.conv(x)).flatten(2).transpose(1, 2))
    return m.fc(m.q(y) + m.k(y) * 2 + m.v(y)).mean(1)


def attention(m: Any, x: Tensor) -> Tensor:
    y = m.norm(m.conv(x).flatten(2).transpose(1, 2))
    return m.fc(F.scaled_dot_product_attention(m.q(y), m.k(y), m.v(y))).mean(1)


PLACED: dict[str, tuple[Any, list[tuple[str, str]], dict[str, str]]] = {
    "gelu": (lambda m, x: m.head(m.conv2(F.gelu(m.conv(x)))), [("gelu", "ternary")], {"gelu": "gelu"}),
    "gelu through a mean": (lambda m, x: m.head(F.gelu(m.conv(x))), [("gelu", "ternary")], {"gelu": "gelu"}),
    "never negative": (
        lambda m, x: m.head(m.conv2(F.softplus(m.conv(x)))),
        [("softplus", "binary")],
        {"softplus": "softplus"},
    ),
    "a gate stays analog, its product spikes": (
        squeeze_excite,
        [("relu", "binary"), ("mul", "binary")],
        {"relu": "conv2d", "mul": "mul"},
    ),
    "a product of both signs": (
        lambda m, x: m.head(m.conv2(m.relu(m.conv(x)) * m.conv(x))),
        [("relu", "binary"), ("mul", "ternary")],
        {"relu": "conv2d", "mul": "mul"},
    ),
    "one for all readers of a norm": (
        shared_by_three,
        [("relu", "binary"), ("norm", "ternary")],
        {"relu": "conv2d", "norm": "layer_norm"},
    ),
    "attention": (
        attention,
        [("norm", "ternary"), ("scaled_dot_product_attention", "ternary")],
        {"norm": "layer_norm", "scaled_dot_product_attention": "scaled_dot_product_attention"},
    ),
    "behind what only moves numbers": (
        lambda m, x: m.head(m.conv2(F.softmax(m.conv(x).flatten(2), 2).reshape(-1, 4, 8, 8))),
        [("softmax", "binary")],
        {"softmax": "reshape"},
    ),
    "an ON and an OFF population behind a max-pool of both signs": (
        lambda m, x: m.head(m.conv2(m.pool(m.conv(x)))),
        [("pool.positive", "binary"), ("pool.negative", "binary")],
        {"pool.positive": "max_pool2d", "pool.negative": "neg"},
    ),
    "one behind a max-pool of an average": (
        lambda m, x: m.head(m.conv2(m.pool(F.avg_pool2d(m.relu(m.conv(x)), 2)))),
        [("relu", "binary"), ("pool", "binary")],
        {"relu": "conv2d", "pool": "max_pool2d"},
    ),
    "none behind padding": (
        lambda m, x: m.head(m.conv2(F.max_pool2d(F.pad(m.conv(x), (1, 1, 1, 1), value=-torch.inf), 3, 2))),
        [("max_pool2d.positive", "binary"), ("max_pool2d.negative", "binary")],
        {"max_pool2d.positive": "max_pool2d", "max_pool2d.negative": "neg"},
    ),
    "two matrices of signals": (
        lambda m, x: m.fc((y := m.relu(m.conv(x)).flatten(2)) @ y.transpose(1, 2)).mean(1),
        [("relu", "binary"), ("matmul", "binary")],
        {"relu": "conv2d", "matmul": "matmul"},
    ),
    "nothing behind what feeds no weights": (
        lambda m, x: F.softmax(m.head(m.relu(m.conv(x))).sigmoid() + 1, 1),
        [("relu", "binary")],
        {"relu": "conv2d"},
    ),
    "nothing behind a product that a relu follows": (
        lambda m, x: m.head(m.conv2(m.relu(m.conv(x) * m.conv(x)))),
        [("relu", "binary")],
        {"relu": "mul"},
    ),
    "weights under einsum": (
        lambda m, x: torch.einsum("bchw,oc->bo", F.silu(m.conv(x)), m.weight),
        [("silu", "ternary")],
        {"silu": "silu"},
    ),
}


def gate_and_norm() -> dict[str, nn.Module]:
    linear = {name: nn.Linear(4, 4) for name in "qkv"}
    return {"gate": nn.Sigmoid(), "norm": nn.LayerNorm(4), **linear}


@pytest.mark.parametrize(("forward", "expected", "feeding"), PLACED.values(), ids=PLACED)
def test_sites_are_placed(
    network: Any, images: Tensor, converts: Any, forward: Any, expected: list[tuple[str, str]], feeding: dict[str, str]
) -> None:
    graph = converts(network(forward, **gate_and_norm()), images)
    assert sites(graph) == expected
    assert fed_by(graph) == feeding


@pytest.mark.parametrize("name", PLACED)
def test_weights_hear_spikes_or_the_image(network: Any, images: Tensor, name: str) -> None:
    """Walk back from all weights through linear operations: what is met there are sites and images."""
    graph = prepare(network(PLACED[name][0], **gate_and_norm()), images).module.graph
    fixed = constants(graph)
    synapses = [n for n in graph.nodes if is_synaptic(n, fixed)]
    assert synapses
    waiting, met = [n for s in synapses for n in s.all_input_nodes if n not in fixed], set()
    while waiting:
        node = waiting.pop()
        if site_of(node) is None and node.op != "placeholder":
            assert kind_of(node, fixed) is Kind.LINEAR, node
            waiting += [n for n in node.all_input_nodes if n not in fixed]
        met.add(node.op)
    assert met <= {"call_module", "placeholder", "call_function"}


def test_names_are_unique(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = F.gelu(m.conv2(F.gelu(m.conv(x))))
        y = m.act(m.conv2(m.act(m.conv2(y))))
        y = m.pool(m.conv2(m.pool(m.conv2(y))))
        y = m.conv2(y)
        return m.head(m.conv2(m.block(y) * y.sigmoid() * y))

    modules = {"act": nn.SiLU(), "block": nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1))}
    graph = converts(network(forward, **modules), images)
    names = [s.name for s in graph.sites]
    assert len(set(names)) == len(names)
    assert {"gelu", "gelu#2", "act", "act#2", "pool.positive", "pool#2.positive", "block.0", "mul"} <= set(names)


def test_a_relu_and_an_encoder_of_one_module_do_not_share_a_name(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(m.conv2(m.act(m.conv2(m.relu(m.conv(x))))))

    class ReluTimesInput(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * x

    graph = converts(network(forward, act=ReluTimesInput()), images)
    assert len({s.name for s in graph.sites}) == 3


def test_the_pair_adds_up_to_the_value(network: Any, images: Tensor) -> None:
    graph = prepare(network(lambda m, x: m.head(m.conv2(m.pool(m.conv(x))))), images)
    nodes = graph.module.graph.nodes
    difference = next(n for n in nodes if n.target is torch.sub)
    positive, negative = difference.all_input_nodes
    assert [site_of(n).name for n in (positive, negative)] == ["pool.positive", "pool.negative"]  # type: ignore[union-attr]
    assert negative.all_input_nodes[0].all_input_nodes == positive.all_input_nodes
    assert not any(s.signed for s in graph.sites)
    assert "if" in graph.audit.executors


NEVER: dict[str, tuple[Any, bool]] = {
    "abs": (lambda g, x: g(torch.abs, x), True),
    "sigmoid": (lambda g, x: g(torch.sigmoid, x), True),
    "tanh": (lambda g, x: g(torch.tanh, x), False),
    "sum of both": (lambda g, x: g(torch.add, g(torch.abs, x), g(torch.abs, x)), True),
    "sum with any": (lambda g, x: g(torch.add, g(torch.abs, x), x), False),
    "difference": (lambda g, x: g(torch.sub, g(torch.abs, x), g(torch.abs, x)), False),
    "minus a number": (lambda g, x: g(torch.add, g(torch.abs, x), -1.0), False),
    "plus a number": (lambda g, x: g(torch.add, g(torch.abs, x), 1.0), True),
    "weighted difference": (lambda g, x: g(torch.add, g(torch.abs, x), g(torch.abs, x), alpha=-1), False),
    "times a negative number": (lambda g, x: g(torch.mul, g(torch.abs, x), -0.5), False),
    "times a weight": (lambda g, x: g(torch.mul, g(torch.abs, x), g.weight), False),
    "divided": (lambda g, x: g(torch.div, g(torch.abs, x), 2), True),
    "divided by name": (lambda g, x: g(torch.div, g(torch.abs, x), other=2), True),
    "divided by a negative number": (lambda g, x: g(torch.div, g(torch.abs, x), -2), False),
    "padded": (lambda g, x: g(F.pad, g(torch.abs, x), (1, 1)), True),
    "padded below": (lambda g, x: g(F.pad, g(torch.abs, x), (1, 1), value=-1.0), False),
    "padded below by position": (lambda g, x: g(F.pad, g(torch.abs, x), (1, 1), "constant", -1.0), False),
    "bilinear": (lambda g, x: g(F.interpolate, g(torch.abs, x), mode="bilinear", scale_factor=2), True),
    "bicubic": (lambda g, x: g(F.interpolate, g(torch.abs, x), mode="bicubic", scale_factor=2), False),
    "pooled and moved": (lambda g, x: g(torch.flip, g(F.max_pool2d, g(torch.abs, x), 2), (1,)), True),
    "convolved": (lambda g, x: g(F.conv2d, g(torch.abs, x), g.weight), False),
    "concat": (lambda g, x: g(torch.cat, [g(torch.abs, x), x], 1), False),
}


@pytest.mark.parametrize(("make", "expected"), NEVER.values(), ids=NEVER)
def test_what_is_never_negative(make: Any, expected: bool) -> None:
    graph = fx.Graph()
    x, weight = graph.placeholder("x"), graph.get_attr("weight")

    def call(function: Any, *args: Any, **kwargs: Any) -> fx.Node:
        return graph.call_function(function, args, kwargs)

    call.weight = weight  # type: ignore[attr-defined]
    node = make(call, x)
    assert (node in never_negative(graph)) is expected
    assert not {x, weight} & never_negative(graph)


def test_placing_twice_changes_nothing(network: Any, images: Tensor) -> None:
    graph = prepare(network(lambda m, x: m.head(m.conv2(m.relu(m.conv(x))))), images)
    before = len(graph.module.graph.nodes)
    assert place_sites(graph.module) == []
    assert len(graph.module.graph.nodes) == before
