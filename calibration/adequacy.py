"""Whether there were enough calibration images.

Thresholds of two halves, n_1 and n_2 images, differ by chance, which falls with 1 / sqrt(n). Those of all are off by

    |theta_1 - theta_2| sqrt(n_1 n_2) / (n_1 + n_2),   half of the difference where n_1 = n_2
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from snnconvert.converter.graph import PreparedGraph

from .batches import Batches
from .calibration import Calibration, refuse_dead, same_network
from .histogram import Histogram, covered
from .observer import observe_parts
from .rules import PERCENTILE

SETTLED = 0.02
"""The share of their mean by which the thresholds of two halves may differ in the median channel."""


def observe_halves(
    graph: PreparedGraph, batches: Batches, *, about: dict[str, Any] | None = None, sample: int = 1
) -> tuple[Calibration, Calibration, Calibration]:
    """Return calibrations on batches 0, 2, ..., on 1, 3, ..., both without hash, and on all, as `observe`, in one pass.

    Args:
        batches: images [batch, channels, ...] as the network takes them; of a tuple the first tensors are taken.
        about, sample: as for `observe`.

    Raises:
        DataRefused: images of another shape, number or type than the network takes.
        CalibrationRefused: fewer than two batches, a site that is always zero, or one whose input is NaN or infinite.
    """
    (first, second), sha256 = observe_parts(graph, batches, 2, about, sample)
    whole = replace(merged(first, second), sha256=sha256)
    refuse_dead(whole.histograms, graph)
    return first, second, whole


def merged(first: Calibration, second: Calibration) -> Calibration:
    """Return the calibration on the images of both, without a hash; histograms add up exactly.

    Raises:
        CalibrationRefused: they are of different networks, or one saw no image.
    """
    same_network(first, second, seen=True)
    histograms = {}
    for name in first.histograms:
        one, other = covered(first.histograms[name], second.histograms[name])
        histograms[name] = Histogram(one.counts + other.counts, one.exponent, one.maximum.maximum(other.maximum))
    moments = {name: m.joined(second.moments[name]) for name, m in first.moments.items() if name in second.moments}
    about, warnings = first.about | second.about, tuple(dict.fromkeys(first.warnings + second.warnings))
    return Calibration(histograms, first.images + second.images, "", about, warnings, first.weights, moments)


@dataclass(frozen=True)
class Agreement:
    """How the thresholds of two halves of the calibration images agree at one site.

    Args:
        site: its name.
        median: of |theta_1 - theta_2| / mean(theta_1, theta_2) over channels.
        upper: its 90th percentile over channels.
        expected: by how much the threshold of the median channel from all images is off, as a share of itself.
    """

    site: str
    median: float
    upper: float
    expected: float


@dataclass(frozen=True)
class Adequacy:
    """Whether there were enough calibration images.

    Args:
        rule, per, steps: of the thresholds.
        images: how many there were, both halves together.
        worst: the site whose median channel differs most.
        settled: whether the median channel of every site differs by less than `SETTLED`.
        needed: how many images would make halves differ by `SETTLED` there, n (median / `SETTLED`)^2.
        verdict: one sentence.
        sites: one entry each, in the order in which they run.
    """

    rule: str
    per: str
    steps: int
    images: int
    worst: str
    settled: bool
    needed: int
    verdict: str
    sites: tuple[Agreement, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)


def split_half(
    first: Calibration,
    second: Calibration,
    graph: PreparedGraph,
    *,
    steps: int,
    rule: str = "mse",
    per: str = "channel",
    percent: float = PERCENTILE,
) -> Adequacy:
    """Return how the thresholds from two halves of the calibration images differ, the equations on top.

    That they agree says that more images like these would not change them, not that the images are the right ones.
    More images do not help where the halves differ in kind; `drift` of one from the other tells.

    Args:
        first: what one half showed, as `observe_halves` gives it.
        second: what the other half showed.
        steps, rule, per, percent: what thresholds to compare, as for `Calibration.thresholds`.

    Raises:
        UsageError: an unknown rule, or T below 1.
        CalibrationRefused: a half without images, of another network, or with a site that is always zero.
    """
    same_network(first, second, seen=True)
    halves = (half.thresholds(graph, steps=steps, rule=rule, per=per, percent=percent) for half in (first, second))
    one, other = (half.values for half in halves)
    images, sites = first.images + second.images, []
    for site in graph.sites:
        a, b = one[site.name].double(), other[site.name].double()
        apart = (a - b).abs() / ((a + b) / 2)
        median, upper = apart.quantile(torch.tensor([0.5, 0.9]).to(apart)).tolist()
        sites.append(Agreement(site.name, median, upper, median * math.sqrt(first.images * second.images) / images))
    worst = max(sites, key=lambda entry: entry.median)
    settled, needed = worst.median < SETTLED, math.ceil(images * (worst.median / SETTLED) ** 2)
    more = "" if settled else f"; if that is chance, {needed} images would bring it to {SETTLED:.0%}"
    verdict = (
        f"{'settled' if settled else 'not settled'}: the {rule} thresholds of two halves of the {images} calibration "
        f"images differ by {worst.median:.1%} in the median channel of {worst.site}, the worst site{more}"
    )
    return Adequacy(rule, per, steps, images, worst.site, settled, needed, verdict, tuple(sites))
