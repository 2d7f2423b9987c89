"""Entropy calibration: the threshold at which T + 1 levels say most of the distribution of activations.

Source: Migacz, "8-bit inference with TensorRT", GTC 2017.
"""

import torch
from torch import Tensor

from .gaussian import Moments
from .histogram import BINS, Histogram

_FEWEST = 128
"""Bins below a candidate, where T does not ask for fewer; so many levels has TensorRT."""


def kl(histogram: Histogram, steps: int, moments: Moments | None = None) -> Tensor:
    """Return the threshold whose T + 1 levels have the smallest Kullback-Leibler divergence from the activations.

    argmin over theta of sum_i P_i log(P_i / Q_i),   theta = j width,  bins i = 1..j

    with P the histogram up to theta and all that lies beyond it counted in its last bin, and Q the histogram up to
    theta after the counts of all bins of a level are divided evenly among those of them that are not empty in P. A bin
    belongs to the level that its centre rounds to. P and Q are normalised. Every j is tried from T + 1 (at most 128) to
    the bin of the largest activation, except where half of all activations lie beyond theta: P is next to nothing but
    its last bin then, and so is Q, and the divergence falls towards 0. TensorRT, whose data have no such channels, has
    the lower limit alone.

    Zeros are left out: a ReLU's zero is a level at any theta, so nothing about it is to be decided, while half of all
    mass in the lowest level would outweigh what is. (Published code does so too, by overwriting the lowest bin.) Levels
    are those of our neurons, rounded, with 0 among them, where TensorRT cuts the range into 128 equal parts.

    Args:
        histogram: of the activations, of |a| at a signed site.
        steps: T.
        moments: not read.

    Returns:
        theta [channels].
    """
    counts = histogram.counts.double()[:, 1:]
    below, present, entropy = (_summed(s) for s in (counts, counts > 0, torch.xlogy(counts, counts)))
    top = (histogram.maximum / histogram.width).ceil()
    best, least = torch.full_like(top, BINS), torch.full_like(top, torch.inf)
    for bins in range(min(steps + 1, _FEWEST), BINS + 1):
        divergence = _divergence(below, present, entropy, bins, steps)
        better = (divergence < least) & (2 * below[:, bins] >= below[:, -1]) & (bins <= top)
        best, least = torch.where(better, bins, best), torch.where(better, divergence, least)
    return torch.minimum(best * histogram.width, histogram.maximum)


def _summed(values: Tensor) -> Tensor:
    return torch.nn.functional.pad(values.double().cumsum(1), (1, 0))


def _divergence(below: Tensor, present: Tensor, entropy: Tensor, bins: int, steps: int) -> Tensor:
    """Return the divergence [channels] where theta is the upper edge of bin ``bins``.

    With c the counts of P, M_n and K_n the count and the number of bins of level n in Q, N and M their sums,

        [sum_i c_i log c_i - sum_n C_n log(M_n / K_n)] / N - log(N / M),   C_n = sum of c_i in level n

    from the sums of counts, of bins that are not empty and of c log c below each edge.
    """
    total, mass = below[:, -1], below[:, bins]
    beyond, last = total - mass, mass - below[:, bins - 1]
    level = ((2 * torch.arange(bins) + 1) * steps + bins) // (2 * bins)  # floor((i + 1/2) T / bins + 1/2)
    edges = torch.cat([torch.tensor([0]), level.diff().nonzero()[:, 0] + 1, torch.tensor([bins])])
    counts, filled = below[:, edges].diff(dim=1), present[:, edges].diff(dim=1)
    filled[:, -1] += (last == 0) & (beyond > 0)
    wanted = counts.clone()
    wanted[:, -1] += beyond
    own = entropy[:, bins - 1] + torch.xlogy(last + beyond, last + beyond)
    across = torch.xlogy(wanted, counts / filled.clamp(min=1)).sum(1)
    tiny = torch.finfo(torch.float64).tiny
    return (own - across) / total.clamp(min=tiny) - (total.clamp(min=tiny) / mass.clamp(min=tiny)).log()
