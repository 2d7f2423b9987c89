"""The plot of spikes: where strokes, windows and step numbers stand."""

import numpy as np
import pytest

from snnconvert.evaluation.report import Raster
from snnconvert.evaluation.report.raster_plot import places_of, raster
from snnconvert.evaluation.report.svg import Plot, inline, settings

from .made_up import network


def windowed(steps: int, *starts: int) -> Plot:
    """Sites that fire at every step of their windows, which begin after ``starts`` steps."""
    spikes = np.ones((steps, 2), bool)
    with settings():
        plot = raster(Raster({f"s{n}": spikes for n in starts}, starts={f"s{n}": n for n in starts}))
        assert plot
        inline(plot.figure, "plot", "")
    return plot


def ticks(plot: Plot) -> dict[float, str]:
    axis = plot.figure.axes[-1].xaxis
    return dict(zip(axis.get_majorticklocs(), (label.get_text() for label in axis.get_ticklabels()), strict=True))


def test_a_stroke_stands_where_a_neuron_fires() -> None:
    spikes = np.array([[0, 1], [0, 0], [-1, 0]])  # neuron 2 at step 1, neuron 1 at step 3, negative
    with settings():
        plot = raster(Raster({"relu": spikes}, "a Coat"))
    assert plot
    upright, level = (np.array(line.get_xydata()) for line in plot.figure.axes[0].lines)
    assert upright[:2].mean(0).tolist() == [1, 2]
    assert level[:2].mean(0).tolist() == [3, 1]
    assert upright[0, 0] == upright[1, 0]
    assert level[0, 1] == level[1, 1]
    assert len(upright) == len(level) == 3
    assert "for a Coat." in plot.caption
    assert "negative" in plot.caption
    with settings():
        binary = raster(Raster({"relu": spikes > 0}))
    assert binary
    assert "negative" not in binary.caption
    assert "window" not in binary.caption
    assert not binary.figure.axes[0].patches
    assert binary.figure.axes[0].get_xlabel() == "step"


def test_a_raster_shows_a_part_of_what_is_large() -> None:
    spikes = np.ones((500, 90), bool)
    with settings():
        plot = raster(Raster({f"s{n}": spikes for n in range(9)}))
        assert plot
        assert len(inline(plot.figure, "plot", "")) < 300_000
    assert len(plot.figure.axes) == 4
    assert len(plot.figure.axes[0].lines[0].get_xydata()) == 3 * 64 * 24
    assert "The first 64 steps of a window are shown." in plot.caption


def test_each_window_stands_at_its_steps() -> None:
    plot = windowed(4, 4, 12)
    for axes, start in zip(plot.figure.axes, (4, 12), strict=True):
        strokes = np.asarray(axes.lines[0].get_xdata())
        assert sorted({*strokes[~np.isnan(strokes)]}) == [start + step for step in (1, 2, 3, 4)]
        (shade,) = axes.patches
        extent = shade.get_extents().transformed(axes.transData.inverted())
        assert (extent.x0, extent.x1) == (pytest.approx(start + 0.5), pytest.approx(start + 4.5))
        assert axes.get_xlim() == (0.5, 16.5)
    assert ticks(plot) == {1: "1", 5: "5", 9: "9", 13: "13"}
    assert plot.figure.axes[-1].get_xlabel() == "step since the image arrived"
    assert "takes in one window, T = 4, and fires in the next" in plot.caption
    assert "leaves out" not in plot.caption


def test_steps_are_numbered_a_few_times() -> None:
    assert [*ticks(windowed(8, 8, 80, 152)).values()] == ["1", "25", "49", "73", "97", "121", "145"]


def test_a_long_axis_leaves_out_windows_in_which_nothing_is_shown() -> None:
    plot = windowed(32, 32, 224, 416, 608)
    assert ticks(plot) == {1: "33", 38: "225", 75: "417", 112: "609"}
    for axes, (place, _) in zip(plot.figure.axes, ticks(plot).items(), strict=True):
        strokes = np.asarray(axes.lines[0].get_xdata())
        assert (np.nanmin(strokes), np.nanmax(strokes)) == (place, place + 31)
    assert "The axis leaves out the windows in which none of these sites fires." in plot.caption


@pytest.mark.parametrize(
    ("starts", "steps", "expected"),
    [
        ((0, 0), 500, {0: 0}),
        ((12, 4, 4), 4, {4: 4, 12: 12}),
        ((64, 192), 64, {64: 64, 192: 192}),
        ((64, 193), 64, {64: 0, 193: 73}),
        ((65,), 65, {65: 0}),
    ],
)
def test_places(starts: tuple[int, ...], steps: int, expected: dict[int, int]) -> None:
    assert places_of(starts, steps) == expected


def test_no_spikes_are_no_plot() -> None:
    assert raster(None) is None
    assert raster(Raster({})) is raster(Raster({"a": np.zeros((0, 3), bool), "b": np.zeros((4, 0), bool)})) is None


@pytest.mark.parametrize("streaming", [True, False])
def test_one_step(streaming: bool) -> None:
    with settings():
        plot = raster(network("n", 3, 1, streaming).raster)
        assert plot
        assert "nan" not in inline(plot.figure, "plot", plot.title)
