"""Every line of the table against its claim, and every synonym against its function, in float64 on random tensors.

A new line needs a case here: the tests enumerate the table.
"""

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from snnconvert.converter.graph.operations import (
    BY_NAME,
    IDENTITIES,
    IN_PLACE,
    MAX_POOLS,
    OPERATIONS,
    SPREAD_ARGUMENTS,
    SYNONYMS,
    Kind,
    Operation,
    Signals,
)

Function = Callable[..., Any]
Case = tuple[tuple[int, ...], Callable[[Function, Tensor], Any]]

_RANDOM = torch.Generator().manual_seed(0)


def weight(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_RANDOM, dtype=torch.float64)


W1, W2, W3, WL = weight(4, 2, 3), weight(4, 2, 3, 3), weight(4, 2, 2, 2, 2), weight(5, 6)
D1, D2, D3 = weight(4, 3, 3), weight(4, 3, 3, 3), weight(4, 3, 2, 2, 2)
BIAS4, BIAS3, BIAS5, SCALE = weight(4), weight(3), weight(5), weight(1, 4, 1, 1)
ONE, TWO, THREE = (4, 6), (4, 6, 6), (4, 4, 4, 4)

CASES: dict[str, list[Case]] = {
    "conv1d": [(ONE, lambda f, x: f(x, W1, BIAS4, 2, 1, 1, 2))],
    "conv2d": [(TWO, lambda f, x: f(x, W2, BIAS4, 1, 1, 2, 2)), (TWO, lambda f, x: f(x, W2, groups=2, padding="same"))],
    "conv3d": [(THREE, lambda f, x: f(x, W3, BIAS4, groups=2))],
    "conv_transpose1d": [(ONE, lambda f, x: f(x, D1, BIAS3, 2))],
    "conv_transpose2d": [(TWO, lambda f, x: f(x, D2, torch.cat([BIAS3, BIAS3]), groups=2, stride=2))],
    "conv_transpose3d": [(THREE, lambda f, x: f(x, D3, BIAS3))],
    "linear": [((6,), lambda f, x: f(x, WL, BIAS5)), ((4, 6), lambda f, x: f(x, WL))],
    "avg_pool1d": [(ONE, lambda f, x: f(x, 2))],
    "avg_pool2d": [(TWO, lambda f, x: f(x, 3, 2, 1, count_include_pad=False, ceil_mode=True))],
    "avg_pool3d": [(THREE, lambda f, x: f(x, 2))],
    "adaptive_avg_pool1d": [(ONE, lambda f, x: f(x, 4))],
    "adaptive_avg_pool2d": [(TWO, lambda f, x: f(x, (4, None)))],
    "adaptive_avg_pool3d": [(THREE, lambda f, x: f(x, 3))],
    "mean": [(TWO, lambda f, x: f(x, (2, 3))), (TWO, lambda f, x: f(x, dim=1, keepdim=True))],
    "sum": [(TWO, lambda f, x: f(x, (2, 3))), (TWO, lambda f, x: f(x, dim=-1, keepdim=True))],
    "neg": [(TWO, lambda f, x: f(x))],
    "div": [(TWO, lambda f, x: f(x, 3)), (TWO, lambda f, x: f(x, SCALE))],
    "pad": [
        (TWO, lambda f, x: f(x, (1, 2, 0, 1))),
        (TWO, lambda f, x: f(x, (1, 1), value=3.0)),
        (TWO, lambda f, x: f(x, (1, 2, 2, 1), mode="reflect")),
        (TWO, lambda f, x: f(x, (1, 2, 2, 1), mode="circular")),
    ],
    "interpolate": [
        (TWO, lambda f, x: f(x, scale_factor=2.0)),
        (TWO, lambda f, x: f(x, size=(4, 9), mode="nearest-exact")),
        (TWO, lambda f, x: f(x, size=(4, 9), mode="bilinear", align_corners=False)),
        (TWO, lambda f, x: f(x, size=(4, 9), mode="bicubic", antialias=True)),
        (TWO, lambda f, x: f(x, size=4, mode="area")),
        (ONE, lambda f, x: f(x, size=4, mode="linear")),
    ],
    "pixel_shuffle": [(TWO, lambda f, x: f(x, 2))],
    "pixel_unshuffle": [(TWO, lambda f, x: f(x, 2))],
    "channel_shuffle": [(TWO, lambda f, x: f(x, 2))],
    "reshape": [(TWO, lambda f, x: f(x, (-1, 2, 72)))],
    "flatten": [(TWO, lambda f, x: f(x, 1)), (TWO, lambda f, x: f(x, start_dim=2, end_dim=-1))],
    "permute": [(TWO, lambda f, x: f(x, (0, 3, 1, 2)))],
    "transpose": [(TWO, lambda f, x: f(x, 1, 2))],
    "squeeze": [((1, 6, 1), lambda f, x: f(x, 1)), ((1, 6, 1), lambda f, x: f(x, -1))],
    "unsqueeze": [(TWO, lambda f, x: f(x, 1))],
    "flip": [(TWO, lambda f, x: f(x, (1, -1)))],
    "getitem": [
        (TWO, lambda f, x: f(x, (slice(None), slice(1, 3), ..., slice(None, None, 2)))),
        (TWO, lambda f, x: f(x, (slice(None), [2, 0], None))),
    ],
    "chunk": [(TWO, lambda f, x: f(x, 2, 1)), (TWO, lambda f, x: f(x, 4, dim=-1))],
    "split": [(TWO, lambda f, x: f(x, 3, 1)), (TWO, lambda f, x: f(x, [1, 3], dim=1))],
    "add": [(TWO, lambda f, x: f(x, SCALE)), (TWO, lambda f, x: f(x, x[:, :1])), (TWO, lambda f, x: f(x, 2.5))],
    "sub": [(TWO, lambda f, x: f(x, SCALE)), (TWO, lambda f, x: f(x, x[:, :1])), (TWO, lambda f, x: f(x, 2.5))],
    "cat": [(TWO, lambda f, x: f([x, 2 * x, x[:, :1]], 1)), (TWO, lambda f, x: f((x, x), dim=-1))],
    "stack": [(TWO, lambda f, x: f([x, 2 * x], 1)), (TWO, lambda f, x: f((x, x), dim=-1))],
    "mul": [(TWO, lambda f, x: f(x, SCALE)), (TWO, lambda f, x: f(x, 2.5))],
    "matmul": [(TWO, lambda f, x: f(x, WL.T)), ((6, 3), lambda f, x: f(WL, x))],
    "max_pool1d": [(ONE, lambda f, x: f(x, 2))],
    "max_pool2d": [(TWO, lambda f, x: f(x, 3, 2, 1, ceil_mode=True))],
    "max_pool3d": [(THREE, lambda f, x: f(x, 2))],
    "adaptive_max_pool1d": [(ONE, lambda f, x: f(x, 4))],
    "adaptive_max_pool2d": [(TWO, lambda f, x: f(x, (4, None)))],
    "adaptive_max_pool3d": [(THREE, lambda f, x: f(x, 3))],
    "relu": [(TWO, lambda f, x: f(x))],
    "clamp": [(TWO, lambda f, x: f(x, 0.0, 0.5))],
}
"""The shape of one image, and a call of the operation, or of a synonym of it, on a batch."""


