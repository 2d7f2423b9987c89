"""Local threshold balancing against the same iteration on the raw samples, and against its closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from snnconvert.calibration.histogram import Histogram
from snnconvert.calibration.local_balancing import ITERATIONS, local_balancing, still_growing

SAMPLES = 20_000


def draw() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    normal = random.standard_normal(SAMPLES)
    return {
        "rectified": np.maximum(normal, 0),
        "sparse": np.maximum(normal - 2.5, 0),
        "exponential": random.exponential(0.01, SAMPLES),
        "log-normal": random.lognormal(0, 1, SAMPLES),
        "heavy tail": np.abs(random.standard_t(2, SAMPLES)),
        "never zero": 5 + 0.3 * normal,
    }


DATA = draw()


def histogram(*channels: np.ndarray) -> Histogram:
    found = Histogram.empty(len(channels))
    found.add(torch.tensor(np.stack(channels, 1)))
    return found


def balanced(a: np.ndarray, iterations: int = ITERATIONS) -> float:
    theta = 0.0
    for _ in range(iterations):
        theta += 2 * float(np.maximum(a - theta, 0).mean())
    return theta


@pytest.mark.parametrize("iterations", [1, 2, 10, ITERATIONS])
def test_thresholds_are_those_of_the_raw_samples(iterations: int) -> None:
    counted = histogram(*DATA.values())
    found = local_balancing(counted, 4, iterations=iterations).tolist()
    for (name, a), theta, width in zip(DATA.items(), found, counted.width.tolist(), strict=True):
        expected = min(balanced(a, iterations), a.max())
        assert abs(theta - expected) <= max(width / 4, 1e-9 * expected), name


@pytest.mark.parametrize("name", ["rectified", "exponential", "heavy tail"])
def test_random_batches_come_to_the_same(name: str) -> None:
    random, theta = np.random.default_rng(1), 0.0
    for _ in range(ITERATIONS):
        theta += 2 * float(np.maximum(random.choice(DATA[name], 2000) - theta, 0).mean())
    assert float(local_balancing(histogram(DATA[name]), 4)) == pytest.approx(theta, rel=0.03)


def test_gaussian_without_data_is_the_integral() -> None:
    found = local_balancing(Histogram.gaussian(torch.tensor([-0.5]), torch.tensor([2.0]), None), 4)
    theta = 0.0
    for _ in range(ITERATIONS):
        u = (-0.5 - theta) / 2
        theta += 2 * 2 * float(u * norm.cdf(u) + norm.pdf(u))
    assert float(found) == pytest.approx(theta, rel=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4000), st.integers(-20, 20))
def test_one_value_among_zeros_has_a_closed_form_and_tells_when_it_still_grows(zeros: int, power: int) -> None:
    share, value = 1 / (1 + zeros), 2.0**power
    a = np.zeros(1 + zeros)
    a[0] = value
    counted = histogram(a)
    theta = local_balancing(counted, 4)
    reached = min(1 - (1 - 2 * share) ** ITERATIONS, 1)
    assert float(theta) / value == pytest.approx(reached, abs=2e-3)
    pace = 2 * share * (1 - reached) * 2 * ITERATIONS / reached
    if abs(pace - 1) > 0.01:
        assert bool(still_growing(counted, theta)) == (pace > 1)


def test_steps_only_become_smaller() -> None:
    counted = histogram(*DATA.values())
    found = torch.stack([local_balancing(counted, 4, iterations=n) for n in range(1, 60)])
    steps = found.diff(dim=0)
    assert bool((steps >= 0).all())
    assert bool((steps.diff(dim=0) <= 1e-12).all())


def test_a_dead_channel_stays_at_zero() -> None:
    counted = histogram(np.zeros(9), np.ones(9))
    assert local_balancing(counted, 4).tolist() == [0.0, 1.0]
    assert still_growing(counted, local_balancing(counted, 4)).tolist() == [False, False]
