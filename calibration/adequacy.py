"""Whether there were enough calibration images, and whether they are like the data that a network will see.

Thresholds of two halves, n_1 and n_2 images, differ by chance, which falls with 1 / sqrt(n). Those of all are off by

    |theta_1 - theta_2| sqrt(n_1 n_2) / (n_1 + n_2),   half of the difference where n_1 = n_2

Two sets of activations differ by their Wasserstein-1 distance, the mean way by which one must be moved to become the
other, W = integral |F_1(x) - F_2(x)| dx, with F the share of activations up to x. Two samples of one distribution are
apart too: if each image gives one independent value a channel, by about the following, and by less if it gives several.

    integral sqrt((2 / pi) F(x) (1 - F(x)) (1 / n_1 + 1 / n_2)) dx
"""

import hashlib
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from snnconvert.converter.errors import CalibrationRefused
from snnconvert.converter.graph import PreparedGraph

from .calibration import Calibration, _alike, norms, refuse_dead
from .gaussian import Moments
from .histogram import BINS, Histogram
from .observer import Watch, first_inputs
from .side_by_side import Batches

SETTLED = 0.02
"""The share of their mean by which the thresholds of two halves may differ in the median channel."""

DRIFTED, BEYOND = 0.1, 0.01
"""The share of their mean by which activations may move, and the share that may lie beyond the largest seen before."""

SURE = 3.0
"""How many times what chance does on average still counts as chance."""


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
    digests = [hashlib.sha256() for _ in graph.input_shapes]
    watches, seen = (Watch(graph, sample), Watch(graph, sample)), [0, 0]
    for number, batch in enumerate(batches):
        inputs = first_inputs(graph, batch)
        for digest, x in zip(digests, inputs, strict=True):
            digest.update(x.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        with torch.no_grad():
            watches[number % 2].run(*inputs)
        seen[number % 2] += len(inputs[0])
    known = dict(about or {}), (), norms(graph)
    first, second = (Calibration(w.histograms, n, "", *known, w.moments) for w, n in zip(watches, seen, strict=True))
    digest = digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(d.digest() for d in digests))
    whole = replace(merged(first, second), sha256=digest.hexdigest())
    refuse_dead(whole.histograms, graph)
    return first, second, whole


def merged(first: Calibration, second: Calibration) -> Calibration:
    """Return the calibration on the images of both, without a hash; histograms add up exactly.

    Raises:
        CalibrationRefused: they are of different networks, or one saw no image.
    """
    _same_network(first, second, seen=True)
    histograms = {}
    for name in first.histograms:
        one, other = _covered(first.histograms[name], second.histograms[name])
        histograms[name] = Histogram(one.counts + other.counts, one.exponent, one.maximum.maximum(other.maximum))
    moments = {name: _joined(m, second.moments[name]) for name, m in first.moments.items() if name in second.moments}
    about, warnings = first.about | second.about, tuple(dict.fromkeys(first.warnings + second.warnings))
    return Calibration(histograms, first.images + second.images, "", about, warnings, first.weights, moments)


def _joined(one: Moments, other: Moments) -> Moments:
    """Return the moments of both (Chan et al. 1979)."""
    count, apart = one.count + other.count, other.mean - one.mean
    share = other.count / count.clamp(min=1)
    squares = one.squares + other.squares + apart.square() * one.count * share
    return Moments(count, one.mean + apart * share, squares, one.signed)


def _covered(one: Histogram, other: Histogram) -> tuple[Histogram, ...]:
    """Return both with bins as wide as the wider ones of each channel."""
    both = tuple(Histogram(h.counts.clone(), h.exponent.clone(), h.maximum) for h in (one, other))
    for histogram in both:
        histogram._cover(torch.maximum(one.exponent, other.exponent))
    return both


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
) -> Adequacy:
    """Return how the thresholds from two halves of the calibration images differ, the equations on top.

    That they agree says that more images like these would not change them, not that the images are the right ones.
    More images do not help where the halves differ in kind; `drift` of one from the other tells.

    Args:
        first: what one half showed, as `observe_halves` gives it.
        second: what the other half showed.
        steps, rule, per: what thresholds to compare, as for `Calibration.thresholds`.

    Raises:
        UsageError: an unknown rule, or T below 1.
        CalibrationRefused: a half without images, of another network, or with a site that is always zero.
    """
    _same_network(first, second, seen=True)
    one, other = (half.thresholds(graph, steps=steps, rule=rule, per=per).values for half in (first, second))
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


