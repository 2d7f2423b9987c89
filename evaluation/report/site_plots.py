"""Plots of one network: its sites, and its answers over time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from .plots import round_ticks
from .svg import PAPER, SERIES, Key, Plot, figure, plain
from .values import finite, positive

Entries = Sequence[dict[str, Any]]

PARTS = {
    "clipped": "clipping",
    "quantisation": "quantisation",
    "temporal": "unevenness over time",
    "stochastic": "random rounding",
}
"""The errors that a site adds itself, as an attribution names them, in words."""

MOST_BARS = 12
"""Sites in the plot of errors; the table beside it has all of them."""

_HEIGHT = 2.4
_ORDER = "site, in the order in which they run"


def rates(sites: Entries) -> Plot | None:
    """Plot the firing rate of each site; None where none is known."""
    found = [(number, rate) for number, site in enumerate(sites, 1) if (rate := finite(site.get("rate"))) is not None]
    if not found:
        return None
    drawing = figure(_HEIGHT)
    axes = drawing.subplots()
    axes.bar(
        [number for number, _ in found],
        [rate for _, rate in found],
        color=SERIES[0],
        width=0.8 if len(sites) < 80 else 1.0,
    )
    axes.set_xlim(0.25, len(sites) + 0.75)
    axes.grid(visible=False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlabel(_ORDER)
    axes.set_ylabel("spikes / neuron / step")
    return Plot(
        drawing, "Firing rate by site", "Spikes of a neuron in a step, the mean over neurons, steps and images."
    )


def thresholds(sites: Entries) -> Plot | None:
    """Plot the thresholds of each site, the median with the smallest and the largest; None where none is known."""
    found = []
    for number, site in enumerate(sites, 1):
        spread = site.get("threshold") or {}
        low, median, high = (finite(spread.get(name)) for name in ("min", "median", "max"))
        if low is not None and median is not None and high is not None:
            found.append((number, low, median, high))
    if not found:
        return None
    numbers, lows, medians, highs = zip(*found, strict=True)
    drawing = figure(_HEIGHT)
    axes = drawing.subplots()
    axes.vlines(numbers, lows, highs, color=SERIES[1], linewidth=1.2, alpha=0.7)
    axes.plot(numbers, medians, "o", color=SERIES[1], markersize=6, markeredgecolor=PAPER, markeredgewidth=0.5)
    if min(lows) > 0 and max(highs) / min(lows) > 30:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator(round_ticks(*axes.get_ylim())))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.25, len(sites) + 0.75)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlabel(_ORDER)
    axes.set_ylabel("threshold")
    caption = "Thresholds in units of the activation: the median of each site (dot), smallest to largest (line)."
    return Plot(drawing, "Threshold by site", caption)


def error_parts(errors: Entries) -> list[str]:
    """Return the parts that any site's error has, in the order in which they arise."""
    known = [name for name in PARTS if any(positive(entry.get(name)) for entry in errors)]
    apart = ("site", "own", "total", "inherited", *PARTS)
    return known + sorted({name for entry in errors for name in entry if name not in apart and positive(entry[name])})


def ranked(errors: Entries) -> list[dict[str, Any]]:
    """Return the sites, the one that adds most of its own error first; one whose error is not finite comes last."""
    return sorted(errors, key=lambda entry: -_own(entry))


def _own(entry: dict[str, Any]) -> float:
    return sum(finite(entry.get(name)) or 0.0 for name in error_parts([entry]))


def error_sources(errors: Entries) -> Plot | None:
    """Plot the errors that the worst sites add, by where they come from; None where none is known."""
    parts, worst = error_parts(errors), ranked(errors)[:MOST_BARS]
    if not parts:
        return None
    drawing = figure(0.7 + 0.2 * len(worst))
    axes = drawing.subplots()
    places, start = np.arange(len(worst)), np.zeros(len(worst))
    for number, part in enumerate(parts):
        widths = np.array([finite(entry.get(part)) or 0.0 for entry in worst])
        axes.barh(places, widths, left=start, color=SERIES[number % 8], edgecolor=PAPER, linewidth=0.5, height=0.75)
        start += widths
    axes.set_yticks(places, [plain(str(entry.get("site")), 24) for entry in worst])
    axes.set_ylim(len(worst) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("mean square / that of the activation")
    first = f"The {len(worst)} sites of {len(errors)} that add most." if len(errors) > len(worst) else "All sites."
    caption = (
        f"{first} The error that a site adds itself, in units of the mean square of its activation; parts from left to "
        "right in the order of the legend. They correlate, and need not add up to the total."
    )
    keys = tuple(Key(plain(PARTS.get(part, part)), "■", number % 8) for number, part in enumerate(parts))
    return Plot(drawing, "Where the error comes from", caption, keys)


def accuracy_over_time(by_t: Sequence[float] | None) -> Plot | None:
    """Plot top-1 after each step of a streaming network; None where there is none."""
    caption = "Top-1 after t steps of one simulation: the network streams and may be stopped early."
    return _curve(list(enumerate(by_t or [], 1)), "Accuracy over time", "step t", caption)


def searched(curve: Sequence[tuple[int, float]]) -> Plot | None:
    """Plot top-1 against T of the networks that a search tried; None where there was no search."""
    caption = "Top-1 of the networks that a search for the fewest steps tried, on held-out training images."
    return _curve(sorted(curve), "Accuracy against steps in the search", "steps T", caption)


def _curve(points: Sequence[tuple[int, float]], title: str, label: str, caption: str) -> Plot | None:
    found = [(t, top1) for t, top1 in points if finite(top1) is not None]
    if not found:
        return None
    drawing = figure(_HEIGHT)
    axes = drawing.subplots()
    axes.plot(*zip(*found, strict=True), "o-", color=SERIES[2], markersize=4.5, markeredgecolor=PAPER)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlabel(label)
    axes.set_ylabel("top-1 [%]")
    return Plot(drawing, title, caption)
