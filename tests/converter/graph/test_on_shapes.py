"""Functions on shapes are called once for equal arguments, and never mistake one call for another."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.converter.graph.on_shapes import OnShapes, to_meta


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def test_it_returns_what_the_function_or_method_returns() -> None:
    on_shapes = OnShapes()
    assert on_shapes(F.conv2d, (meta(2, 3, 8, 8), meta(4, 3, 3, 3)), {"stride": 2}).shape == (2, 4, 3, 3)
    assert on_shapes("size", (meta(2, 3), 1), {}) == 3
    assert [part.shape[1] for part in on_shapes("chunk", (meta(2, 6), 3), {"dim": 1})] == [2, 2, 2]


def test_each_call_is_made_once() -> None:
    calls: list[Any] = []

    def function(x: Tensor, *rest: Any, **named: Any) -> int:
        calls.append((x, rest, named))
        return len(calls)

    on_shapes = OnShapes()
    first: tuple[Any, ...] = (meta(2, 3), [1, (2, None)], slice(1, 2))
    assert on_shapes(function, first, {"a": 1.0}) == 1
    assert on_shapes(function, (meta(2, 3), [1, (2, None)], slice(1, 2)), {"a": 1.0}) == 1
    others: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((meta(3, 2), *first[1:]), {"a": 1.0}),
        ((meta(3, 2).t(), *first[1:]), {"a": 1.0}),
        ((meta(2, 3, dtype=torch.float64), *first[1:]), {"a": 1.0}),
        ((torch.ones(2, 3), *first[1:]), {"a": 1.0}),
        ((first[0], (1, (2, None)), first[2]), {"a": 1.0}),
        ((*first[:2], slice(1, 2, 2)), {"a": 1.0}),
        (first, {"a": 1}),
        (first, {"a": True}),
        (first, {"b": 1.0}),
        (first, {}),
    ]
    for number, (args, kwargs) in enumerate(others, 2):
        assert on_shapes(function, args, kwargs) == number
    assert len(calls) == len(others) + 1


def test_what_cannot_be_remembered_is_called_again() -> None:
    calls: list[set[int]] = []
    on_shapes = OnShapes()
    for _ in range(2):
        on_shapes(calls.append, ({1, 2},), {})
    assert calls == [{1, 2}] * 2


def test_errors_of_the_function_are_its_own() -> None:
    on_shapes = OnShapes()
    with pytest.raises(TypeError, match="linear"):
        on_shapes(F.linear, (), {})
    with pytest.raises(AttributeError, match="no_such_method"):
        on_shapes("no_such_method", (meta(2),), {})
    for _ in range(2):
        with pytest.raises(RuntimeError):
            on_shapes(torch.matmul, (meta(2, 3), meta(2, 3)), {})


def test_devices_are_those_of_the_shapes() -> None:
    on_shapes = OnShapes()
    assert on_shapes("to", (meta(2, 3), torch.device("cpu")), {}).is_meta
    assert on_shapes("new_zeros", (meta(2, 3), 4), {"device": torch.device("cpu")}).is_meta


def test_tensors_lose_their_data() -> None:
    x = torch.ones(2, 3, dtype=torch.float64)
    assert (to_meta(x).is_meta, to_meta(x).shape, to_meta(x).dtype) == (True, (2, 3), torch.float64)
    assert to_meta(meta(2)).is_meta
    assert to_meta(5) == 5
