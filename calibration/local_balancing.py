"""Local threshold balancing: theta grows until little is cut.

Source: Bu, Li and Yu, CVPR 2025 (arXiv 2409.03368), and their code.
"""

import torch
from torch import Tensor

from .gaussian import Moments
from .histogram import BINS, Histogram

ITERATIONS = 1000
"""As many batches as the paper runs."""


def local_balancing(
    histogram: Histogram, steps: int, moments: Moments | None = None, iterations: int = ITERATIONS
) -> Tensor:
    """Return theta after 1,000 iterations from 0 over the activations a of the channel, zeros included.

    theta <- theta + 2 mean((a - theta) [a > theta])

    The mean is over the histogram, with values spread evenly within a bin. The paper takes it over a random batch of
    100 images in each iteration, of a network whose other sites are clipped at their own thresholds meanwhile; ours is
    its expectation where those are not clipped. Where few values are zero, the first step goes beyond all of them, and
    the paper's theta stays there; ours is at most the largest activation.

    Args:
        histogram: of the activations.
        steps: not read: theta suits any T.
        moments: not read.
        iterations: how many.
    """
    theta = torch.zeros_like(histogram.maximum)
    excess = _Excess(histogram)
    for _ in range(iterations):
        theta = theta + 2 * excess(theta)
    return torch.minimum(theta, histogram.maximum)


def still_growing(histogram: Histogram, theta: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Return which channels grow, after ``iterations``, at more than half of their mean pace so far, bool [channels].

    2 mean((a - theta) [a > theta]) > theta / (2 iterations)

    which is 0.05 % of theta for 1,000 iterations. Steps only become smaller, so none is more than 0.1 % of theta then.
    Where one activation in n is v and the others are zero, theta grows so until it is 0.72 v, after n / 1.6 iterations.
    """
    return 2 * _Excess(histogram)(theta) > theta / (2 * iterations)


class _Excess:
    """mean((a - theta) [a > theta]) of each channel, from sums that are taken once."""

    def __init__(self, histogram: Histogram) -> None:
        counts = histogram.counts.double()
        share = counts[:, 1:] / counts.sum(1, keepdim=True).clamp(min=1e-300)
        self.width = histogram.width[:, None]
        self.share = torch.cat([share, torch.zeros_like(share[:, :1])], 1)
        self.above = self.share.flip(1).cumsum(1).flip(1)  # the share of values beyond each edge
        self.excess = torch.zeros_like(self.above)
        self.excess[:, :-1] = (self.above[:, 1:] + share / 2).flip(1).cumsum(1).flip(1)  # in bins

    def __call__(self, theta: Tensor) -> Tensor:
        position = (theta[:, None] / self.width).clamp(max=BINS)
        edge = position.floor().long()
        part = position - edge
        share, above, excess = (s.gather(1, edge) for s in (self.share, self.above, self.excess))
        return ((excess - part * above + part**2 * share / 2) * self.width)[:, 0]
