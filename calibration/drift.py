"""Whether calibration data are like the data that a network will see.

Two sets of activations differ by their Wasserstein-1 distance, the mean way by which one must be moved to become the
other, W = integral |F_1(x) - F_2(x)| dx, with F the share of activations up to x. Two samples of one distribution are
apart too: if each image gives one independent value a channel, by about the following, and by less if it gives several.

    integral sqrt((2 / pi) F(x) (1 - F(x)) (1 / n_1 + 1 / n_2)) dx
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .calibration import Calibration, same_network
from .histogram import BINS, Histogram, covered

DRIFTED, BEYOND = 0.1, 0.01
"""The share of their mean by which activations may move, and the share that may lie beyond the largest seen before."""

SURE = 3.0
"""How many times what chance does on average still counts as chance."""


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
    same_network(calibration, other)
    inverse = sum(1 / n for n in (calibration.images, other.images) if n)
    rare = max(BEYOND, SURE / (calibration.images + 1) if calibration.images else 0.0)
    sites = []
    for name, histogram in calibration.histograms.items():
        one, two = covered(histogram, other.histograms[name])
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
