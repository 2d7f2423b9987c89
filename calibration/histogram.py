"""Histograms of activations, one per channel, gathered in one pass over data of unknown range.

A channel's bins divide (0, 2^e] evenly, with e the smallest integer that covers what was seen. When a larger value
comes, 2^k neighbouring bins become one: no count is lost or moved, memory does not depend on the number of images,
and histograms of different channels or parts of the data add up exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snnconvert.converter import processes

BINS = 1024
"""Bins per channel. At T = 32 and a threshold at half of the range, a level spans 16 of them."""

_EMPTY = -1000

_SMALLEST = -100
"""The smallest e, so that the width of a bin and its inverse are numbers in float32."""


@dataclass
class Histogram:
    """The distribution of non-negative activations in each channel.

    Args:
        counts: how many values were zero (column 0), and how many fell in each bin, [channels, 1 + BINS].
        exponent: e, int64 [channels]; meaningless where a channel was always zero.
        maximum: the largest value, [channels].
    """

    counts: Tensor
    exponent: Tensor
    maximum: Tensor

    @classmethod
    def empty(cls, channels: int) -> "Histogram":
        """Return a histogram of nothing."""
        return cls(
            torch.zeros(channels, 1 + BINS, dtype=torch.int64),
            torch.full((channels,), _EMPTY),
            torch.zeros(channels, dtype=torch.float64),
        )

    @classmethod
    def gaussian(cls, mean: Tensor, deviation: Tensor, cap: float | None) -> "Histogram":
        """Return the distribution of min(max(z, 0), cap) for z ~ N(mean, deviation^2), [channels], cut at 5 sigma."""
        mean, deviation = mean.double()[:, None], deviation.double()[:, None]
        top = (mean + 5 * deviation).clamp(min=0, max=cap)
        found = cls.empty(len(mean))
        found.maximum = top[:, 0]
        found.exponent = _exponent(found.maximum)
        edges = torch.arange(1 + BINS) * found.width[:, None]
        below = torch.special.ndtr((edges - mean) / deviation.clamp(min=1e-12))
        below[edges >= top] = 1.0
        found.counts = torch.cat([below[:, :1], below.diff(dim=1)], 1)
        return found

    @property
    def width(self) -> Tensor:
        """The width of a bin, float64 [channels]."""
        return torch.ldexp(torch.ones_like(self.maximum), self.exponent) / BINS

    @property
    def dead(self) -> Tensor:
        """Whether a channel was always zero, bool [channels]."""
        return self.maximum <= 0

    def check(self) -> None:
        """Raise ValueError where the fields do not fit each other, as those of a file may not."""
        channels = (len(self.counts),)
        shapes = self.counts.shape == (*channels, 1 + BINS) and self.exponent.shape == self.maximum.shape == channels
        types = self.exponent.dtype is torch.int64 and self.maximum.dtype is torch.float64
        if not (shapes and types and bool((self.counts >= 0).all()) and bool(self.maximum.isfinite().all())):
            raise ValueError("a histogram that is none")

    def add(self, activations: Tensor, largest: Tensor | None = None) -> None:
        """Count ``activations`` [batch, channels, ...], which must be finite and not negative.

        Args:
            largest: of each channel [channels], where there were more activations than those to be counted.
        """
        values = activations.transpose(0, 1).reshape(len(self.maximum), -1)
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        largest = values.amax(1) if largest is None else largest
        self.maximum = torch.maximum(self.maximum, largest.cpu().double())
        self._cover(_exponent(self.maximum))
        scale = torch.where(self.dead, 0.0, 1 / self.width).to(values)[:, None]
        bins = (values * scale).ceil_().clamp_(max=BINS).long()
        bins += torch.arange(len(bins), device=bins.device)[:, None] * (1 + BINS)
        found = torch.bincount(bins.flatten(), minlength=self.counts.numel())
        self.counts += found.reshape(self.counts.shape).cpu()

    def merged(self) -> "Histogram":
        """Return one histogram of all channels together."""
        alike = Histogram(self.counts.clone(), self.exponent.clone(), self.maximum)
        alike._cover(self.exponent.max().expand_as(self.exponent))
        return Histogram(alike.counts.sum(0, keepdim=True), alike.exponent[:1], self.maximum.max()[None])

    def _cover(self, exponent: Tensor) -> None:
        """Widen the range of each channel to at least 2^exponent."""
        if bool((exponent <= self.exponent).all()):
            return
        growth = (exponent - self.exponent).clamp(min=0)
        growth[self.exponent == _EMPTY] = 0  # no bin to move
        for k in growth.unique().tolist():
            if k == 0:
                continue
            rows = growth == k
            joined = min(2**k, BINS) if k < 63 else BINS
            counts = torch.zeros_like(self.counts[rows])
            counts[:, 0] = self.counts[rows, 0]
            counts[:, 1 : 1 + BINS // joined] = self.counts[rows, 1:].unflatten(1, (-1, joined)).sum(2)
            self.counts[rows] = counts
        self.exponent = torch.maximum(self.exponent, exponent)


def _exponent(maximum: Tensor) -> Tensor:
    """Return the smallest e with maximum <= 2^e, at least ``_SMALLEST``, int64 [channels]."""
    mantissa, exponent = torch.frexp(maximum)
    exponent = exponent.long() - (mantissa == 0.5).long()
    return torch.where(maximum > 0, exponent.clamp(min=_SMALLEST), torch.tensor(_EMPTY))


def covered(one: Histogram, other: Histogram) -> tuple[Histogram, ...]:
    """Return both with bins as wide as the wider ones of each channel."""
    both = tuple(Histogram(h.counts.clone(), h.exponent.clone(), h.maximum) for h in (one, other))
    for histogram in both:
        histogram._cover(torch.maximum(one.exponent, other.exponent))
    return both


def add_up(histograms: Sequence[Histogram]) -> None:
    """Put in the place of each histogram the sum of those that all processes have there, exactly.

    Raises:
        ProcessLost: another process is gone, or does not answer.
    """
    ranges = processes.gather(lambda: [(h.exponent, h.maximum) for h in histograms])
    for histogram, *seen in zip(histograms, *ranges, strict=True):
        for exponent, maximum in seen:
            histogram._cover(exponent)
            histogram.maximum = histogram.maximum.maximum(maximum)
        processes.add([histogram.counts])
