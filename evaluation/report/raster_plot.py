"""The plot of spikes: when a few neurons of a few sites fire, each site in its window."""

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from .content import Raster, Spikes
from .svg import GRID, INK, SERIES, Plot, figure, plain

MOST_SITES, MOST_NEURONS, MOST_STEPS = 4, 24, 64
"""What a raster shows of more: sites, neurons of each, and steps of each window."""

MOST_ON_AXIS = 256
"""Steps of an axis on which single ones can be told apart; a longer one leaves out the windows that are empty."""

_MOST_TICKS = 8


def raster(found: Raster | None) -> Plot | None:
    """Plot when a few neurons fire, on one axis of steps since the image; None where no spike train was kept."""
    trains = {name: spikes for name, spikes in (found.sites if found else {}).items() if spikes.size}
    shown = {name: trains[name][:MOST_STEPS, :MOST_NEURONS] for name in list(trains)[:MOST_SITES]}
    if not found or not shown:
        return None
    starts = {name: found.starts.get(name, 0) for name in shown}
    steps, length = (max(map(len, each.values())) for each in (trains, shown))
    places = places_of(starts.values(), steps)
    heights = [max(3, spikes.shape[1]) for spikes in shown.values()]
    drawing = figure(0.5 + sum(0.3 + 0.055 * each for each in heights))
    panels = drawing.subplots(len(shown), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, spikes) in zip(panels, shown.items(), strict=True):
        place = places[starts[name]]
        if any(starts.values()):
            axes.axvspan(place + 0.5, place + length + 0.5, color=GRID, linewidth=0, zorder=0)
        axes.plot(*_strokes(spikes > 0, 0.0, 0.36, place), color=INK, linewidth=1.1, solid_capstyle="butt")
        axes.plot(*_strokes(spikes < 0, 0.36, 0.0, place), color=SERIES[1], linewidth=1.4, solid_capstyle="butt")
        axes.set_title(plain(name, 40), pad=3, fontsize=9)
        axes.set_ylim(spikes.shape[1] + 0.5, 0.5)
        axes.set_yticks([])
        axes.grid(visible=False)
    panels[-1].set_xlim(0.5, max(places.values()) + length + 0.5)
    panels[-1].set_xlabel("step since the image arrived" if any(starts.values()) else "step")
    _ticks(panels[-1], places, steps)
    return Plot(drawing, "Spikes", _caption(found.image, list(shown.values()), places, steps))


def places_of(starts: Iterable[int], steps: int) -> dict[int, int]:
    """Return how much of the axis lies before each window that begins after so many steps.

    As many steps, where the axis holds all up to the end of the last window; else the windows stand side by side with
    gaps between them, each cut to `MOST_STEPS`.

    Args:
        steps: T, the length of each window.
    """
    first = sorted(set(starts))
    if steps <= MOST_STEPS and first[-1] + steps <= MOST_ON_AXIS:
        return {start: start for start in first}
    length = min(steps, MOST_STEPS)
    return {start: number * (length + length // 8 + 1) for number, start in enumerate(first)}


def _ticks(axes: Axes, places: dict[int, int], steps: int) -> None:
    """Number the steps; where windows follow each other, the first one of each."""
    if not any(places):
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        return
    numbers = {place + 1: start + 1 for start, place in places.items()}
    if _gapless(places):
        numbers = {step: step for step in range(1, max(places) + 2, steps)}
    axes.xaxis.set_major_locator(FixedLocator(list(numbers)[:: math.ceil(len(numbers) / _MOST_TICKS)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{numbers[round(place)]:,}"))


def _gapless(places: dict[int, int]) -> bool:
    return all(start == place for start, place in places.items())


def _caption(image: str, shown: list[Spikes], places: dict[int, int], steps: int) -> str:
    said = [f"Spikes of up to {MOST_NEURONS} neurons a site, one neuron a line, for {image or 'one image'}."]
    if any(places):
        said += [f"A site takes in one window, T = {steps}, and fires in the next, which is shaded."]
    if not _gapless(places):
        said += ["The axis leaves out the windows in which none of these sites fires."]
    if steps > MOST_STEPS:
        said += [f"The first {MOST_STEPS} steps of a window are shown."]
    if any((spikes < 0).any() for spikes in shown):
        said += ["An upright stroke is a spike, a level one a negative spike."]
    return " ".join(said)


def _strokes(fires: Spikes, across: float, up: float, place: int) -> tuple[list[float], list[float]]:
    """Return the corners of one stroke where ``fires`` [steps, neurons] is true, ``place`` steps on, with gaps."""
    x, y = list[float](), list[float]()
    for step, neuron in np.argwhere(fires) + 1:
        x += [place + step - across, place + step + across, math.nan]
        y += [neuron - up, neuron + up, math.nan]
    return x, y
