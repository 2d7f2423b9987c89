"""Plots of one network: what is on them, and that no odd site breaks one."""

import math

import pytest

from snnconvert.evaluation.report.site_plots import (
    accuracy_over_time,
    error_parts,
    error_sources,
    ranked,
    rates,
    searched,
    thresholds,
)
from snnconvert.evaluation.report.svg import inline, settings

from .made_up import network

ERRORS = [
    {"site": "a", "clipped": 0.1, "quantisation": 0.2, "temporal": 0.0, "stochastic": 0.0, "own": 0.3, "inherited": 9},
    {"site": "b", "clipped": 0.0, "quantisation": 0.5, "temporal": 0.0, "stochastic": 0.0, "own": 0.5, "total": 9.0},
    {"site": "c", "clipped": None, "quantisation": None, "temporal": None, "stochastic": None, "own": None},
]


def test_bars_are_the_rates_at_the_sites_numbers() -> None:
    with settings():
        plot = rates([{"name": "a", "rate": 0.1}, {"name": "b", "rate": None}, {"name": "c", "rate": 0.3}])
    assert plot
    bars = plot.figure.axes[0].patches
    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in bars] == [
        (1, 0.1),
        (3, pytest.approx(0.3)),
    ]


def test_thresholds_are_a_dot_and_a_line() -> None:
    site = {"name": "a", "threshold": {"min": 1.0, "median": 2.0, "max": 4.0}}
    with settings():
        plot = thresholds([{"name": "z"}, site])
        wide = thresholds([site, {"threshold": {"min": 0.01, "median": 2.0, "max": 4.0}}])
        none = thresholds([site, {"threshold": {"min": 0.0, "median": 2.0, "max": 4.0}}])
    assert plot
    assert wide
    assert none
    axes = plot.figure.axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[2, 2.0]]
    assert axes.collections[0].get_paths()[0].vertices.tolist() == [[2, 1.0], [2, 4.0]]
    assert [each.figure.axes[0].get_yscale() for each in (plot, wide, none)] == ["linear", "log", "linear"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 9.0, ["0.1", "0.2", "0.5", "1", "2", "5", "10"]), (0.4, 90.0, ["1", "10", "100"])],
)
def test_a_wide_range_of_thresholds_has_round_numbers(low: float, high: float, expected: list[str]) -> None:
    with settings():
        plot = thresholds([{"threshold": {"min": low, "median": 1.5, "max": high}}])
        assert plot
        drawn = inline(plot.figure, "plot", "")
    axes = plot.figure.axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == expected
    assert "mathdefault" not in drawn


def test_errors_are_ranked_and_stacked() -> None:
    assert [entry["site"] for entry in ranked(ERRORS)] == ["b", "a", "c"]
    assert error_parts(ERRORS) == ["clipped", "quantisation"]
    with settings():
        plot = error_sources(ERRORS)
    assert plot
    bars = [(bar.get_x(), bar.get_width()) for bar in plot.figure.axes[0].patches]
    assert bars == [(0, 0.0), (0, 0.1), (0, 0.0), (0.0, 0.5), (0.1, 0.2), (0, 0)]
    assert [label.get_text() for label in plot.figure.axes[0].get_yticklabels()] == ["b", "a", "c"]
    assert [key.text for key in plot.keys] == ["clipping", "quantisation"]


def test_an_unknown_part_keeps_its_name() -> None:
    assert error_parts([{"site": "a", "leak": 0.2, "temporal": 0.1, "note": "text"}]) == ["temporal", "leak"]


def test_of_many_sites_the_worst_are_shown() -> None:
    errors = [{"site": f"s{n}", "clipped": n / 100} for n in range(200)]
    with settings():
        plot = error_sources(errors)
    assert plot
    assert [label.get_text() for label in plot.figure.axes[0].get_yticklabels()] == [f"s{199 - n}" for n in range(12)]
    assert plot.caption.startswith("The 12 sites of 200 that add most.")


def test_curves() -> None:
    with settings():
        over_time, search = accuracy_over_time([50.0, math.nan, 90.0]), searched([(8, 90.0), (2, 70.0)])
    assert over_time
    assert search
    assert over_time.figure.axes[0].lines[0].get_xydata().tolist() == [[1, 50], [3, 90]]
    assert search.figure.axes[0].lines[0].get_xydata().tolist() == [[2, 70], [8, 90]]


def test_nothing_known_is_no_plot() -> None:
    empty = network("none", 0)
    for plot in (rates(empty.sites), thresholds(empty.sites), error_sources(empty.errors)):
        assert plot is None
    assert rates([{"name": "a", "rate": math.nan}]) is None
    assert thresholds([{"threshold": None}, {"threshold": {"min": 1.0, "median": None, "max": 2.0}}]) is None
    assert error_sources([{"site": "a", "clipped": None, "quantisation": 0.0}]) is None
    assert accuracy_over_time(None) is accuracy_over_time([]) is searched([]) is None


@pytest.mark.parametrize("sites", [1, 2, 200])
def test_any_number_of_sites(sites: int) -> None:
    one = network("n", sites, steps=1)
    long = [entry | {"site": "module." * 40 + str(n)} for n, entry in enumerate(one.errors)]
    with settings():
        plots = [rates(one.sites), thresholds(one.sites), error_sources(long), accuracy_over_time(one.by_t)]
        for plot in (*plots, searched([(1, 50.0)])):
            assert plot
            assert "nan" not in inline(plot.figure, "plot", plot.title)
