"""Plots that compare networks: what is on them, and that no odd row breaks one."""

import math
import random
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.evaluation.report.plots import (
    Plot,
    accuracy_by_cost,
    accuracy_by_steps,
    marks,
    pareto,
    round_ticks,
    series,
    spaced,
)
from snnconvert.evaluation.report.svg import inline, settings

from .made_up import ann, snn

ROWS = [ann(), *(snn(n) for n in range(12))]


def by_operations(rows: list[dict[str, Any]]) -> Plot | None:
    return accuracy_by_cost(rows, lambda row: row.get("synaptic_operations"), "title", "label", "Caption.")


def by_energy(rows: list[dict[str, Any]]) -> Plot | None:
    return accuracy_by_cost(rows, lambda row: (row.get("energy") or {}).get("lemaire"), "title", "label", "Caption.")


def by_latency(rows: list[dict[str, Any]]) -> Plot | None:
    return accuracy_by_steps(rows, "end_to_end_steps")


PLOTS = (accuracy_by_steps, by_latency, by_operations, by_energy)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    beaten = {(c, v) for c, v in points for d, w in points if d <= c and w >= v and (c, v) != (d, w)}
    assert pareto(points) == sorted(set(points) - beaten)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.9, 60, [1, 2, 5, 10, 20, 50]),
        (3.4, 4.9, [4]),
        (3.4, 7.6, [4, 5, 6, 7]),
        (0.03, 0.6, [0.05, 0.1, 0.2, 0.5]),
        (1, 100_000, [1, 10, 100, 1000, 10_000, 100_000]),
        (1e-6, 1e6, [1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6]),
    ],
)
def test_round_ticks(low: float, high: float, expected: list[float]) -> None:
    assert round_ticks(low, high) == expected


@given(st.floats(-290, 290), st.floats(0.35, 500))
def test_ticks_are_few_and_within(start: float, decades: float) -> None:
    low, high = 10.0**start, 10.0 ** min(start + decades, 300)
    ticks = round_ticks(low, high)
    assert 1 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_series_are_by_method_in_the_order_of_the_rows() -> None:
    rows = [*ROWS, snn(0, kind="quantised", method="two-phase"), snn(1, top1=None), snn(1, top1=math.nan, method="x")]
    found = series(rows)
    assert [*found] == ["two-phase", "tpp", "if", "mt-lif, trained directly", "quantised ANN, as many levels"]
    assert [row["steps"] for row in found["tpp"]] == [2, 4, 8]


