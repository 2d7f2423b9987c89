"""The two-phase probabilistic (TPP) neuron: accumulate a whole window, then fire at random.

    v = sum_t I[t];  then for t = 1..T:
    p = clip(v / (theta (T - t + 1)), 0, 1),  s[t] ~ Bernoulli(p),  v <- v - theta s[t]

Source: Bojkovic, Wu and Gu 2025 (ICML, arXiv 2502.14487). Their text could not be read here; the equations are those
known of the method, and what follows is derived from them.

With v / theta = k + f (k whole, 0 <= f < 1) the count N is k or k + 1. P_n(k), the probability of k + 1 spikes in n
remaining steps, obeys

    P_n(k) = (k + f)/n P_{n-1}(k - 1) + (1 - (k + f)/n) P_{n-1}(k),   P_n(-1) = 1,   P_n(k) = 0 for k >= n

so E[N] = k + P_T(k) is a continuous function of v, and N = floor(E[N] + u) with one uniform number u: TPP is stochastic
rounding of that mean. It is not the identity: small v are rounded up, v near T down.

Where the site is signed, the sign of v when the window closes is that of all its spikes, and |v| takes the place of v.
"""

from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import native
from ..errors import UsageError
from ..fused import Fused
from ..population import Population
from ..ways import Ways
from .correction import Correction
from .neuron import NONE, Neuron, Place
from .noise import Noise, bits_of, key_of, uniform_of

GRID = 256
"""Intervals of f in the table of the mean count; linear interpolation then errs by 3e-5 at T = 32."""

LONGEST = 4096
"""The longest window; the table takes time and memory that grow with its square."""

COUNT = -1
"""The step whose random numbers draw a whole window's count."""


@lru_cache(maxsize=32)
def mean_count_table(steps: int) -> Tensor:
    """Return E[N] at v / theta = 0, 1/GRID, ..., T for a window of ``steps``, float64 [T GRID + 1]."""
    f = torch.arange(GRID, dtype=torch.float64) / GRID
    k = torch.arange(steps, dtype=torch.float64)[:, None]
    up = torch.zeros(steps + 1, GRID, dtype=torch.float64)  # row k + 1 holds P_n(k); row 0 holds P_n(-1)
    up[0] = 1.0
    for n in range(1, steps + 1):
        p = (k[:n] + f) / n
        up[1 : n + 1] = p * up[:n] + (1 - p) * up[1 : n + 1]
    return torch.cat([(k + up[1:]).flatten(), torch.tensor([float(steps)], dtype=torch.float64)])


