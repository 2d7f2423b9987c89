"""The check of compiled neurons: it looks at all of them, and finds one number that is wrong."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from snnconvert.converter import native, native_check, triton_neurons
from snnconvert.converter.fused import compiler
from snnconvert.converter.native import Library
from snnconvert.converter.neurons import CONVERTIBLE
from snnconvert.converter.triton_neurons import Kernels

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler was found")
FUNCTIONS = {"if": "integrate_and_fire", "two-phase": "two_phase", "tpp": "tpp"}


def changed(function: Callable[..., Any], change: Callable[[Tensor], None]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        found = function(*args, **named)
        assert found is not None  # else nothing compiled is compared
        change(found if isinstance(found, Tensor) else found[0])
        return found

    return call


def one_more(found: Tensor) -> None:
    found[-1, -1, 3, 2] += 1


def no_number(found: Tensor) -> None:
    found[found == 0] = torch.nan


def another_zero(found: Tensor) -> None:
    found[found == 0] = torch.where(torch.signbit(found[found == 0]), 0.0, -0.0)


@needs_compiler
def test_all_neurons_are_compared_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in FUNCTIONS.values():
        note = changed(getattr(native, name), lambda found, name=name: calls.append(name))
        monkeypatch.setattr(native, name, note)
    found = native_check.check()
    assert [each.neuron for each in found] == list(CONVERTIBLE)
    assert [each.different for each in found] == [0, 0, 0]
    assert all(each.numbers > 30_000 for each in found)
    assert sorted(calls) == ["integrate_and_fire"] * 2 + ["tpp"] * 4 + ["two_phase"] * 4


@needs_compiler
@pytest.mark.parametrize("change", [one_more, no_number, another_zero])
@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_other_numbers_are_found(
    monkeypatch: pytest.MonkeyPatch, neuron: str, change: Callable[[Tensor], None]
) -> None:
    function = getattr(native, FUNCTIONS[neuron])
    monkeypatch.setattr(native, FUNCTIONS[neuron], changed(function, change))
    different = {each.neuron: each.different for each in native_check.check()}
    assert [name for name, count in different.items() if count] == [neuron]
    if change is one_more:
        assert 0 < different[neuron] <= 4 * 12  # a number, or a row of them, in each comparison


@needs_compiler
def test_inputs_are_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    two_phase = native.two_phase
    monkeypatch.setattr(native, "two_phase", lambda x, site: (seen.append(x), two_phase(x, site))[1])
    native_check.check()
    assert {x.is_contiguous() for x in seen} == {True, False}
    for x in seen:
        assert {torch.inf, -torch.inf, 0.0} <= set(x.unique().tolist())
        assert x.isnan().any()
        assert ((x == 0) & torch.signbit(x)).any()
        assert (x * 16 == (x * 16).round()).sum() > x.numel() / 4


def test_nothing_is_compared_where_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: Library(None, "switched off"))
    assert native_check.check() == []
    assert native_check.path("cpu") == "plain torch"


@pytest.mark.parametrize(
    ("triton", "found", "words"),
    [
        (False, None, "plain torch"),
        (False, "g++", "plain torch"),
        (True, None, "Triton where it gives the same numbers, else plain torch"),
        (True, "g++", "Triton where it gives the same numbers, else torch.compile, else plain torch"),
    ],
)
def test_the_path_on_a_gpu(monkeypatch: pytest.MonkeyPatch, triton: bool, found: str | None, words: str) -> None:
    monkeypatch.setattr(triton_neurons, "kernels", lambda: Kernels(triton_neurons if triton else None, "stands in"))
    monkeypatch.setattr(native_check, "compiler", lambda: found)
    assert native_check.path("cuda") == words


def test_nothing_is_compared_on_a_gpu_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_neurons, "kernels", lambda: Kernels(None, "triton is missing"))
    assert native_check.check("cuda") == []
    assert native_check.given_up() == {}
