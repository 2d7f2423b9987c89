"""The search stops at the fewest steps that are good enough, and keeps the whole curve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.calibration.search import Found, Point, powers_of_two, search
from snnconvert.converter.errors import UsageError
from snnconvert.converter.thresholds import Thresholds

SCORES = {
    "if": {1: 10.0, 2: 40.0, 4: 70.0, 8: 89.5, 16: 90.5},
    "two-phase": {1: 30.0, 2: 70.0, 4: 89.2, 8: 90.0, 16: 90.0},
}


def make(neuron: str, steps: int) -> Thresholds:
    return Thresholds({}, steps, f"{neuron} {steps}", "channel")


def score(thresholds: Thresholds, neuron: str, steps: int) -> float:
    assert thresholds.rule == f"{neuron} {steps}"
    return float(np.interp(steps, list(SCORES[neuron]), list(SCORES[neuron].values())))


def run(max_drop: float, neurons: tuple[str, ...] = ("if", "two-phase")) -> Found:
    return search(make, score, ann=90.0, max_drop=max_drop, neurons=neurons, steps=(8, 1, 4, 2, 16))


def test_the_fewest_steps_within_the_drop_win() -> None:
    found = run(1.0)
    assert found.best == Point("two-phase", 4, 89.2)
    assert found.thresholds is not None
    assert found.thresholds.rule == "two-phase 4"
    assert [p.steps for p in found.curve] == [1, 1, 2, 2, 4, 4, 3, 3]
    assert run(0.5, ("if",)).best == Point("if", 8, 89.5)
    assert run(1.0, ("if", "two-phase")).best == run(1.0, ("two-phase",)).best


@given(drop=st.floats(0, 89), neuron=st.sampled_from(("if", "two-phase")))
def test_no_smaller_number_of_steps_would_have_done(drop: float, neuron: str) -> None:
    found = run(drop, (neuron,))
    good = [t for t in range(1, 17) if score(make(neuron, t), neuron, t) >= 90.0 - drop]
    assert found.best is not None
    assert found.best.steps == good[0]
    assert found.thresholds == make(neuron, good[0])
    assert len({p.steps for p in found.curve}) == len(found.curve) <= 5 + 3


def test_where_none_passes_the_curve_says_how_close_it_came() -> None:
    found = search(make, score, ann=95.0, max_drop=1.0, neurons=("if",), steps=(1, 2))
    assert found.best is None
    assert found.thresholds is None
    assert found.to_json() == {
        "ann": 95.0,
        "max_drop": 1.0,
        "curve": [{"neuron": "if", "steps": 1, "score": 10.0}, {"neuron": "if", "steps": 2, "score": 40.0}],
        "best": None,
    }


def test_each_network_is_reported_as_it_comes() -> None:
    said: list[Point] = []
    search(make, score, ann=90.0, max_drop=1.0, neurons=("two-phase",), steps=(4, 2), report=said.append)
    assert said == [Point("two-phase", 2, 70.0), Point("two-phase", 4, 89.2), Point("two-phase", 3, 79.6)]


def test_powers_of_two_end_at_the_number_asked_for() -> None:
    assert powers_of_two(1) == (1,)
    assert powers_of_two(8) == (1, 2, 4, 8)
    assert powers_of_two(12) == (1, 2, 4, 8, 12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neurons": ()}, "at least one neuron model and one T"),
        ({"steps": ()}, "at least one neuron model and one T"),
        ({"neurons": ("lif",)}, "unknown neuron 'lif'"),
        ({"steps": (0,)}, "whole number from 1"),
        ({"max_drop": -1.0}, "a drop lies between 0 and 100 points, got -1.0"),
        ({"max_drop": float("nan")}, "a drop lies between 0 and 100 points, got nan"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes: dict[str, object], message: str) -> None:
    usual: dict[str, object] = {"ann": 90.0, "max_drop": 1.0, "neurons": ("if",), "steps": (1,)}
    with pytest.raises(UsageError, match=message):
        search(make, score, **usual | changes)  # type: ignore[arg-type]