def test_every_line_has_a_case() -> None:
    assert set(CASES) == set(BY_NAME)
    assert len(BY_NAME) == len(OPERATIONS)
    assert all(OPERATIONS[line.function] is line for line in BY_NAME.values())


def cases(choose: Callable[[Operation], bool]) -> list[Any]:
    return [
        pytest.param(line, *case, id=f"{name}-{number}")
        for name, line in BY_NAME.items()
        for number, case in enumerate(CASES[name])
        if choose(line)
    ]


def same(found: Any, expected: Any) -> bool:
    found, expected = tree_leaves(found), tree_leaves(expected)
    return len(found) == len(expected) and all(
        f.shape == e.shape and torch.allclose(f, e, rtol=1e-9, atol=1e-9) for f, e in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(("line", "shape", "call"), cases(lambda line: True))
def test_images_stay_apart_in_the_first_dimension(
    line: Operation, shape: tuple[int, ...], call: Callable[[Function, Tensor], Any]
) -> None:
    x = weight(4, *shape)
    whole = call(line.function, x)
    for index in ([2, 0, 1, 2, 3], [1]):
        assert same(call(line.function, x[index]), tree_map(lambda y, i=index: y[i], whole))


@pytest.mark.parametrize(("line", "shape", "call"), cases(lambda line: line.kind is Kind.LINEAR))
def test_linear_operations_map_the_mean_over_time_to_the_mean(
    line: Operation, shape: tuple[int, ...], call: Callable[[Function, Tensor], Any]
) -> None:
    x = weight(5, 2, *shape)  # five steps of two images
    each = [tree_leaves(call(line.function, step)) for step in x]
    expected = [torch.stack(leaves).mean(0) for leaves in zip(*each, strict=True)]
    assert same(tree_leaves(call(line.function, x.mean(0))), expected)
    folded = tree_leaves(call(line.function, x.flatten(0, 1)))
    assert same([f.reshape(5, 2, *f.shape[1:]).mean(0) for f in folded], expected)


@pytest.mark.parametrize(("line", "shape", "call"), cases(lambda line: line.kind is Kind.WINDOW))
def test_window_operations_are_not_linear_and_say_whether_they_scale(
    line: Operation, shape: tuple[int, ...], call: Callable[[Function, Tensor], Any]
) -> None:
    x = weight(5, 2, *shape)
    assert not same(call(line.function, x.mean(0)), torch.stack([call(line.function, step) for step in x]).mean(0))
    scales = all(same(call(line.function, a * x[0]), a * call(line.function, x[0])) for a in (0.25, 3.0, 8.0))
    assert scales == line.homogeneous
    assert line.signals is Signals.FIRST


def test_homogeneous_is_said_of_window_operations_only() -> None:
    assert {line.kind for line in BY_NAME.values() if line.homogeneous} == {Kind.WINDOW}
    assert {line.kind for line in BY_NAME.values()} == {Kind.LINEAR, Kind.WINDOW}


TWO_SIGNALS: dict[str, Callable[[Function, Tensor, Tensor], Any]] = {
    "add": lambda f, x, y: f(x, y, alpha=2),
    "sub": lambda f, x, y: f(x, y),
    "cat": lambda f, x, y: f([x, y], 1),
    "stack": lambda f, x, y: f([x, y], 1),
    "mul": lambda f, x, y: f(x, y),
    "matmul": lambda f, x, y: f(x, y.transpose(1, 2)),
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
        assert same(
            call(line.function, x.mean(0), y[0]), torch.stack([call(line.function, a, y[0]) for a in x]).mean(0)
        )
        assert same(
            call(line.function, x[0], y.mean(0)), torch.stack([call(line.function, x[0], b) for b in y]).mean(0)
        )


def test_every_operation_of_more_than_one_signal_is_tried() -> None:
    assert {n for n, line in BY_NAME.items() if line.signals is not Signals.FIRST} <= set(TWO_SIGNALS)


@pytest.mark.parametrize("synonym", SYNONYMS, ids=str)
def test_synonyms_compute_the_same(synonym: Any) -> None:
    function = SYNONYMS[synonym]
    for shape, call in CASES[OPERATIONS[function].name]:
        x = weight(3, *shape)

        def spelled(first: Any, *args: Any, **kwargs: Any) -> Any:
            target = getattr(first, synonym) if isinstance(synonym, str) else synonym
            given = args if isinstance(synonym, str) else (first, *args)
            return target(*given, **kwargs)

        try:
            found = call(spelled, x.clone())
        except TypeError:  # operators and methods take fewer forms than the function
            continue
        assert same(found, call(function, x))
        break
    else:
        pytest.fail(f"no case fits {synonym}")


def test_sets_of_functions_are_of_the_table() -> None:
    assert {"max_pool1d", "max_pool2d", "max_pool3d"} < {OPERATIONS[f].name for f in MAX_POOLS}
    assert len(MAX_POOLS) == 6
    assert set(OPERATIONS) >= SPREAD_ARGUMENTS
    assert all(isinstance(f, str) or f in OPERATIONS for f in SYNONYMS.values())
    assert not IDENTITIES & set(OPERATIONS)
    for function in IN_PLACE:
        x = weight(3)
        assert function(x, 2.0) is x
        assert function in SYNONYMS


@pytest.mark.parametrize("identity", sorted(IDENTITIES, key=str), ids=str)
def test_identities_do_nothing(identity: Any) -> None:
    x = weight(2, 3, 4, 4)
    if isinstance(identity, str):
        found = getattr(x.float() if identity == "float" else x, identity)(*([torch.float64] * (identity == "to")))
        assert torch.equal(found, x.float() if identity == "float" else x)
    elif "dropout" in identity.__name__:
        x = x[:, :, 0] if identity is F.dropout1d else x[None] if identity is F.dropout3d else x
        assert torch.equal(identity(x, 0.5, False), x)
    else:
        assert torch.equal(identity(x), x)


def test_operator_names_are_told_from_tensor_names() -> None:
    assert SYNONYMS[operator.add] is SYNONYMS["add"] is torch.add
    assert SYNONYMS["view"] is torch.reshape