@dataclass(frozen=True)
class SiteDrift:
    """How the activations of one site differ between two sets of data.

    Args:
        site: its name.
        distance: the Wasserstein-1 distance in units of the mean activation in the calibration data, both of them
            averaged over channels; infinite where that mean is zero and the other is not.
        chance: the distance that chance alone would make, in the same units.
        beyond: the share of the other activations that lie beyond the largest of their channel in the calibration data.
        excess: the larger of the two in units of what is allowed; more than 1 is drift.
    """

    site: str
    distance: float
    chance: float
    beyond: float
    excess: float


@dataclass(frozen=True)
class Drift:
    """How calibration data and other data differ.

    Args:
        images: how many there were in the calibration data, and in the other data.
        worst: the site with the largest excess.
        drifted: whether some site differs by more than is allowed.
        verdict: one sentence.
        sites: one entry each, in the order in which they run.
    """

    images: tuple[int, int]
    worst: str
    drifted: bool
    verdict: str
    sites: tuple[SiteDrift, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types; what is infinite is None."""
        sites = [{k: None if v == math.inf else v for k, v in asdict(entry).items()} for entry in self.sites]
        return asdict(self) | {"sites": sites}


def drift(calibration: Calibration, other: Calibration) -> Drift:
    """Return how far the activations of ``other`` are from those of ``calibration``, the equations on top.

    A site has drifted where its distance exceeds both `DRIFTED` and `SURE` times chance, or what lies beyond both
    `BEYOND` and `SURE` / (n_1 + 1). Values count as in the middle of their bin: W errs by at most the width of a bin.

    Args:
        calibration: what the calibration data showed.
        other: what other data, such as those of an evaluation, showed.

    Raises:
        CalibrationRefused: they are of different networks.
    """
    _same_network(calibration, other)
    inverse = sum(1 / n for n in (calibration.images, other.images) if n)
    rare = max(BEYOND, SURE / (calibration.images + 1) if calibration.images else 0.0)
    sites = []
    for name, histogram in calibration.histograms.items():
        one, two = _covered(histogram, other.histograms[name])
        f1, f2 = _shares(one).cumsum(1), _shares(two).cumsum(1)
        distance = float(_area((f1 - f2).abs(), one.width).mean())
        both = (f1 + f2).clamp(max=2) / 2
        chance = float(_area((both * (1 - both) * inverse * 2 / math.pi).sqrt(), one.width).mean())
        mean = float(_area(1 - f1.clamp(max=1), one.width).mean())
        beyond = float(_beyond(other.histograms[name], histogram.maximum).mean())
        excess = max(_ratio(distance, max(DRIFTED * mean, SURE * chance)), beyond / rare)
        sites.append(SiteDrift(name, _ratio(distance, mean), _ratio(chance, mean), beyond, excess))
    worst = max(sites, key=lambda entry: entry.excess)
    verdict = (
        f"{'drifted' if worst.excess > 1 else 'no drift'}: at {worst.site}, the worst site, the activations of the "
        f"other data are {worst.distance:.1%} of the mean away from those of the calibration data "
        f"(chance: {worst.chance:.1%}), and {worst.beyond:.2%} lie beyond the largest of them"
    )
    return Drift((calibration.images, other.images), worst.site, worst.excess > 1, verdict, tuple(sites))


def _shares(histogram: Histogram) -> Tensor:
    counts = histogram.counts.double()
    return counts / counts.sum(1, keepdim=True).clamp(min=1e-300)


def _area(values: Tensor, width: Tensor) -> Tensor:
    """Return the integral over x of ``values`` [channels, 1 + BINS], each from the middle of its bin to the next."""
    return (values[:, 0] / 2 + values[:, 1:-1].sum(1)) * width


def _beyond(histogram: Histogram, limit: Tensor) -> Tensor:
    """Return the share of values above ``limit`` [channels], those in its bin as evenly spread up to theirs."""
    shares, width = _shares(histogram), histogram.width
    bin_ = (limit / width).ceil().clamp(max=BINS)
    top, bottom = torch.minimum(bin_ * width, histogram.maximum), (bin_ - 1) * width
    part = ((top - limit) / (top - bottom)).nan_to_num().clamp(0, 1)
    column = bin_.long()[:, None]
    above = shares.sum(1, keepdim=True) - shares.cumsum(1).gather(1, column)
    return (above + shares.gather(1, column) * part[:, None])[:, 0].clamp(min=0)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.inf if part else 0.0


def _same_network(first: Calibration, second: Calibration, seen: bool = False) -> None:
    sites = [{name: len(h.maximum) for name, h in c.histograms.items()} for c in (first, second)]
    if sites[0] != sites[1] or (first.weights and second.weights and not _alike(first.weights, second.weights)):
        raise CalibrationRefused("the two calibrations are of different networks", "calibrate one network with both")
    if seen and not (first.images and second.images):
        raise CalibrationRefused("one part of the calibration holds no image", "use two batches of images or more")
