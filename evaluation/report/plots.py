"""Plots that compare networks: accuracy against steps, energy and synaptic operations."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .svg import INK, PAPER, SERIES, Key, Plot, figure, plain
from .values import finite, positive

Row = dict[str, Any]
Point = tuple[float, float]

MARKERS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("p", "⬟"), ("h", "⬢"), ("*", "★"))
"""What matplotlib draws, and the character that a legend shows for it."""

STEPS = {
    "steps": (
        "Accuracy against steps",
        "steps T, the window of one site",
        (
            "Top-1 accuracy after a window of T steps. Bars are 95 % intervals over the test images; a line joins the "
            "best of each method at each T. Those with one T stand side by side."
        ),
    ),
    "end_to_end_steps": (
        "Accuracy against end-to-end steps",
        "steps from an image to its answer",
        (
            "Top-1 accuracy against the steps that an answer takes: T where neurons stream; where they are two-phase, "
            "T for each site on the longest path and once more. Bars and lines are as in the plot against T."
        ),
    ),
}
"""The counts of steps that accuracy is plotted against, by the name in a row: title, label of the axis, caption."""

_HEIGHT, _MOST_TICKS = 3.2, 8
_CORNERS = ((5, -11, "left"), (5, 5, "left"), (-5, 5, "right"), (-5, -11, "right"))
"""Where the label of a point may stand: its offset in points and its alignment."""


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points (cost, value) that no other point beats, by cost: none is both as cheap and as good."""
    front: list[Point] = []
    for cost, value in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((cost, value))
    return front


def round_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return round numbers from ``low`` to ``high`` for a logarithmic axis, at most ``most`` of them.

    1, 2 and 5 times powers of ten; 1 to 9 times where these are fewer than three, powers of ten alone where they are
    too many, then every second of them and so on.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

    def times(numbers: Iterable[int]) -> list[float]:
        return [tick for power in powers for number in numbers if low <= (tick := float(f"{number}e{power}")) <= high]

    found = times((1, 2, 5))
    if len(found) < 3:
        found = times(range(1, 10))
    elif len(found) > most:
        found = times((1,))
    return found[:: math.ceil(len(found) / most) or 1]


def spaced(ticks: Sequence[float], ratio: float) -> list[float]:
    """Return the first of ``ticks``, which ascend, and each that is at least ``ratio`` times the one taken before."""
    found: list[float] = []
    for tick in ticks:
        if not found or tick >= ratio * found[-1]:
            found.append(tick)
    return found


