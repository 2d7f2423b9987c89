"""Histograms against numpy: no count is lost or moved, whatever the order in which the data come."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from snnconvert.calibration.histogram import BINS, Histogram


def expected_counts(values: np.ndarray, exponent: int) -> np.ndarray:
    """Return how many values are zero, and how many lie in each of the bins that divide (0, 2^exponent]."""
    edges = np.arange(BINS + 1) * (2.0**exponent / BINS)
    return np.bincount(np.searchsorted(edges, values.astype(np.float64)), minlength=BINS + 1)


def histogram(*parts: Tensor, channels: int = 1) -> Histogram:
    found = Histogram.empty(channels)
    for part in parts:
        found.add(part)
    return found


def same(a: Histogram, b: Histogram) -> bool:
    fields = zip(vars(a).values(), vars(b).values(), strict=True)
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in fields)


@pytest.mark.parametrize("shape", [(50, 3), (5, 3, 10), (5, 3, 4, 3), (5, 3, 2, 3, 2)])
def test_counts_are_those_of_numpy_in_every_rank(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    scale = torch.tensor([0.01, 1.0, 300.0]).reshape(-1, *[1] * (len(shape) - 2))
    values = torch.randn(shape).relu() * scale
    found = histogram(values, channels=3)
    for channel in range(3):
        raw = values[:, channel].numpy().ravel()
        assert found.maximum[channel] == raw.max()
        assert 2.0 ** (found.exponent[channel] - 1) < raw.max() <= 2.0 ** found.exponent[channel]
        assert np.array_equal(found.counts[channel], expected_counts(raw, int(found.exponent[channel])))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_counts_are_those_of_numpy_in_every_type(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    parts = [(torch.rand(40, 1) * scale).to(dtype) for scale in (2e-7, 1.0, 100.0)]
    found = histogram(*parts)
    raw = torch.cat(parts).double().numpy()
    assert found.maximum[0] == raw.max()
    assert np.array_equal(found.counts[0], expected_counts(raw[:, 0], int(found.exponent[0])))


def test_range_grows_over_many_powers_of_two() -> None:
    torch.manual_seed(0)
    parts = [torch.rand(30, 1) * 2.0**k for k in range(-30, 31, 3)]
    found = histogram(*parts)
    raw = torch.cat(parts)[:, 0].numpy()
    assert found.exponent.item() == 30
    assert np.array_equal(found.counts[0], expected_counts(raw, 30))


batches = st.lists(
    st.lists(st.builds(lambda m, k: m * 2.0**k, st.integers(0, 2**12), st.integers(-30, 30)), min_size=2, max_size=6),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(batches, st.randoms(use_true_random=False))
def test_neither_order_nor_batches_matter(parts: list[list[float]], random: object) -> None:
    values = [value for part in parts for value in part]
    whole = histogram(torch.tensor(values)[:, None])
    random.shuffle(values)  # type: ignore[attr-defined]
    again = histogram(*(torch.tensor([[value]]) for value in values))
    assert same(whole, histogram(*(torch.tensor(part)[:, None] for part in parts)))
    assert same(whole, again)
    assert whole.counts.sum() == len(values)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(2.0**-20, 1) | st.just(0.0), st.integers(-25, 25)), min_size=1, max_size=8))
def test_merging_channels_is_exact(channels: list[tuple[float, int]]) -> None:
    torch.manual_seed(0)
    columns = [torch.rand(9, 1) * top * 2.0**k for top, k in channels]
    apart = histogram(torch.cat(columns, 1), channels=len(columns))
    together = histogram(torch.cat(columns))
    kept = [field.clone() for field in vars(apart).values()]
    assert same(apart.merged(), together)
    assert all(torch.equal(a, b) for a, b in zip(kept, vars(apart).values(), strict=True))


def test_dead_channels_stay_dead_and_are_counted() -> None:
    found = histogram(torch.zeros(4, 2, 3), torch.tensor([[[0.0, 0.5, 1.0], [0.0, 0.0, 0.0]]]), channels=2)
    assert found.dead.tolist() == [False, True]
    assert found.counts[:, 0].tolist() == [13, 15]
    assert found.counts.sum(1).tolist() == [15, 15]
    assert found.merged().counts[0, 0] == 28


@pytest.mark.parametrize(
    ("value", "dtype"), [(1e-40, torch.float32), (1e-36, torch.float32), (3e38, torch.float32), (1e300, torch.float64)]
)
def test_extreme_values_are_counted(value: float, dtype: torch.dtype) -> None:
    found = histogram(torch.tensor([[value], [0.0]], dtype=dtype))
    assert found.counts[0, 0] == 1
    assert found.counts.sum() == 2
    assert bool(found.width.isfinite())


def test_there_is_no_limit_on_the_size_of_a_tensor() -> None:
    size = 2**24 + 10  # torch.quantile took 2^24 values at most for years
    found = histogram(torch.full((1, 1, size), 0.25))
    assert found.counts[0, BINS] == size


def test_what_is_kept_does_not_grow_with_the_data() -> None:
    few, many = histogram(torch.rand(1, 2, 3), channels=2), histogram(*torch.rand(50, 7, 2, 3), channels=2)
    assert [f.shape for f in vars(few).values()] == [f.shape for f in vars(many).values()]


@pytest.mark.parametrize("cap", [None, 6.0, 0.7])
def test_gaussian_is_that_of_scipy(cap: float | None) -> None:
    mean, deviation = torch.tensor([0.0, -1.0, 5.0, 2.0]), torch.tensor([1.0, 0.5, 3.0, 0.0])
    found = Histogram.gaussian(mean, deviation, cap)
    assert torch.allclose(found.counts.sum(1), torch.ones(4).double())
    top = [
        m + 5 * s if cap is None else min(m + 5 * s, cap)
        for m, s in zip(mean.tolist(), deviation.tolist(), strict=True)
    ]
    assert np.allclose(found.maximum, top, atol=1e-10)
    for channel in range(3):
        edges = np.arange(BINS + 1) * float(found.width[channel])
        below = np.where(edges < top[channel], norm.cdf(edges, mean[channel], deviation[channel]), 1.0)
        assert np.allclose(found.counts[channel].cumsum(0), below, atol=1e-12)
    assert bool(Histogram.gaussian(torch.tensor([-9.0]), torch.tensor([1.0]), None).dead)


@pytest.mark.parametrize(
    "change",
    [
        {"counts": torch.zeros(1, BINS, dtype=torch.int64)},
        {"counts": -torch.ones(1, 1 + BINS, dtype=torch.int64)},
        {"exponent": torch.zeros(2, dtype=torch.int64)},
        {"exponent": torch.zeros(1)},
        {"maximum": torch.tensor([torch.nan], dtype=torch.float64)},
        {"maximum": torch.ones(1)},
    ],
)
def test_fields_that_do_not_fit_are_found(change: dict[str, Tensor]) -> None:
    good = histogram(torch.rand(5, 1))
    good.check()
    with pytest.raises(ValueError, match="histogram"):
        Histogram(**vars(good) | change).check()
