"""Intervals and averages for accuracies: pure functions on per-image results, in fractions of one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054
"""The standard normal deviate that 2.5 % exceed."""

Interval = tuple[float, float]


def wilson(successes: float, trials: int) -> Interval:
    """Return the 95 % Wilson score interval of a proportion.

    With p = successes / trials: (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).
    Unlike the normal interval it stays within [0, 1] and has a width at 0 % and 100 %.

    Args:
        successes: how many trials succeeded; a fraction where each trial is a mean over seeds.
        trials: how many independent trials there were (images, not images times seeds).

    Raises:
        ValueError: there is no trial, or not 0 <= successes <= trials.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"expected 0 <= successes <= trials and a trial, got {successes} of {trials}")
    p, z2 = successes / trials, Z95**2 / trials
    centre = p + z2 / 2
    half = math.sqrt(z2 * (p * (1 - p) + z2 / 4))
    return max(0.0, (centre - half) / (1 + z2)), min(1.0, (centre + half) / (1 + z2))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample deviation (divisor n - 1), the latter None for a single value.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("expected at least one value, got none")
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else None


def paired_difference(first: NDArray[np.floating], second: NDArray[np.floating]) -> tuple[float, Interval]:
    """Return the mean of ``first - second`` and its 95 % interval, both scored on the same images.

    The interval is the normal one after one image won and one image lost have been added:
    m -+ z sqrt((q - m^2) / (n + 2)), m = sum d / (n + 2), q = (sum d^2 + 2) / (n + 2), d = first - second per image.
    For scores of 0 and 1 that is Bonett and Price's interval, which keeps a width where the two networks never differ.

    Args:
        first: [images], in [0, 1]; whether each image was right, or the share of the seeds that had it right.
        second: the same for the other network, in the same order.

    Raises:
        ValueError: the shapes differ or there is no image.

    Source: Bonett and Price, Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data, J. Educ. Behav. Stat. 37, 2012.
    """
    if first.shape != second.shape or first.size < 1:
        raise ValueError(f"expected two equally long scores, got {first.shape} and {second.shape}")
    difference = first.astype(np.float64) - second.astype(np.float64)
    count = difference.size + 2
    mean = float(difference.sum()) / count
    spread = (float(np.square(difference).sum()) + 2) / count - mean**2
    half = Z95 * math.sqrt(spread / count)
    return float(difference.mean()), (max(-1.0, mean - half), min(1.0, mean + half))


def agreement(first: NDArray[np.integer], second: NDArray[np.integer]) -> float:
    """Return the share of images that both networks put in the same class.

    Args:
        first: predicted classes [..., images]; leading dimensions are seeds.
        second: predicted classes of the other network, broadcastable to ``first``.

    Raises:
        ValueError: there is no image.
    """
    if first.size < 1:
        raise ValueError("expected at least one image, got none")
    return float(np.mean(first == second))


@dataclass(frozen=True)
class McNemar:
    """The images that one of two networks alone had right, and how likely so uneven a split is by chance.

    ``p_value`` is two-sided, under the hypothesis that either network is as likely to be the one that is right.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """Return McNemar's exact test of two networks on the same images.

    With b images that only the first has right and c that only the second has, b is Binomial(b + c, 1/2):
    p = min(1, 2 P(B <= min(b, c))); 1 where the networks never differ.

    Args:
        first: [images], whether each image was right; of a stochastic network with one seed, as trials must be.
        second: the same for the other network, in the same order.

    Raises:
        ValueError: the shapes differ or there is no image.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12, 1947; with the binomial distribution in the place of its normal limit.
    """
    from scipy.stats import binomtest  # takes longer to import than most tables need

    if first.shape != second.shape or first.size < 1:
        raise ValueError(f"expected two equally long scores, got {first.shape} and {second.shape}")
    won, lost = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemar(won, lost, float(binomtest(won, won + lost).pvalue) if won + lost else 1.0)