def series(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the networks with an accuracy by how they were made, in the order of ``rows``; ANNs are left out."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("kind") != "ann" and finite(row.get("top1")) is not None:
            found.setdefault(_made(row), []).append(row)
    return found


def _made(row: Row) -> str:
    method = str(row.get("method") or row.get("kind") or "unknown")
    if row.get("kind") == "quantised":
        return "quantised ANN, as many levels"
    return f"{method}, trained directly" if row.get("kind") == "direct" else method


def accuracy_by_steps(rows: list[Row], count: str = "steps") -> Plot | None:
    """Plot top-1 against a count of steps, a line through the best of each method; None where no network has both.

    Args:
        count: one of `STEPS`.
    """
    lines = {name: [row for row in each if positive(row.get(count))] for name, each in series(rows).items()}
    times = sorted({float(row[count]) for each in lines.values() for row in each})
    if not times:
        return None
    drawing = figure(_HEIGHT)
    axes = drawing.subplots()
    keys = _ann_lines(axes, rows)
    for number, (name, each) in enumerate(lines.items()):
        apart = 2.0 ** (min(0.08, 0.5 / len(lines)) * (number - (len(lines) - 1) / 2))
        best = {t: max(row["top1"] for row in each if row[count] == t) for t in sorted({row[count] for row in each})}
        axes.plot([t * apart for t in best], [*best.values()], color=_colour(number))
        for row in each:
            _error_bar(axes, row[count] * apart, row, number)
        keys += [_key(name, number)] if each else []
    axes.set_xscale("log", base=2)
    axes.set_xlim(times[0] / 1.5, times[-1] * 1.5)
    _ticks(axes, spaced(times, (axes.get_xlim()[1] / axes.get_xlim()[0]) ** (1 / _MOST_TICKS)))
    title, label, caption = STEPS[count]
    axes.set_xlabel(label)
    axes.set_ylabel("top-1 [%]")
    return Plot(drawing, title, caption, tuple(keys))


class Mark(NamedTuple):
    """A network in a plot: what it costs, top-1, its label, and the number of its series, None for an ANN."""

    cost: float
    top1: float
    text: str
    number: int | None


def marks(rows: list[Row], cost: Callable[[Row], Any]) -> list[Mark]:
    """Return the ANNs and the networks of each series that have an accuracy and a cost above zero."""
    anns = [Mark(c, float(row["top1"]), "", None) for row in _anns(rows) if (c := positive(cost(row)))]
    return anns + [
        Mark(c, float(row["top1"]), f"T={row['steps']}" if row.get("steps") else "", number)
        for number, each in enumerate(series(rows).values())
        for row in each
        if (c := positive(cost(row)))
    ]


def accuracy_by_cost(rows: list[Row], cost: Callable[[Row], Any], title: str, label: str, caption: str) -> Plot | None:
    """Plot top-1 against a cost on a logarithmic axis, with the Pareto front; None where only ANNs have both.

    Args:
        cost: of a row; what is not above zero is left out, and the caption says how many networks that were.
        label: of the axis, with its unit.
    """
    groups, shown = series(rows), marks(rows, cost)
    numbers = {mark.number for mark in shown}
    if not numbers - {None}:
        return None
    drawing = figure(_HEIGHT)
    axes = drawing.subplots()
    keys = [Key("ANN", "✚")] if None in numbers else _ann_lines(axes, rows)
    keys += [_key(name, number) for number, name in enumerate(groups) if number in numbers]
    for mark in shown:
        shape, colour = ("P", INK) if mark.number is None else (_marker(mark.number), _colour(mark.number))
        _dot(axes, mark.cost, mark.top1, shape, colour)
    points = [(mark.cost, mark.top1) for mark in shown]
    front, left, right = pareto(points), min(points)[0] / 1.5, max(points)[0] * 1.5
    costs, values = zip(*front, (right, front[-1][1]), strict=True)
    axes.plot(costs, values, color=INK, linewidth=1, linestyle=":", drawstyle="steps-post", zorder=1)
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.margins(y=0.12)
    _ticks(axes, round_ticks(*axes.get_xlim()))
    _label(axes, points, [mark.text for mark in shown])
    axes.set_xlabel(label)
    axes.set_ylabel("top-1 [%]")
    networks, known = sum(map(len, groups.values())), sum(mark.number is not None for mark in shown)
    missing = f" It is known of {known} of the {networks} networks." if networks > known else ""
    return Plot(drawing, title, caption + missing, (*keys, Key("Pareto front: none is cheaper and as good", "┈")))


def _anns(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.get("kind") == "ann" and finite(row.get("top1")) is not None]


def _ann_lines(axes: Axes, rows: list[Row]) -> list[Key]:
    for row in _anns(rows):
        axes.axhline(row["top1"], color=INK, linewidth=1, linestyle="--", zorder=1)
    return [Key(f"{row.get('name') or 'ANN'}, {row['top1']:.2f} %", "╌") for row in _anns(rows)]


def _error_bar(axes: Axes, t: float, row: Row, number: int) -> None:
    top1 = float(row["top1"])
    low, high = (finite(end) for end in row.get("ci95") or (None, None))
    if low is not None and high is not None:
        axes.vlines(t, min(low, top1), max(high, top1), color=_colour(number), linewidth=1, alpha=0.7)
    _dot(axes, t, top1, _marker(number), _colour(number))


def _dot(axes: Axes, x: float, y: float, shape: str, colour: str) -> None:
    size = 11 if shape == "*" else 7.5
    axes.plot(x, y, shape, color=colour, markersize=size, markeredgecolor=PAPER, markeredgewidth=0.6)


def _colour(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _marker(number: int) -> str:
    return MARKERS[_shape(number)][0]


def _shape(number: int) -> int:
    """Return which marker: after eight series colours repeat, with other markers."""
    return (number + number // len(SERIES)) % len(MARKERS)


def _key(name: str, number: int) -> Key:
    return Key(plain(name), MARKERS[_shape(number)][1], number % len(SERIES))


def _ticks(axes: Axes, ticks: Sequence[float]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _label(axes: Axes, points: Sequence[Point], texts: Sequence[str]) -> None:
    """Write ``texts`` beside ``points`` where they cover neither a point nor another text, else leave them out."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    start, decades = math.log10(left), math.log10(right) - math.log10(left)
    places = [(300 * (math.log10(x) - start) / decades, 170 * (y - low) / (high - low)) for x, y in points]
    taken = [(x - 4, x + 4, y - 4, y + 4) for x, y in places]
    for point, (x, y), text in zip(points, places, texts, strict=True):
        for dx, dy, side in _CORNERS if text else ():
            edge = x + dx if side == "left" else x + dx - 5.5 * len(text)
            box = (edge, edge + 5.5 * len(text), y + dy, y + dy + 7)
            inside = box[0] >= 0 and box[1] <= 300 and box[2] >= 0
            if inside and not any(_overlap(box, other) for other in taken):
                axes.annotate(text, point, (dx, dy), textcoords="offset points", fontsize=8, ha=side, color=INK)
                taken.append(box)
                break


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first[0] < second[1] and second[0] < first[1] and first[2] < second[3] and second[2] < first[3]
