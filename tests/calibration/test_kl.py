"""Entropy calibration against its definition, spelled out bin by bin, and against TensorRT's."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from snnconvert.calibration.histogram import BINS, Histogram
from snnconvert.calibration.kl import _divergence, _summed, kl

SAMPLES = 20_000


def draw() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    normal = random.standard_normal(SAMPLES)
    return {
        "rectified": np.maximum(normal, 0),
        "sparse": np.maximum(normal - 2, 0),
        "exponential": random.exponential(0.01, SAMPLES),
        "heavy tail": np.abs(random.standard_t(3, SAMPLES)),
        "one outlier": np.concatenate([np.abs(normal[1:]), [50.0]]),
        "never zero": 5 + 0.3 * normal,
        "two values": random.choice([0.3, 1.0], SAMPLES),
    }


DATA = draw()


def histogram(*channels: np.ndarray) -> Histogram:
    found = Histogram.empty(len(channels))
    found.add(torch.tensor(np.stack(channels, 1)))
    return found


def divergence(counts: np.ndarray, bins: int, level_of: np.ndarray) -> float:
    """Return the divergence of the clipped histogram from itself with the bins of each level made equal."""
    p = counts[:bins].copy()
    p[-1] += counts[bins:].sum()
    share = np.bincount(level_of, counts[:bins]) / np.bincount(level_of, p > 0).clip(1)
    q = np.where(p > 0, share[level_of], 0)
    return float(entropy(p, q)) if q.any() else np.inf


def rounded(bins: int, steps: int) -> np.ndarray:
    """Return the level that the centre of each bin rounds to, half up, in exact arithmetic."""
    centres = (Fraction((2 * i + 1) * steps, 2 * bins) for i in range(bins))
    return np.array([math.floor(centre + Fraction(1, 2)) for centre in centres])


def candidates(counts: np.ndarray, first: int) -> list[int]:
    top = int(np.flatnonzero(counts)[-1]) + 1
    return [j for j in range(first, top + 1) if 2 * counts[:j].sum() >= counts.sum()]


@pytest.mark.parametrize("steps", [1, 4, 32, 200])
def test_thresholds_are_those_of_brute_force(steps: int) -> None:
    counted = histogram(*DATA.values())
    found, levels = kl(counted, steps), {j: rounded(j, steps) for j in range(2, BINS + 1)}
    for channel, name in enumerate(DATA):
        counts, width = counted.counts[channel, 1:].double().numpy(), float(counted.width[channel])
        tried = {j: divergence(counts, j, levels[j]) for j in candidates(counts, min(steps + 1, 128))}
        chosen = int(np.ceil(float(found[channel]) / width - 1e-9))
        assert tried[chosen] == pytest.approx(min(tried.values()), abs=1e-12), name
        assert float(found[channel]) == pytest.approx(min(chosen * width, float(counted.maximum[channel])), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=12, max_size=60), st.integers(1, 40), st.data())
def test_divergence_is_that_of_scipy(values: list[int], steps: int, data: st.DataObject) -> None:
    counts = np.zeros(BINS)
    counts[: len(values)] = values
    bins = data.draw(st.integers(1, len(values)))
    expected = divergence(counts, bins, rounded(bins, steps)) if counts.any() else 0.0
    rows = torch.tensor(counts)[None]
    found = float(_divergence(*(_summed(s) for s in (rows, rows > 0, torch.xlogy(rows, rows))), bins, steps))
    assert found == pytest.approx(expected, abs=1e-9)


def tensorrt(counts: np.ndarray, levels: int) -> int:
    """Return the number of bins below the threshold, as Migacz 2017 writes it: ``levels`` equal parts, no rounding."""
    parts = [np.arange(j) * levels // j for j in range(levels, int(np.flatnonzero(counts)[-1]) + 2)]
    return levels + int(np.argmin([divergence(counts, len(part), part) for part in parts]))


@pytest.mark.parametrize("name", ["rectified", "exponential", "heavy tail"])
def test_at_128_levels_it_is_close_to_tensorrt(name: str) -> None:
    counted = histogram(DATA[name])
    theta = float(kl(counted, 127))
    expected = tensorrt(counted.counts[0, 1:].double().numpy(), 128) * float(counted.width)
    assert theta == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("steps", [2, 4, 16])
def test_zeros_do_not_matter(steps: int) -> None:
    a = DATA["exponential"]
    assert torch.equal(kl(histogram(a), steps), kl(histogram(np.concatenate([a, np.zeros(9 * SAMPLES)])), steps))


@pytest.mark.parametrize("steps", [1, 4, 32])
def test_evenly_spread_values_are_not_cut(steps: int) -> None:
    assert float(kl(histogram(np.arange(1, BINS + 1) / BINS), steps)) == 1.0


@pytest.mark.parametrize("steps", [4, 16, 64])
def test_an_outlier_is_cut(steps: int) -> None:
    assert float(kl(histogram(DATA["one outlier"]), steps)) < 12


@pytest.mark.parametrize("steps", [1, 4, 32, 65536])
def test_at_most_half_of_the_values_are_cut(steps: int) -> None:
    for theta, a in zip(kl(histogram(*DATA.values()), steps).tolist(), DATA.values(), strict=True):
        assert np.median(a[a > 0]) <= theta <= a.max()


def test_a_dead_channel_stays_at_zero() -> None:
    assert kl(histogram(np.zeros(9), np.ones(9)), 4).tolist() == [0.0, 1.0]
