"""Functions that are compiled where that is possible, against numpy and against what they say when called plainly."""

import logging
import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._inductor import config

from snnconvert.converter import fused
from snnconvert.converter.fused import Fused, compiler

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler was found")


def function(x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return an elementwise function and a reduction of it."""
    count = ((x + y) * number).floor().clamp(0, number)
    return count, count.sum(0)


def by_numpy(x: Tensor, y: Tensor, number: int) -> tuple[np.ndarray, np.ndarray]:
    count = np.floor((x.numpy() + y.numpy()) * number).clip(0, number)
    return count, count.sum(0)


def right(answer: tuple[Tensor, Tensor], x: Tensor, y: Tensor, number: int) -> bool:
    """Return whether both parts of ``answer`` are those of numpy; they are whole numbers, so without any error."""
    return all(np.array_equal(a, e) for a, e in zip(answer, by_numpy(x, y, number), strict=True))


def numbers(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw), torch.rand(shape[-1:], generator=draw)


class Compiling:
    """Stands in for torch.compile, and remembers what it was asked to compile and how often that was called."""

    def __init__(self, compiled: Callable[..., Any] | None = None, error: Exception | None = None) -> None:
        self.instead, self.error = compiled, error
        self.asked: list[Callable[..., Any]] = []
        self.calls = 0

    def __call__(self, function: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
        self.asked.append(function)
        assert dynamic
        warnings.warn("what a compiler imports may be deprecated", DeprecationWarning, stacklevel=2)
        if self.error is not None:
            raise self.error

        def compiled(*args: Any) -> Any:
            self.calls += 1
            return (self.instead or function)(*args)

        return compiled


def install(monkeypatch: pytest.MonkeyPatch, compiling: Callable[..., Any], path: str | None = "g++") -> None:
    monkeypatch.setattr(torch, "compile", compiling)
    monkeypatch.setattr(fused, "compiler", lambda: path)


def test_nothing_is_compiled_before_the_first_call_and_once_after(monkeypatch: pytest.MonkeyPatch) -> None:
    compiling = Compiling()
    install(monkeypatch, compiling)
    found = Fused(function)
    assert compiling.asked == []
    assert found.__doc__ == function.__doc__
    for seed in range(3):
        x, y = numbers(4, 3, seed=seed)
        assert right(found(x, y, 3), x, y, 3)
    assert compiling.asked == [function]
    assert compiling.calls == 3
    assert found.failure is None


def test_without_a_compiler_it_runs_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    compiling = Compiling()
    install(monkeypatch, compiling, path=None)
    found, (x, y) = Fused(function), numbers(4, 3)
    for _ in range(2):
        assert right(found(x, y, 3), x, y, 3)
    assert found.failure == "no C++ compiler was found"
    assert found.compiled is None
    assert compiling.asked == []


def broken(graph: Any, example: Any) -> Any:
    """Stands in for inductor."""
    raise OSError("no space left on the device" + "!" * 1000)


@pytest.mark.parametrize("when", ["torch.compile", "the first call", "inside torch"])
def test_what_does_not_compile_runs_and_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    def fail(*args: Any) -> Any:
        raise OSError("no space left on the device")

    inside = partial(torch.compile, backend=broken)
    compiling = Compiling(fail) if when == "the first call" else Compiling(error=OSError("no space left on the device"))
    install(monkeypatch, inside if when == "inside torch" else compiling)
    found, (x, y) = Fused(function), numbers(4, 3)
    with caplog.at_level(logging.INFO, logger=fused.__name__):
        for _ in range(3):
            assert right(found(x, y, 3), x, y, 3)
    assert found.failure is not None
    assert re.match("BackendCompilerFailed: " if when == "inside torch" else "OSError: ", found.failure)
    assert "no space left on the device" in found.failure
    assert len(found.failure) < 250
    assert [record.getMessage() for record in caplog.records] == [f"not compiled: {found.failure}"]
    assert found.compiled is None
    if when != "inside torch":
        assert compiling.asked == [function]
    assert compiling.calls == (when == "the first call")


def test_what_fails_later_runs_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_for_ranks_above_two(x: Tensor, y: Tensor, number: int) -> Any:
        if x.ndim > 2:
            raise OSError("no space left on the device")
        return function(x, y, number)

    compiling = Compiling(fail_for_ranks_above_two)
    install(monkeypatch, compiling)
    found = Fused(function)
    for shape in ((4, 3), (5, 3), (2, 4, 3), (4, 3)):
        x, y = numbers(*shape)
        assert right(found(x, y, 3), x, y, 3)
    assert compiling.calls == 3
    assert found.failure == "OSError: no space left on the device"


@pytest.mark.parametrize("path", [None, "g++"])
def test_what_the_function_refuses_reaches_the_caller(monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    compiling = Compiling()
    install(monkeypatch, compiling, path)
    found = Fused(function)
    with pytest.raises(RuntimeError, match=r"The size of tensor a \(3\) must match the size of tensor b \(2\)"):
        found(torch.zeros(4, 3), torch.zeros(2), 3)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'number'"):
        found(torch.zeros(4, 3), torch.zeros(3))
    assert found.failure == (None if path else "no C++ compiler was found")  # it is no failure to compile


@needs_compiler
def test_what_the_function_refuses_when_compiled_reaches_the_caller() -> None:
    found, (x, y) = Fused(function), numbers(4, 3)
    with pytest.raises(RuntimeError, match=r"The size of tensor a \(3\) must match the size of tensor b \(2\)"):
        found(x, y[:2], 3)
    assert found.failure is None
    assert right(found(x, y, 3), x, y, 3)
    assert found.compiled is not None


COMPILED = Fused(function)


@needs_compiler
@given(shape=st.lists(st.integers(2, 9), min_size=1, max_size=3), number=st.integers(2, 40), seed=st.integers(0, 99))
def test_compiled_it_is_the_same_for_every_shape(shape: list[int], number: int, seed: int) -> None:
    x, y = numbers(*shape, seed=seed)
    assert right(COMPILED(x, y, number), x, y, number)
    assert COMPILED.failure is None
    assert COMPILED.compiled is not None


@needs_compiler
def test_compiled_it_is_the_same_for_odd_shapes_and_types() -> None:
    cases = {
        "empty": numbers(0, 3),
        "of one": numbers(1, 1),
        "turned": (numbers(5, 4)[0].T, numbers(5)[1]),
        "exact": tuple(t.double() for t in numbers(4, 3)),
    }
    for name, (x, y) in cases.items():
        answer = COMPILED(x, y, 7)
        assert right(answer, x, y, 7), name
        assert answer[0].dtype == x.dtype
    assert COMPILED.failure is None


def test_the_compiler_is_the_first_that_exists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    search: Callable[[], str | None] = compiler.__wrapped__
    mine = tmp_path / "my-compiler"
    mine.write_text("")
    mine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for names, expected in {
        ("my-compiler",): str(mine),
        (None, "missing-compiler", "my-compiler"): str(mine),
        (None, "missing-compiler"): None,
        "my-compiler": str(mine),
        "missing-compiler": None,
        str(mine): str(mine),
    }.items():
        with config.patch({"cpp.cxx": names}):
            assert search() == expected