@lru_cache(maxsize=32)
def _table(steps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the table and its rise to the next entry [T GRID, 2]."""
    table = mean_count_table(steps).to(device, dtype)
    return torch.stack([table[:-1], table.diff()], 1)


def mean_count(v: Tensor, steps: int) -> Tensor:
    """Return E[N] for the accumulated input ``v`` in units of theta: 0 below 0, T above T, the table between."""
    return interpolated(mean_count_table(steps).to(v), v, steps)


def interpolated(table: Tensor, v: Tensor, steps: int) -> Tensor:
    """Return `mean_count` by its ``table``, `mean_count_table`."""
    return _between(table[:-1], table.diff(), v, steps)


def _between(below: Tensor, rise: Tensor, v: Tensor, steps: int) -> Tensor:
    position = v.clamp(0, steps) * GRID
    left = position.floor().nan_to_num().clamp(max=steps * GRID - 1)  # NaN comes back as NaN
    entry = left.long()
    return below[entry] + (position - left) * rise[entry]  # lerp's bits depend on the processor


def stochastic_count(v: Tensor, uniform: Tensor, steps: int) -> Tensor:
    """Return N = floor(E[N] + u) for the accumulated input ``v`` in units of theta and ``uniform`` u in [0, 1)."""
    return (mean_count(v, steps) + uniform).floor().clamp(max=steps)


def firing_probability(potential: Tensor, threshold: Tensor, remaining: int) -> Tensor:
    """Return p = clip(v / (theta n), 0, 1), with n the number of ``remaining`` steps, this one included."""
    return (potential / (threshold * remaining)).clamp(0, 1)


def _window(mean: Tensor, neurons: Population, table: Tensor, grid: int, key: int | Tensor, images: Tensor) -> Tensor:
    total = mean * neurons.steps if neurons.offset is None else mean * neurons.steps + neurons.offset
    signed, (below, rise) = neurons.low < 0, table.unbind(1)
    expected = _between(below, rise, (total.abs() if signed else total) / neurons.theta, neurons.most)
    uniform = uniform_of(bits_of(images, key, mean.numel()), mean.dtype).reshape(mean.shape)
    counts = (expected + uniform).floor().clamp(max=neurons.most)
    counts = counts * total.sign() if signed else counts
    return counts if neurons.worth is None else counts * neurons.worth


_FUSED = Fused(_window)


def _fused_window(mean: Tensor, neurons: Population, table: Tensor, grid: int, key: int, images: Tensor) -> Tensor:
    found: Tensor = _FUSED(mean, neurons, table, grid, torch.tensor(key, device=mean.device), images)
    return found  # with a number for the key, each site would be compiled anew


class TwoPhaseProbabilistic(Neuron):
    """TPP neurons; their membrane starts from zero, because the random rounding replaces the shift by theta / 2."""

    streaming: ClassVar[bool] = False
    stochastic: ClassVar[bool] = True
    ways: ClassVar[Ways] = Ways(_window, "tpp", _fused_window)

    def __init__(
        self, threshold: Tensor, steps: int, place: Place, correction: Correction = NONE, burst: int = 1
    ) -> None:
        if steps * burst > LONGEST:
            bursts = f" with bursts of {burst}" * (burst > 1)
            raise UsageError(
                f"tpp neurons take windows of at most T = {LONGEST}, got {steps}{bursts}", "use 'two-phase'"
            )
        super().__init__(threshold, steps, place, correction, burst)

    def start(self, current: Tensor) -> Tensor:
        """Return what corrections add in a window, in the shape of ``current`` [batch, channels, ...]."""
        start = torch.zeros_like(current)
        return start if self.offset is None else start + self.offset

    def fire_once(self, potential: Any, slot: int, noise: Noise) -> tuple[Tensor, Any]:
        """Return s ~ Bernoulli(p) and v - theta s; where signed, from slot 0 on v is the pair of |v| and its sign."""
        sign = None
        if self.signed:
            potential, sign = potential if slot else (potential.abs(), potential.sign())
        p = firing_probability(potential, self.threshold, self.most - slot)
        spikes = (noise.uniform(self.site, p.shape, slot, p.dtype) < p).to(p.dtype)
        left = potential - self.threshold * spikes
        return (spikes, left) if sign is None else (spikes * sign, (left, sign))

    def count(self, total: Tensor, noise: Noise) -> Tensor:
        """Return N drawn from its distribution given ``total``, with one random number a neuron."""
        uniform = noise.uniform(self.site, total.shape, COUNT, total.dtype)
        total = total if self.offset is None else total + self.offset
        if self.signed:
            return stochastic_count(total.abs() / self.threshold, uniform, self.most) * total.sign()
        return stochastic_count(total / self.threshold, uniform, self.most)

    def window(self, mean: Tensor, noise: Noise, worth: Tensor | None = None) -> Tensor:
        """Return `count` for the ``mean`` input of a window, times ``worth``."""
        args = self._arguments(mean, noise, worth)
        found: Tensor | None = self.ways(mean, *args)
        return _window(mean, *args) if found is None else found

    def window_bytes(self, mean: Tensor, noise: Noise) -> Tensor | None:
        """Return `count` for the ``mean`` input of a window, in bytes; None where that cannot be done here."""
        return native.tpp(mean, *self._arguments(mean, noise, None), counts=True)

    def _arguments(self, mean: Tensor, noise: Noise, worth: Tensor | None) -> tuple[Any, ...]:
        """Return what every way to draw the counts of a window takes besides the inputs."""
        table = _table(self.most, mean.dtype, mean.device)
        return self.population(self.offset, worth), table, GRID, key_of(self.site, COUNT), noise.images

    def expected_count(self, total: Tensor) -> Tensor:
        """Return E[N] given ``total``, exactly."""
        total = total if self.offset is None else total + self.offset
        if self.signed:
            return mean_count(total.abs() / self.threshold, self.most) * total.sign()
        return mean_count(total / self.threshold, self.most)
