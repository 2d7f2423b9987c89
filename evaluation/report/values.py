"""Values that may be missing, and how they are written: three digits that count, a dash for what is not known."""

import math
from typing import Any

DASH = "–"


def finite(value: Any) -> float | None:
    """Return a number as it is, and None for anything else: nothing, a text, not a number, infinity."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


def positive(value: Any) -> float | None:
    """Return a number above zero as it is, and None for anything else: what a logarithmic axis can show."""
    number = finite(value)
    return number if number is not None and number > 0 else None


def digits(value: Any, scale: float = 1.0) -> str:
    """Return ``value / scale`` with three significant digits, and all of them from a thousand on.

    >>> digits(1234567, 1e6), digits(2345), digits(None)
    ('1.23', '2,345', '–')
    """
    number = finite(value)
    if number is None:
        return DASH
    number /= scale
    return f"{number:,.0f}" if abs(number) >= 999.5 or not number else f"{number:#.3g}".removesuffix(".")


def fixed(value: Any, places: int) -> str:
    """Return ``value`` with so many decimal places."""
    number = finite(value)
    return DASH if number is None else f"{number:.{places}f}"


def whole(value: Any) -> str:
    """Return a count, thousands apart."""
    return fixed(value, 0) if finite(value) is None else f"{value:,.0f}"


def words(value: Any) -> str:
    """Return a text as it is."""
    return DASH if value is None or value == "" else str(value)


def p_value(value: Any) -> str:
    """Return a probability with two significant digits, nothing smaller than "<0.001"."""
    number = finite(value)
    if number is None:
        return DASH
    return "<0.001" if number < 0.001 else f"{number:.2g}"
