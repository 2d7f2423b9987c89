"""Pre-activations as Gaussians: their moments, gathered in one pass, and the threshold that suits them.

z counts as N(mu, sigma^2) in each channel. The neurons of a site fire N(z) = clip(floor(z T / theta + 1/2), a, b)
spikes worth theta / T, with a = 0, or -T where it is signed, and b = T. The mean square of z - N(z) theta / T is
smallest at a fixed point of theta <- k(theta) theta, with

    k = (T / theta) E[z N(z)] / E[N(z)^2]
      = (T / theta) (mu (a + b - S0) + sigma sqrt(2 / pi) SE) / D
    u_i = ((2i - 1) theta / (2T) - mu) / (sqrt(2) sigma),   i = a+1..b
    S0 = sum_i erf(u_i),   SE = sum_i exp(-u_i^2),   D = a^2 + b^2 - sum_i (2i - 1) erf(u_i)

Source: Zhang et al., AAAI 2026 (H-MT, eq. 11), and Huang et al. 2025 (arXiv 2503.00301), who iterate 100 times from
theta = 1, which for mu = 0 leaves theta 5 % short at T = 32; and there may be several fixed points. We take the best of
a grid and halve the interval around it: the fixed point lies above theta where k > 1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from snnconvert.converter.errors import CalibrationRefused

from .histogram import Histogram

LIMIT = 50
"""Halvings, after which a channel counts as one that never converges."""

_TOLERANCE = 1e-9
_STARTS = 64
_SILENT = -5.0
"""Deviations from zero; `Histogram.gaussian` cuts there too, so a Gaussian with a smaller mean lets nothing pass."""

_AT_ONCE = 2**22


@dataclass
class Moments:
    """The mean and variance of the pre-activations z in each channel.

    Args:
        count: how many were seen, float64 [channels].
        mean: their mean, in units of z, float64 [channels].
        squares: the sum of (z - mean)^2, float64 [channels].
        signed: whether the neurons of the site fire spikes of both signs.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor
    signed: bool = False

    @classmethod
    def empty(cls, channels: int, signed: bool = False) -> "Moments":
        """Return the moments of nothing."""
        count, mean, squares = torch.zeros(3, channels, dtype=torch.float64)
        return cls(count, mean, squares, signed)

    @classmethod
    def of(cls, values: Tensor, signed: bool = False) -> "Moments":
        """Return the moments of ``values`` [batch, channels, ...], which must be finite, in float64."""
        rows = values.transpose(0, 1).flatten(1).double()
        mean = rows.mean(1, keepdim=True)
        count, squares = torch.full_like(mean[:, 0], rows.shape[1]), (rows - mean).square().sum(1)
        return cls(count.cpu(), mean[:, 0].cpu(), squares.cpu(), signed)

    @property
    def variance(self) -> Tensor:
        """The mean of (z - mean)^2, float64 [channels]."""
        return self.squares / self.count.clamp(min=1)

    def check(self, channels: int) -> None:
        """Raise ValueError where the fields do not fit ``channels`` or are no moments, as those of a file may not."""
        fields = self.count, self.mean, self.squares
        alike = all(f.dtype is torch.float64 and f.shape == (channels,) for f in fields)
        if not (alike and all(bool(f.isfinite().all()) for f in fields) and bool((self.squares >= 0).all())):
            raise ValueError("moments that are none")

    def joined(self, other: "Moments") -> "Moments":
        """Return the moments of both (Chan et al. 1979); the last bits depend on the order."""
        mine, its = ((m.count, m.mean, m.squares) for m in (self, other))
        return Moments(*_joined(*(torch.stack(pair) for pair in zip(mine, its, strict=True))), self.signed)

    def merged(self) -> "Moments":
        """Return the moments of all channels together, [1]."""
        count, mean, squares = (f[None] for f in _joined(self.count, self.mean, self.squares))
        return Moments(count, mean, squares, self.signed)


def _joined(count: Tensor, mean: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return count, mean and sum of squares of the parts along dimension 0, put together."""
    total = count.sum(0)
    whole = mean[0] + (count * (mean - mean[0])).sum(0) / total.clamp(min=1)
    return total, whole, squares.sum(0) + (count * (mean - whole).square()).sum(0)


def gaussian(histogram: Histogram, steps: int, moments: Moments | None, limit: int = LIMIT) -> Tensor:
    """Return the fixed point of theta <- k(theta) theta, the equation on top, for the Gaussian of each channel.

    Of a whole layer it takes the mean and variance of all channels together, though their mixture is no Gaussian. A cap
    is not in the equation: the caller cuts theta there.

    Args:
        histogram: of the activations; not read.
        steps: T.
        moments: of the pre-activations.
        limit: how many halvings before giving up.

    Returns:
        theta [channels], NaN where the mean lies 5 deviations or more below zero, so that nothing passes, where all z
        are zero, or where no fixed point was reached.

    Raises:
        CalibrationRefused: there are no moments.
    """
    if moments is None:
        raise CalibrationRefused(
            "this calibration is of an earlier version: it holds no means and variances of pre-activations, "
            "from which the gaussian rule computes thresholds",
            "calibrate again, or choose another rule",
        )
    low = -steps if moments.signed else 0
    deviation = moments.variance.sqrt().clamp(min=1e-9 * moments.mean.abs())
    mean = moments.mean / deviation
    passes = mean.isfinite() if moments.signed else mean > _SILENT
    mean = torch.where(passes, mean, 0.0)[:, None]
    rows = max(1, _AT_ONCE // (_STARTS * (steps - low)))
    theta = torch.cat([_fixed_point(part, low, steps, limit) for part in mean.split(rows)])
    return torch.where(passes, theta * deviation, torch.nan)


def _fixed_point(mean: Tensor, low: int, high: int, limit: int) -> Tensor:
    """Return the best fixed point, in deviations, for means [channels, 1], likewise; NaN where none was reached."""
    apart = ((mean.abs() if low else mean) + 8) / _STARTS
    starts = apart * torch.arange(1, _STARTS + 1, dtype=mean.dtype)
    product, square = _products(starts, mean, low, high)
    error = (starts / high) ** 2 * square - 2 * starts / high * product
    best = starts.gather(1, error.argmin(1, keepdim=True))
    first, last = best - apart, best + apart
    below, above = first, last
    for _ in range(limit):
        theta = (below + above) / 2
        grows = factor(theta, mean, low, high) > 1
        below, above = torch.where(grows, theta, below), torch.where(grows, above, theta)
    found = (below > first) & (above < last) & (above - below <= _TOLERANCE * above)
    return torch.where(found, (below + above) / 2, torch.nan)[:, 0]


def factor(theta: Tensor, mean: Tensor, low: int, high: int) -> Tensor:
    """Return k(theta) for z ~ N(mean, 1), a = ``low`` and b = T = ``high``, [channels, candidates]."""
    product, square = _products(theta, mean, low, high)
    return product * high / (theta * square)


def _products(theta: Tensor, mean: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Return E[z N(z)] and E[N(z)^2] for z ~ N(mean, 1), as sums over what passes each edge (i - 1/2) theta / T."""
    number = torch.arange(low + 1, high + 1, dtype=theta.dtype)
    beyond = mean[..., None] - (number - 0.5) * (theta / high)[..., None]
    passed, density = torch.special.ndtr(beyond), torch.exp(-(beyond**2) / 2) / math.sqrt(2 * math.pi)
    product = low * mean + (mean[..., None] * passed + density).sum(-1)
    return product, low**2 + ((2 * number - 1) * passed).sum(-1)
