"""One error tree: every error says what to do next, and which exit code it means."""

import inspect

import pytest

from snnconvert.converter import errors
from snnconvert.converter.errors import Refused, SnnconvertError, UsageError, choice, listed

CODES = {
    "SnnconvertError": 1,
    "UsageError": 2,
    "ProcessLost": 1,
    "Refused": 3,
    "ModelRefused": 3,
    "DataRefused": 3,
    "CalibrationRefused": 3,
    "ArtefactRefused": 3,
    "BarMissed": 4,
}


def test_every_error_has_its_exit_code_and_its_line_in_the_tree() -> None:
    found = {n: c for n, c in vars(errors).items() if inspect.isclass(c) and c.__module__ == errors.__name__}
    assert {name: kind.exit_code for name, kind in found.items()} == CODES
    assert all(issubclass(kind, SnnconvertError) for kind in found.values())
    assert {name for name, kind in found.items() if issubclass(kind, Refused)} == {
        n for n, c in CODES.items() if c == 3
    }
    assert errors.__doc__ is not None
    lines = errors.__doc__.splitlines()
    for name, code in CODES.items():
        line = next(line for line in lines if f"{name} " in line)
        assert code != 2 or line.endswith("exit code 2")


def test_a_hint_stands_on_a_line_of_its_own() -> None:
    error = Refused("expected a, got b", "do c")
    assert (error.message, error.hint, str(error)) == ("expected a, got b", "do c", "expected a, got b\nhint: do c")
    assert str(Refused("expected a, got b")) == "expected a, got b"
    assert Refused("a").hint is None


def test_a_choice_is_returned_or_refused_with_the_closest_name() -> None:
    known = ("if", "two-phase", "tpp")
    assert choice("neuron", "tpp", known) == "tpp"
    with pytest.raises(UsageError) as refused:
        choice("neuron", "two-fase", known)
    assert refused.value.message == "unknown neuron 'two-fase': expected one of if, two-phase, tpp"
    assert refused.value.hint == "did you mean 'two-phase'?"
    with pytest.raises(UsageError) as far:
        choice("neuron", "lif-neuron-with-a-name", known)
    assert far.value.hint is None


@pytest.mark.parametrize("given", [None, 3, 2.5, ("tpp",)])
def test_a_choice_that_is_no_name_is_refused_too(given: object) -> None:
    with pytest.raises(UsageError, match="unknown neuron"):
        choice("neuron", given, ("if", "tpp"))  # type: ignore[arg-type]


def test_lists_are_cut_after_the_first_few() -> None:
    assert listed(["a"]) == "a"
    assert listed("abc") == "a, b, c"
    assert listed("abcde", "; ") == "a; b; c and 2 more"
    assert listed(iter("abcdefg"), shown=5) == "a, b, c, d, e and 2 more"