def lines(plot: Plot | None, sign: str = "-") -> list[tuple[list[float], list[float]]]:
    assert plot
    found = [line for line in plot.figure.axes[0].lines if line.get_linestyle() == sign]
    return [(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in found]


def test_a_line_joins_the_best_of_each_method() -> None:
    rows = [ann(top1=90.0), snn(0, top1=70.0), snn(0, top1=80.0), snn(4, top1=85.0), snn(2, top1=60.0)]
    with settings():
        plot = accuracy_by_steps(rows)
    apart = 2**0.04
    assert lines(plot) == [
        (pytest.approx([2 / apart, 4 / apart]), [80, 85]),
        (pytest.approx([2 * apart]), [60]),
    ]
    assert lines(plot, "--") == [([0, 1], [90, 90])]
    assert plot
    assert [key.text for key in plot.keys] == ["fashion-resnet8, 90.00 %", "two-phase", "if"]
    assert len({key.sign for key in plot.keys}) == len({key.number for key in plot.keys}) == 3
    dots = [line for line in plot.figure.axes[0].lines if line.get_linestyle() == "None"]
    assert sorted(float(np.asarray(dot.get_ydata())[0]) for dot in dots) == [60, 70, 80, 85]


def test_end_to_end_steps_set_streaming_networks_beside_two_phase_ones() -> None:
    two_phase = [snn(0, top1=70.0), snn(4, top1=80.0)]  # T = 2 and 4, eight windows
    rows = [ann(), *two_phase, snn(10, top1=75.0), snn(0, kind="quantised", end_to_end_steps=None)]
    with settings():
        plot = by_latency(rows)
    assert lines(plot) == [(pytest.approx([16 / 2**0.08, 32 / 2**0.08]), [70, 80]), ([8], [75]), ([], [])]
    assert plot
    axes = plot.figure.axes[0]
    assert (plot.title, axes.get_xlabel()) == ("Accuracy against end-to-end steps", "steps from an image to its answer")
    assert axes.xaxis.get_majorticklocs().tolist() == [8, 16, 32]
    assert [key.text for key in plot.keys[1:]] == ["two-phase", "if"]


def test_ticks_keep_apart() -> None:
    assert spaced([2, 4, 24, 25, 47, 48, 100], 2) == [2, 4, 24, 48, 100]
    assert spaced([], 2) == []


def test_error_bars_are_the_intervals() -> None:
    with settings():
        plot = accuracy_by_steps([snn(0, top1=80.0, ci95=[78.5, 81.2])])
    assert plot
    (bar,) = plot.figure.axes[0].collections
    assert bar.get_paths()[0].vertices.tolist() == [[2, 78.5], [2, 81.2]]


def test_the_front_is_drawn_to_the_edge() -> None:
    rows = [snn(n, top1=top1, synaptic_operations=ops) for n, (top1, ops) in enumerate([(80, 10), (85, 20), (70, 30)])]
    with settings():
        plot = by_operations([ann(), *rows])
    assert lines(plot, ":") == [([10, 20, 45], [80, 85, 85])]
    assert plot
    assert plot.keys[-1].text.startswith("Pareto front")
    assert lines(plot, "--") == [([0, 1], [92.9, 92.9])]


def test_an_ann_with_a_cost_is_a_point_of_the_front() -> None:
    with settings():
        plot = by_energy([ann(energy={"lemaire": 1.0}), snn(0, energy={"lemaire": 2.0})])
    assert lines(plot, ":") == [([1.0, 3.0], [92.9, 92.9])]
    assert plot
    assert [key.text for key in plot.keys][:2] == ["ANN", "two-phase"]
    assert lines(plot, "--") == []


@pytest.mark.parametrize("energy", [None, {}, {"lemaire": None}, {"lemaire": 0}, {"lemaire": math.nan}, {"other": 3.0}])
def test_what_has_no_energy_is_left_out_and_said(energy: Any) -> None:
    with settings():
        plot = by_energy([*ROWS, snn(0, energy=energy)])
        assert plot
        assert plot.caption == "Caption. It is known of 12 of the 13 networks."
        assert by_energy([ann(), snn(0, energy=energy)]) is None
    assert len(marks([snn(0, energy=energy)], lambda row: (row["energy"] or {}).get("lemaire"))) == 0


def test_nothing_to_compare_is_no_plot() -> None:
    for draw in PLOTS:
        assert draw([]) is None
        assert draw([ann()]) is None
        assert draw([ann(), snn(0, top1=math.nan)]) is None
    assert accuracy_by_steps([snn(0, steps=None)]) is None
    assert by_latency([snn(0, end_to_end_steps=None)]) is None


ODD = {
    "one row": [snn(0)],
    "no converted row": [ann(), snn(3), snn(7)],
    "T = 1 only": [ann(), *(snn(n, steps=1) for n in range(4))],
    "all alike": [snn(0)] * 5,
    "two ANNs": [ann(), ann(name="other", top1=91.0), snn(0)],
    "nothing but a name": [{"name": "x"}, snn(0)],
    "no interval": [snn(0, ci95=None), snn(1, ci95=[None, None]), snn(2, ci95=[math.nan, 3])],
    "energies far apart": [snn(n, energy={"lemaire": 10.0**e}) for n, e in enumerate((-280, 0, 280))],
    "many methods": [snn(n, method=f"method {n}") for n in range(40)],
    "many T": [snn(0, steps=t, end_to_end_steps=t) for t in range(1, 300)],
    "strange names": [snn(0, method="_<script>$x\n\x00漢"), ann(name="$$")],
}


@pytest.mark.parametrize("rows", ODD.values(), ids=ODD)
def test_no_odd_row_breaks_a_plot(rows: list[dict[str, Any]]) -> None:
    with settings():
        for draw in PLOTS:
            plot = draw(rows)
            assert plot, draw
            assert "nan" not in inline(plot.figure, "plot", plot.title)


def test_any_value_may_be_missing() -> None:
    draw = random.Random(0)
    numbers = count()
    with settings():
        for _ in range(12):
            rows = [{k: None if draw.random() < 0.3 else v for k, v in snn(next(numbers) % 16).items()} for _ in "rows"]
            for plot in (each(rows) for each in PLOTS):
                if plot:
                    inline(plot.figure, "plot", plot.title)


def test_series_beyond_eight_differ_in_sign_or_colour() -> None:
    with settings():
        plot = accuracy_by_steps([snn(n, method=f"m{n}", kind="converted") for n in range(20)])
    assert plot
    assert len({(key.sign, key.number) for key in plot.keys}) == 20


def test_labels_cover_neither_points_nor_each_other() -> None:
    with settings():
        plot = by_operations(ROWS)
        assert plot
        drawn = inline(plot.figure, "plot", "")
        crowd = by_operations([snn(0, synaptic_operations=1e6 + n) for n in range(30)])
    assert all(f"T={steps}" in drawn for steps in (2, 4, 8))
    assert crowd
    texts = crowd.figure.axes[0].texts
    assert len(texts) < 5
