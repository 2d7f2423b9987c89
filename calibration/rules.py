"""Threshold rules: from the distribution of a site's activations to theta, for each channel.

To add a rule, write a function ``rule(histogram, steps, moments) -> theta [channels]`` and add it to ``RULES``; add it
to ``DEPENDS_ON_STEPS`` if theta changes with T. Where it has no answer, it gives NaN: `answer` puts the threshold of
`mse` there, and ``DOUBTS`` says what a user is told.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .gaussian import Moments, gaussian
from .histogram import BINS, Histogram
from .kl import kl
from .local_balancing import local_balancing, still_growing

PERCENTILE = 99.9
"""The percentile of the rule of that name, over all activations of a channel, zeros included."""

_CANDIDATES = 128
_CHANNELS_AT_ONCE = 4096


def maximum(histogram: Histogram, steps: int, moments: Moments | None = None) -> Tensor:
    """Return the largest activation (Deng and Gu 2021, arXiv 2103.00476)."""
    return histogram.maximum.clone()


def percentile(histogram: Histogram, steps: int, moments: Moments | None = None, percent: float = PERCENTILE) -> Tensor:
    """Return the value that ``percent`` of the activations do not exceed (Rueckauer et al. 2017: robust normalisation).

    Between the edges of a bin values count as evenly spread. Where ``percent`` of the values are zero, the largest
    activation is returned.
    """
    below = histogram.counts.double().cumsum(1)
    wanted = below[:, -1:] * (percent / 100)
    bin_ = torch.searchsorted(below, wanted).clamp(1, BINS)
    before, after = below.gather(1, bin_ - 1), below.gather(1, bin_)
    position = bin_ - 1 + ((wanted - before) / (after - before).clamp(min=1e-300)).clamp(0, 1)
    theta = torch.minimum(position[:, 0] * histogram.width, histogram.maximum)
    return torch.where(theta > 0, theta, histogram.maximum)


def mse(histogram: Histogram, steps: int, moments: Moments | None = None) -> Tensor:
    """Return the threshold whose T + 1 levels are closest to the activations a, in the mean square.

    argmin over theta of E[(a - q(a))^2],  q(a) = (theta / T) clip(floor(a T / theta + 1/2), 0, T)

    A grid over (0, max a], then a finer one around its best point. Li et al. 2021 (arXiv 2106.06984) search
    max a (1 - g / 100) for g = 0..94 with floor in the place of rounding; we round, because our neurons do.
    """
    parts = []
    for rows in torch.arange(len(histogram.maximum)).split(_CHANNELS_AT_ONCE):
        part = Histogram(histogram.counts[rows], histogram.exponent[rows], histogram.maximum[rows])
        grid = torch.arange(1, _CANDIDATES + 1, dtype=torch.float64) / _CANDIDATES
        best = _best(part, part.maximum[:, None] * grid, steps)
        fine = torch.linspace(-1, 1, 33, dtype=torch.float64) / _CANDIDATES
        near = best[:, None] + part.maximum[:, None] * fine
        parts.append(_best(part, near.clamp(min=0.5 * part.maximum[:, None] / _CANDIDATES), steps))
    return torch.cat(parts)


def _best(histogram: Histogram, candidates: Tensor, steps: int) -> Tensor:
    chosen = squared_error(histogram, candidates, steps).argmin(1, keepdim=True)
    return candidates.gather(1, chosen)[:, 0]


def squared_error(histogram: Histogram, theta: Tensor, steps: int) -> Tensor:
    """Return sum (a - q(a))^2 over the activations, for each of the thresholds ``theta`` [channels, candidates].

    With S_k(b) the sum of a^k over activations above b, and b_n = (n - 1/2) theta / T the edge below level n,

        S_2(0) - 2 (theta / T) sum_n S_1(b_n) + (theta / T)^2 sum_n (2n - 1) S_0(b_n),   n = 1..T

    so its cost does not depend on the number of bins. Within a bin values count as evenly spread.
    """
    counts = histogram.counts.double()[:, 1:]
    centres = (torch.arange(BINS) + 0.5) * histogram.width[:, None]
    moments = [torch.cat([torch.zeros_like(counts[:, :1]), (counts * centres**k).cumsum(1)], 1) for k in range(3)]
    level = theta / steps
    error = moments[2][:, -1:].expand_as(theta).clone()
    for n in range(1, steps + 1):
        position = ((n - 0.5) * level / histogram.width[:, None]).clamp(max=BINS)
        left = position.floor().clamp(max=BINS - 1).long()
        zeroth, first = (
            s[:, -1:] - torch.lerp(s.gather(1, left), s.gather(1, left + 1), position - left) for s in moments[:2]
        )
        error += (2 * n - 1) * level**2 * zeroth - 2 * level * first
    return error


RULES: dict[str, Callable[..., Tensor]] = {
    "max": maximum,
    "percentile": percentile,
    "mse": mse,
    "gaussian": gaussian,
    "ltb": local_balancing,
    "kl": kl,
}
"""The rules, by the name that the command line uses."""

DEPENDS_ON_STEPS = frozenset({"mse", "gaussian", "kl"})
"""The rules whose thresholds fit one T only."""

DOUBTS = {
    "gaussian": "have no threshold by the gaussian rule; they take that of the mse rule",
    "ltb": "have thresholds that still grew when the ltb rule came to its last iteration",
}
"""By rule, what to say of the channels that `answer` is in doubt of."""


def answer(
    rule: str, steps: int, histogram: Histogram, moments: Moments | None, percent: float = PERCENTILE
) -> tuple[Tensor, Tensor]:
    """Return theta and which thresholds are in doubt, bool, both [channels]; where ``rule`` has none, that of `mse`.

    Raises:
        CalibrationRefused: the rule needs moments, and there are none.
    """
    options = {"percent": percent} if rule == "percentile" else {}
    theta = RULES[rule](histogram, steps, moments, **options)
    missing = theta.isnan()
    doubtful = still_growing(histogram, theta) if rule == "ltb" else missing
    if bool(missing.any()):
        theta = torch.where(missing, mse(histogram, steps), theta)
    return theta, doubtful & ~histogram.dead


PER = ("channel", "layer")
"""One threshold for each channel, or one for the whole site."""
