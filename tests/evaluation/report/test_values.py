"""How numbers are written, against what a reader would write."""

import math

import pytest

from snnconvert.evaluation.report.values import digits, finite, fixed, p_value, positive, whole, words


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "12", True])
def test_what_is_no_number_is_a_dash(value: object) -> None:
    assert finite(value) is None
    assert positive(value) is None
    assert digits(value) == fixed(value, 2) == whole(value) == p_value(value) == "–"


def test_only_what_is_above_zero_is_positive() -> None:
    assert [positive(value) for value in (3, 0, 0.0, -2, 1e-300)] == [3.0, None, None, None, 1e-300]


@pytest.mark.parametrize(
    ("value", "scale", "expected"),
    [
        (1234567, 1e6, "1.23"),
        (2_345_678, 1, "2,345,678"),
        (999.6, 1, "1,000"),
        (999.4, 1, "999"),
        (3.4, 1, "3.40"),
        (940.0, 1, "940"),
        (0, 1, "0"),
        (0.00012345, 1, "0.000123"),
        (-2.5, 1, "-2.50"),
    ],
)
def test_three_digits_that_count(value: float, scale: float, expected: str) -> None:
    assert digits(value, scale) == expected


def test_other_forms() -> None:
    assert (fixed(92.456, 2), whole(77824), whole(3.0)) == ("92.46", "77,824", "3")
    assert (words(None), words(""), words(0), words("if")) == ("–", "–", "0", "if")
    assert [p_value(p) for p in (0.0009, 0.001, 0.0543, 1.0, 0)] == ["<0.001", "0.001", "0.054", "1", "<0.001"]
