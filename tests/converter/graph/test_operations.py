"""Every line of the table against its claim, in float64 on random tensors.

A new line needs a case in `operation_cases`: the tests enumerate the table.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

from snnconvert.converter.graph.operations import (
    BY_NAME,
    LAYOUT,
    MAX_POOLS,
    OPERATIONS,
    SYNAPSES,
    Kind,
    Operation,
    Range,
    Signals,
)

from .operation_cases import CASES, weight

Function = Callable[..., Any]
Call = Callable[[Function, Tensor], Any]
Shape = tuple[int, ...]


def test_every_line_has_a_case() -> None:
    assert set(CASES) == set(BY_NAME)
    assert len(BY_NAME) == len(OPERATIONS)
    assert all(OPERATIONS[line.function] is line for line in BY_NAME.values())


def cases(choose: Callable[[Operation], bool]) -> list[Any]:
    return [
        pytest.param(BY_NAME[name], *case, id=f"{name}-{number}")
        for name, of_name in CASES.items()
        for number, case in enumerate(of_name)
        if choose(BY_NAME[name])
    ]


def leaves(found: Any) -> list[Tensor]:
    return [leaf.double() for leaf in tree_leaves(found)]


def same(found: Any, expected: Any) -> bool:
    found, expected = leaves(found), leaves(expected)
    return len(found) == len(expected) and all(
        f.shape == e.shape and torch.allclose(f, e, rtol=1e-9, atol=1e-9) for f, e in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(("line", "shape", "call"), cases(lambda line: True))
def test_images_stay_apart_in_the_first_dimension(line: Operation, shape: Shape, call: Call) -> None:
    x = weight(4, *shape)
    whole = call(line.function, x)
    assert isinstance(whole, Tensor)
    assert bool(whole.double().isfinite().all())
    for index in ([2, 0, 1, 2, 3], [1]):
        assert same(call(line.function, x[index]), whole[index])


@pytest.mark.parametrize(("line", "shape", "call"), cases(lambda line: line.kind is Kind.LINEAR))
def test_linear_operations_map_the_mean_over_time_to_the_mean(line: Operation, shape: Shape, call: Call) -> None:
    x = weight(5, 2, *shape)  # five steps of two images
    expected = torch.stack([call(line.function, step) for step in x]).mean(0)
    assert same(call(line.function, x.mean(0)), expected)
    folded = call(line.function, x.flatten(0, 1))
    assert same(folded.reshape(5, 2, *folded.shape[1:]).mean(0), expected)


@pytest.mark.parametrize(("line", "shape", "call"), cases(lambda line: line.kind is not Kind.LINEAR))
def test_operations_of_other_kinds_are_not_linear(line: Operation, shape: Shape, call: Call) -> None:
    x = weight(5, 2, *shape)
    each = torch.stack([call(line.function, step).double() for step in x]).mean(0)
    assert not same(call(line.function, x.mean(0)), each)


@pytest.mark.parametrize(("line", "shape", "call"), cases(lambda line: line.kind is Kind.WINDOW))
def test_homogeneous_operations_scale(line: Operation, shape: Shape, call: Call) -> None:
    x = weight(2, *shape)
    assert line.homogeneous
    assert all(same(call(line.function, a * x), a * call(line.function, x)) for a in (0.25, 3.0, 8.0))


def test_homogeneous_is_said_of_window_operations_only() -> None:
    assert {line.kind for line in BY_NAME.values() if line.homogeneous} == {Kind.WINDOW}
    assert {line.kind for line in BY_NAME.values()} == set(Kind)


@pytest.mark.parametrize(("line", "shape", "call"), cases(lambda line: line.kind is Kind.ACTIVATION))
def test_activations_look_at_each_number_alone(line: Operation, shape: Shape, call: Call) -> None:
    x, other = weight(2, *shape), weight(2, *shape)
    result = call(line.function, x)
    assert result.shape == x.shape
    kept = weight(2, *shape) > 0
    changed = call(line.function, torch.where(kept, x, other))
    assert torch.equal(changed[kept], result[kept])
    order = torch.randperm(shape[-1], generator=torch.Generator().manual_seed(1))
    assert torch.equal(call(line.function, x[..., order]), result[..., order])


@pytest.mark.parametrize(("line", "shape", "call"), cases(lambda line: line.range is Range.POSITIVE))
def test_what_is_never_negative(line: Operation, shape: Shape, call: Call) -> None:
    assert bool((call(line.function, 5 * weight(8, *shape)) >= 0).all())


OF_SIGNALS = {"add", "mul", "matmul"}
"""Their cases hold negative weights; `TWO_SIGNALS` gives them what is not."""


@pytest.mark.parametrize(
    ("line", "shape", "call"), cases(lambda line: line.range is Range.KEPT and line.name not in OF_SIGNALS)
)
def test_what_keeps_the_sign(line: Operation, shape: Shape, call: Call) -> None:
    assert bool((call(line.function, weight(8, *shape).abs()) >= 0).all())


@pytest.mark.parametrize("name", ["sub", "neg", "conv2d", "linear", "assign", "layer_norm", "gelu", "tanh", "log"])
def test_the_sign_of_these_is_open(name: str) -> None:
    shape, call = CASES[name][0]
    assert BY_NAME[name].range is Range.ANY
    assert bool((call(BY_NAME[name].function, weight(8, *shape)) < 0).any())


TWO_SIGNALS: dict[str, Callable[[Function, Tensor, Tensor], Any]] = {
    "add": lambda f, x, y: f(x, y, alpha=2),
    "sub": lambda f, x, y: f(x, y),
    "cat": lambda f, x, y: f([x, y], 1),
    "stack": lambda f, x, y: f([x, y], 1),
    "assign": lambda f, x, y: f(x, (slice(None), slice(2)), y[:, :2]),
    "mul": lambda f, x, y: f(x, y),
    "matmul": lambda f, x, y: f(x, y.transpose(1, 2)),
    "einsum": lambda f, x, y: f("bij,bkj->bik", x, y),
    "div": lambda f, x, y: f(x, y),
    "linear": lambda f, x, y: f(x, y[0]),
    "conv1d": lambda f, x, y: f(x, y),
}


@pytest.mark.parametrize("name", TWO_SIGNALS)
def test_an_operation_is_linear_in_as_many_signals_as_it_says(name: str) -> None:
    line, call = BY_NAME[name], TWO_SIGNALS[name]
    x, y = weight(5, 2, 4, 6), weight(5, 2, 4, 6)
    each = torch.stack([call(line.function, a, b) for a, b in zip(x, y, strict=True)]).mean(0)
    assert same(call(line.function, x.mean(0), y.mean(0)), each) == (line.signals is Signals.ALL)
    if line.signals is Signals.ONE:
        for fixed in (lambda a: (a, y[0]), lambda a: (x[0], a)):
            mean = torch.stack([call(line.function, *fixed(a)) for a in x]).mean(0)
            assert same(call(line.function, *fixed(x.mean(0))), mean)
    if line.range is Range.KEPT:
        assert bool((call(line.function, x[0].abs(), y[0].abs()) >= 0).all())


def test_every_linear_operation_of_more_than_one_signal_is_tried() -> None:
    several = {n for n, line in BY_NAME.items() if line.signals is not Signals.FIRST and line.kind is Kind.LINEAR}
    assert several - {"per_image"} <= set(TWO_SIGNALS)  # which repeats a constant
    assert set(TWO_SIGNALS) >= OF_SIGNALS


def test_families_are_of_the_table() -> None:
    assert {"max_pool1d", "max_pool2d", "max_pool3d", "pad_lowest"} < {OPERATIONS[f].name for f in MAX_POOLS}
    assert torch.amax in MAX_POOLS
    assert all(OPERATIONS[f].kind is Kind.WINDOW for f in MAX_POOLS)
    assert all(BY_NAME[name].function is f for name, f in (SYNAPSES | LAYOUT).items())
    assert {line.signals for line in BY_NAME.values() if line.name in SYNAPSES} == {Signals.FIRST}
    assert OPERATIONS[F.conv2d].kind is Kind.LINEAR


@pytest.mark.parametrize("name", LAYOUT)
def test_layout_only_moves_numbers(name: str) -> None:
    for shape, call in CASES[name]:
        x = weight(2, *shape)
        assert set(call(LAYOUT[name], x).flatten().tolist()) <= {0.0, *x.flatten().tolist()}
