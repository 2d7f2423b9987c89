"""Threshold rules against numpy on the raw samples that a histogram only counts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.calibration.gaussian import Moments
from snnconvert.calibration.histogram import Histogram
from snnconvert.calibration.rules import (
    DEPENDS_ON_STEPS,
    DOUBTS,
    RULES,
    answer,
    maximum,
    mse,
    percentile,
    squared_error,
)

SAMPLES = 3000


def draw() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    normal = random.standard_normal(SAMPLES)
    return {
        "rectified": np.maximum(normal, 0),
        "mostly zero": np.maximum(normal - 1.2, 0),
        "capped": np.clip(4 * normal + 2, 0, 6),
        "exponential": random.exponential(0.01, SAMPLES),
        "log-normal": random.lognormal(0, 1.5, SAMPLES),
        "heavy tail": np.abs(random.standard_t(2, SAMPLES)),
        "one outlier": np.concatenate([np.abs(normal[1:]), [200.0]]),
        "two values": random.choice([0.3, 1.0], SAMPLES),
    }


DATA = {name: values.astype(np.float32) for name, values in draw().items()}


def histogram(*channels: np.ndarray) -> Histogram:
    found = Histogram.empty(len(channels))
    found.add(torch.tensor(np.stack(channels, 1)))
    return found


def moments(*channels: np.ndarray) -> Moments:
    return Moments.of(torch.tensor(np.stack(channels, 1)))


def theta(rule: str, steps: int, *channels: np.ndarray) -> torch.Tensor:
    return answer(rule, steps, histogram(*channels), moments(*channels))[0]


def raw_error(a: np.ndarray, theta: float, steps: int) -> float:
    level = theta / steps
    return float(np.square(a - level * np.clip(np.floor(a / level + 0.5), 0, steps)).sum())


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 32])
def test_mse_is_as_good_as_brute_force(steps: int) -> None:
    found = mse(histogram(*DATA.values()), steps)
    for (name, a), best_found in zip(DATA.items(), found.tolist(), strict=True):
        a = a.astype(np.float64)
        best = min(raw_error(a, t, steps) for t in np.geomspace(a.max() / 500, a.max(), 500))
        assert raw_error(a, best_found, steps) <= 1.01 * best + 1e-6 * np.square(a).sum(), name


def test_mse_of_a_layer_is_as_good_as_brute_force() -> None:
    channels = [DATA["rectified"], 3 * DATA["capped"], DATA["exponential"]]
    a = np.concatenate(channels).astype(np.float64)
    theta = float(mse(histogram(*channels).merged(), 4))
    best = min(raw_error(a, t, 4) for t in np.linspace(0, a.max(), 501)[1:])
    assert raw_error(a, theta, 4) <= 1.01 * best


@pytest.mark.parametrize("rule", RULES)
def test_channels_do_not_know_of_each_other(rule: str) -> None:
    together = theta(rule, 4, *DATA.values())
    for number, a in enumerate(DATA.values()):
        assert float(theta(rule, 4, a)) == pytest.approx(float(together[number]), rel=1e-12)


@pytest.mark.parametrize("steps", [1, 3, 16])
def test_squared_error_is_the_sum_over_the_samples(steps: int) -> None:
    a = np.maximum(np.random.default_rng(1).standard_normal(60_000), 0).astype(np.float32)
    theta = np.array([0.3, 1.0, 1.7, 3.1, 40.0])
    found = squared_error(histogram(a), torch.tensor(theta)[None], steps)[0]
    assert np.allclose(found, [raw_error(a.astype(np.float64), t, steps) for t in theta], rtol=2e-3)


@pytest.mark.parametrize("percent", [1, 50, 90, 99, 99.9, 100])
@pytest.mark.parametrize("name", DATA)
def test_percentile_is_that_of_numpy_within_a_bin(name: str, percent: float) -> None:
    a = DATA[name]
    counted = histogram(a)
    expected = np.quantile(a, percent / 100, method="inverted_cdf")
    if expected == 0:
        expected = a.max()
    assert abs(float(percentile(counted, 8, percent=percent)) - expected) <= float(counted.width)


def test_hundred_percent_is_the_maximum() -> None:
    counted = histogram(*DATA.values())
    assert torch.equal(percentile(counted, 8, percent=100), maximum(counted, 8))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1000, width=32), min_size=2, max_size=40), st.lists(st.floats(0.01, 100), min_size=2))
def test_percentile_grows_with_the_percentage_above_the_zeros(values: list[float], percents: list[float]) -> None:
    a = np.array(values, dtype=np.float32)
    zeros = 100 * float((a == 0).mean())
    counted = histogram(a)
    found = [float(percentile(counted, 8, percent=p)) for p in sorted(percents) if p > zeros + 1e-9]
    assert found == sorted(found)
    assert all(theta <= a.max() for theta in found)


def test_maximum_is_exact_over_all_batches() -> None:
    counted = Histogram.empty(1)
    for top in (1.0, 7.111111, 3.0, 0.1):
        counted.add(torch.tensor([[top], [top / 2]]))
    assert maximum(counted, 8).item() == np.float32(7.111111)


@pytest.mark.parametrize("power", [-20, -1, 3, 30])
@pytest.mark.parametrize("rule", RULES)
def test_thresholds_scale_with_the_activations(rule: str, power: int) -> None:
    plain, scaled = (theta(rule, 8, *(a * np.float32(f) for a in DATA.values())) for f in (1.0, 2.0**power))
    assert torch.equal(scaled, plain * 2.0**power)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_says_whether_it_depends_on_the_window(rule: str) -> None:
    found = {theta(rule, steps, DATA["rectified"]).item() for steps in (1, 4, 16)}
    assert (len(found) > 1) == (rule in DEPENDS_ON_STEPS)


@pytest.mark.parametrize("steps", [1, 4])
def test_one_value_is_a_level_of_its_own(steps: int) -> None:
    found = float(mse(histogram(np.full(100, 0.75, dtype=np.float32)), steps))
    nearest = round(0.75 * steps / found) * found / steps
    assert math.isclose(nearest, 0.75, rel_tol=2e-3)


@pytest.mark.parametrize("rule", RULES)
def test_dead_channels_give_a_number(rule: str) -> None:
    found = theta(rule, 4, np.zeros(9, dtype=np.float32), np.ones(9, dtype=np.float32))
    assert bool(found.isfinite().all())
    assert found[1] > 0.9


def test_mse_answers_where_the_rule_does_not_and_the_channel_is_in_doubt() -> None:
    channels = DATA["rectified"], DATA["exponential"], np.zeros(SAMPLES, dtype=np.float32)
    given_ = moments(*channels)
    given_.mean[1:] = -100.0
    found, doubtful = answer("gaussian", 4, histogram(*channels), given_)
    assert doubtful.tolist() == [False, True, False]  # a dead channel is told of elsewhere
    assert found[1] == mse(histogram(channels[1]), 4)
    assert found[0] == RULES["gaussian"](histogram(channels[0]), 4, moments(channels[0]))[0]


def test_thresholds_that_still_grow_are_in_doubt() -> None:
    rare = np.zeros(5000, dtype=np.float32)
    rare[0] = 1.0
    _, doubtful = answer("ltb", 4, histogram(rare, np.resize(DATA["rectified"], 5000), 0 * rare), None)
    assert doubtful.tolist() == [True, False, False]


@pytest.mark.parametrize("rule", sorted(RULES.keys() - DOUBTS.keys()))
def test_other_rules_have_no_doubts(rule: str) -> None:
    assert not answer(rule, 4, histogram(*DATA.values()), None)[1].any()
