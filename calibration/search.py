"""Search: the fewest steps at which a spiking network is as good as one asks for.

For each number of steps, the smallest first, each neuron model is calibrated and scored. Between the first number at
which one passes and the one before, the search goes on by halves, as if scores did not fall with T. Scores come from a
validation split: to choose on the test set would make its figure too good.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from snnconvert.converter.errors import UsageError, check_steps, choice
from snnconvert.converter.neurons import CONVERTIBLE
from snnconvert.converter.thresholds import Thresholds


@dataclass(frozen=True)
class Point:
    """One point of the curve: a neuron model, T, and the score in percent."""

    neuron: str
    steps: int
    score: float


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        ann: the score of the ANN in percent.
        max_drop: what was asked for, in points below it.
        curve: every network that was tried, in this order.
        best: the one that passed with the fewest steps, the best of them if several did; None where none did.
        thresholds: of `best`.
    """

    ann: float
    max_drop: float
    curve: tuple[Point, ...]
    best: Point | None
    thresholds: Thresholds | None

    def to_json(self) -> dict[str, Any]:
        """Return all but the thresholds as JSON types."""
        best = None if self.best is None else asdict(self.best)
        return {"ann": self.ann, "max_drop": self.max_drop, "curve": [asdict(p) for p in self.curve], "best": best}


def search(
    make: Callable[[str, int], Thresholds],
    score: Callable[[Thresholds, str, int], float],
    *,
    ann: float,
    max_drop: float,
    neurons: Sequence[str],
    steps: Sequence[int],
    report: Callable[[Point], None] = lambda point: None,
) -> Found:
    """Return the network with the fewest steps whose score is at most ``max_drop`` points below that of the ANN.

    Args:
        make: neuron model and T -> thresholds, such as `follow` with a recipe.
        score: thresholds, neuron model and T -> percent on the validation split.
        ann: the ANN's percent on the same images.
        max_drop: points.
        neurons: neuron models to try at each T.
        steps: T to try first, in any order.
        report: called after each network.

    Raises:
        UsageError: nothing to try, an unknown neuron, or a drop that is no number of points from 0 to 100.
    """
    if not neurons or not steps:
        raise UsageError("a search needs at least one neuron model and one T")
    for neuron in neurons:
        choice("neuron", neuron, CONVERTIBLE)
    for value in steps:
        check_steps(value)
    if not 0 <= max_drop <= 100:
        raise UsageError(f"a drop lies between 0 and 100 points, got {max_drop}")
    curve: list[Point] = []

    def passed(value: int) -> tuple[Point, Thresholds] | None:
        good: list[tuple[Point, Thresholds]] = []
        for point, thresholds in _tried(make, score, neurons, value):
            curve.append(point)
            report(point)
            if point.score >= ann - max_drop:
                good.append((point, thresholds))
        return max(good, key=lambda pair: pair[0].score, default=None)

    failed: int | None = None
    for value in sorted(set(steps)):
        best = passed(value)
        if best is not None:
            break
        failed = value
    else:
        return Found(ann, max_drop, tuple(curve), None, None)
    while failed is not None and best[0].steps - failed > 1:
        middle = (failed + best[0].steps) // 2
        found = passed(middle)
        best, failed = (best, middle) if found is None else (found, failed)
    return Found(ann, max_drop, tuple(curve), *best)


def _tried(
    make: Callable[[str, int], Thresholds],
    score: Callable[[Thresholds, str, int], float],
    neurons: Sequence[str],
    steps: int,
) -> Iterator[tuple[Point, Thresholds]]:
    for neuron in neurons:
        thresholds = make(neuron, steps)
        yield Point(neuron, steps, score(thresholds, neuron, steps)), thresholds


def powers_of_two(most: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... up to ``most``, and ``most`` itself."""
    check_steps(most)
    powers = [2**k for k in range(most.bit_length())]
    return tuple(dict.fromkeys([*powers, most]))
