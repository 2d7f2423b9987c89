"""Moments against numpy, thresholds of Gaussians against the paper's formula and numerical integration."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import erf
from torch import Tensor

from snnconvert.calibration.gaussian import Moments, factor, gaussian
from snnconvert.calibration.histogram import Histogram
from snnconvert.converter.errors import CalibrationRefused

ANY = Histogram.empty(1)
Z = np.linspace(-9, 9, 40_001)
WEIGHT = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


def moments(mean: list[float], deviation: list[float], signed: bool = False) -> Moments:
    mu, sigma = torch.tensor(mean).double(), torch.tensor(deviation).double()
    return Moments(torch.full_like(mu, 7), mu, 7 * sigma**2, signed)


def streamed(*parts: Tensor) -> Moments:
    found = Moments.empty(parts[0].shape[1])
    for part in parts:
        found = found.joined(Moments.of(part))
    return found


def error(theta: float, mean: float, steps: int, signed: bool) -> float:
    """Return E[(a - q(z))^2] for z ~ N(mean, 1) and a = max(z, 0), or z, by numerical integration."""
    z, level = mean + Z, theta / steps
    counts = np.clip(np.floor(z / level + 0.5), -steps if signed else 0, steps)
    return float(WEIGHT @ np.square((z if signed else np.maximum(z, 0)) - level * counts))


@pytest.mark.parametrize("shape", [(50, 3), (5, 3, 10), (5, 3, 4, 3)])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_are_those_of_numpy_in_every_rank(shape: tuple[int, ...], offset: float) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(shape).double() * scale + offset for scale in (0.1, 1.0, 30.0)]
    found, raw = streamed(*parts), torch.cat(parts).transpose(0, 1).flatten(1).numpy()
    assert found.count.tolist() == [raw.shape[1]] * 3
    assert np.allclose(found.mean, raw.mean(1), rtol=1e-14, atol=1e-14)
    assert np.allclose(found.variance, raw.var(1), rtol=1e-11)
    whole = found.merged()
    assert np.allclose([whole.mean[0], whole.variance[0]], [raw.mean(), raw.var()], rtol=1e-11)


numbers = st.floats(-1e3, 1e3, width=32)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(numbers, min_size=1, max_size=6), min_size=1, max_size=6))
def test_batches_do_not_matter(parts: list[list[float]]) -> None:
    raw = np.concatenate(parts)
    found = streamed(*(torch.tensor(part)[:, None] for part in parts))
    assert float(found.mean) == pytest.approx(raw.mean(), abs=1e-11)
    assert float(found.variance) == pytest.approx(raw.var(), rel=1e-11, abs=1e-16 * np.square(raw).max())


def test_channels_that_were_seen_more_often_weigh_more() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(40, 1) + 3, torch.randn(500, 1)
    apart = [streamed(a), streamed(b)]
    found = Moments(*(torch.cat([getattr(m, f) for m in apart]) for f in ("count", "mean", "squares"))).merged()
    whole = torch.cat([a, b]).double().numpy()
    assert np.allclose([found.mean[0], found.variance[0]], [whole.mean(), whole.var()], rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_sums_are_taken_in_double_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = (torch.randn(100_000, 1) + 50).to(dtype)
    raw = values.double().numpy()
    assert np.allclose(streamed(values).variance, raw.var(), rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.floats(-4, 8), st.floats(0.1, 10), st.floats(0.05, 20), st.integers(1, 40), st.booleans())
def test_factor_is_that_of_the_paper(mean: float, deviation: float, theta: float, steps: int, signed: bool) -> None:
    a, b, n = (-steps if signed else 0), steps, steps
    i = np.arange(a + 1, b + 1)
    u = ((2 * i - 1) / (2 * n) * theta - mean) / (np.sqrt(2) * deviation)
    divisor = a**2 + b**2 - ((2 * i - 1) * erf(u)).sum()
    if divisor < 1e-6:  # the formula cancels there
        return
    expected = n * mean / theta * (a + b - erf(u).sum()) / divisor
    expected += n * deviation * np.sqrt(2 / np.pi) / theta * np.exp(-(u**2)).sum() / divisor
    standard = torch.tensor([[theta / deviation]]).double(), torch.tensor([[mean / deviation]]).double()
    assert float(factor(*standard, a, b)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("mean", "steps", "signed", "theta"), [(0.0, 4, False, 2.135), (0.0, 16, False, 2.933), (0.2, 4, True, 2.177)]
)
def test_published_fixed_points(mean: float, steps: int, signed: bool, theta: float) -> None:
    assert float(gaussian(ANY, steps, moments([mean], [1.0], signed))) == pytest.approx(theta, abs=6e-4)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 32])
def test_thresholds_are_those_of_brute_force(steps: int, signed: bool) -> None:
    means = [-3.0, -1.5, -0.4, 0.0, 0.7, 2.0, 5.0]
    found = gaussian(ANY, steps, moments(means, [1.0] * len(means), signed)).tolist()
    for mean, theta in zip(means, found, strict=True):
        grid = (8 + abs(mean)) * np.linspace(0, 1, 301)[1:]
        best = grid[np.argmin([error(t, mean, steps, signed) for t in grid])]
        bounds = best - grid[0], best + grid[0]
        exact = minimize_scalar(
            lambda t, mean=mean: error(t, mean, steps, signed), bounds=bounds, method="bounded", options={"xatol": 1e-7}
        )
        assert error(theta, mean, steps, signed) <= exact.fun * (1 + 1e-4)
        assert theta == pytest.approx(exact.x, rel=2e-3)


@settings(max_examples=40, deadline=None)
@given(st.floats(-4.9, 30), st.integers(-30, 30), st.integers(1, 300), st.booleans())
def test_a_threshold_is_a_fixed_point_in_any_unit(mean: float, power: int, steps: int, signed: bool) -> None:
    theta = gaussian(ANY, steps, moments([mean], [1.0], signed))
    k = factor(theta[:, None], torch.tensor([[mean]]).double(), -steps if signed else 0, steps)
    assert float(k) == pytest.approx(1, abs=1e-6)
    scaled = gaussian(ANY, steps, moments([mean * 2.0**power], [2.0**power], signed))
    assert torch.equal(scaled, theta * 2.0**power)


def test_signed_thresholds_do_not_know_left_from_right() -> None:
    means = [0.3, 2.0, 9.0]
    right, left = (gaussian(ANY, 4, moments([s * m for m in means], [1.0] * 3, True)) for s in (1, -1))
    assert torch.allclose(right, left, rtol=1e-8)


def test_one_channel_at_a_time_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    given_ = moments([-1.0, 0.0, 3.0], [1.0, 2.0, 0.5])
    together = gaussian(ANY, 8, given_)
    monkeypatch.setattr("snnconvert.calibration.gaussian._AT_ONCE", 1)
    assert torch.equal(gaussian(ANY, 8, given_), together)


@pytest.mark.parametrize("steps", [1, 3, 16])
def test_one_value_is_a_level_of_its_own(steps: int) -> None:
    theta = float(gaussian(ANY, steps, moments([0.75], [0.0])))
    assert round(0.75 * steps / theta) * theta / steps == pytest.approx(0.75, rel=1e-6)


def test_no_answer_where_nothing_passes_or_nothing_was_reached() -> None:
    silent = moments([-5.0, -4.9, -40.0, 0.0, -1.0], [1.0, 1.0, 1.0, 0.0, 0.0])
    assert gaussian(ANY, 4, silent).isnan().tolist() == [True, False, True, True, True]
    assert gaussian(ANY, 4, moments([-40.0, 0.0], [1.0, 0.0], True)).isnan().tolist() == [False, True]
    assert gaussian(ANY, 4, moments([0.0, 1.0], [1.0, 1.0]), limit=5).isnan().all()


def test_no_moments_are_refused_with_what_to_do() -> None:
    with pytest.raises(CalibrationRefused, match=r"of an earlier version.*\nhint: calibrate again"):
        gaussian(ANY, 4, None)


@pytest.mark.parametrize("change", [{"count": torch.ones(3).double()}, {"mean": torch.ones(2)}, {"squares": -1.0}])
def test_fields_that_do_not_fit_are_found(change: dict[str, Tensor | float]) -> None:
    good = moments([0.0, 1.0], [1.0, 1.0])
    good.check(2)
    fields = {k: torch.full((2,), v).double() if isinstance(v, float) else v for k, v in change.items()}
    with pytest.raises(ValueError, match="moments"):
        Moments(**vars(good) | fields).check(2)
    with pytest.raises(ValueError, match="moments"):
        good.check(3)
