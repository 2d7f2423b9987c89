import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from snnconvert.evaluation.statistics import Z95, agreement, mcnemar, mean_and_deviation, paired_difference, wilson


def test_z95_is_the_normal_quantile() -> None:
    assert pytest.approx(norm.ppf(0.975), abs=1e-12) == Z95


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (1, 1), (873, 1000), (5, 2000)])
def test_wilson_is_scipys(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).proportion_ci(0.95, "wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_takes_the_mean_over_seeds() -> None:
    low, high = wilson(5.5, 10)
    assert wilson(5, 10)[0] < low < 0.55 < high < wilson(6, 10)[1]


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2), (math.nan, 2)])
def test_wilson_refuses_the_impossible(successes: float, trials: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= successes <= trials and a trial, got"):
        wilson(successes, trials)


def test_mean_and_sample_deviation() -> None:
    values = [79.5, 80.25, 78.75]
    assert mean_and_deviation(values) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
    assert mean_and_deviation([3.0]) == (3.0, None)
    with pytest.raises(ValueError, match="at least one value"):
        mean_and_deviation([])


def bonett_price(only_first: int, only_second: int, images: int) -> tuple[float, float]:
    """The interval as the paper writes it, with Laplace estimates of the two discordant proportions."""
    first, second = (only_first + 1) / (images + 2), (only_second + 1) / (images + 2)
    half = norm.ppf(0.975) * math.sqrt((first + second - (first - second) ** 2) / (images + 2))
    return first - second - half, first - second + half


@pytest.mark.parametrize(("both", "only_first", "only_second", "neither"), [(80, 3, 9, 8), (10, 0, 0, 0), (0, 5, 0, 1)])
def test_paired_difference_is_bonett_and_prices(both: int, only_first: int, only_second: int, neither: int) -> None:
    first = np.array([1.0] * both + [1.0] * only_first + [0.0] * only_second + [0.0] * neither)
    second = np.array([1.0] * both + [0.0] * only_first + [1.0] * only_second + [0.0] * neither)
    difference, interval = paired_difference(first, second)
    assert difference == pytest.approx((only_first - only_second) / first.size)
    low, high = bonett_price(only_first, only_second, first.size)
    assert interval == pytest.approx((max(low, -1), min(high, 1)))


def test_pairing_narrows_the_interval() -> None:
    first = np.array([1.0, 0.0] * 100)
    same, reversed_order = paired_difference(first, first), paired_difference(first, first[::-1])
    assert same[0] == reversed_order[0] == 0
    assert same[1][1] < reversed_order[1][1]


def test_paired_difference_needs_the_same_images() -> None:
    with pytest.raises(ValueError, match="two equally long scores"):
        paired_difference(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="two equally long scores"):
        paired_difference(np.ones(0), np.ones(0))


def test_agreement_broadcasts_over_seeds() -> None:
    ann = np.array([0, 1, 2, 3])
    assert agreement(np.array([[0, 1, 2, 0], [0, 0, 0, 0]]), ann) == pytest.approx(4 / 8)
    with pytest.raises(ValueError, match="at least one image"):
        agreement(np.zeros(0, int), np.zeros(0, int))


def split(only_first: int, only_second: int, both: int = 3, neither: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two networks that differ on so many images."""
    first = np.array([True] * both + [True] * only_first + [False] * only_second + [False] * neither)
    second = np.array([True] * both + [False] * only_first + [True] * only_second + [False] * neither)
    return first, second


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_sum_of_the_binomial_tails(only_first: int, only_second: int) -> None:
    found = mcnemar(*split(only_first, only_second))
    images = only_first + only_second
    tail = sum(math.comb(images, k) for k in range(min(only_first, only_second) + 1)) / 2**images
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail), rel=1e-9)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(*split(5, 0)).p_value == pytest.approx(2 / 32)
    assert mcnemar(*split(1, 7)).p_value == pytest.approx(2 * (1 + 8) / 256)
    assert mcnemar(*split(4, 4)).p_value == 1
    assert mcnemar(*split(0, 0)).p_value == 1


def test_images_that_both_have_right_or_wrong_do_not_count() -> None:
    assert mcnemar(*split(2, 9, both=500, neither=100)) == mcnemar(*split(2, 9))


def test_mcnemar_needs_the_same_images() -> None:
    for first, second in ((np.ones(3, bool), np.ones(4, bool)), (np.ones(0, bool), np.ones(0, bool))):
        with pytest.raises(ValueError, match="two equally long scores, got"):
            mcnemar(first, second)
