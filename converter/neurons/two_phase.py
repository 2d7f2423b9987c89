"""The deterministic two-phase neuron: accumulate a whole window, then fire the rounded count.

    v = theta / 2 + sum_t I[t];  then for T steps: s[t] = 1[v >= theta], v <- v - theta s[t]
    N = clip(floor(sum_t I[t] / theta + 1/2), 0, T)

Where the site is signed, s[t] = 1[v >= theta] - 1[v < 0], and N is cut at -T instead of 0.

Source: the accumulate-first neuron of Hao et al. 2025 (arXiv 2412.13610, "ParaInf"), whose count is that of the
quantiser of Bu et al. 2022 (arXiv 2303.04347). It differs in the order of its spikes: they come first, not last.
"""

from typing import ClassVar

import torch
from torch import Tensor

from .. import native
from ..population import Population
from ..ways import Ways
from .neuron import Neuron, soft_reset
from .noise import Noise


def rounded_count(v: Tensor, steps: int, signed: bool = False) -> Tensor:
    """Return N = clip(floor(v + 1/2), 0, T), or from -T on, for the accumulated input ``v`` in units of theta."""
    return (v + 0.5).floor().clamp(-steps if signed else 0, steps)


def _window(mean: Tensor, neurons: Population) -> Tensor:
    total = mean * neurons.steps if neurons.offset is None else mean * neurons.steps + neurons.offset
    counts = rounded_count(total / neurons.theta, neurons.most, neurons.low < 0)
    return counts if neurons.worth is None else counts * neurons.worth


class TwoPhase(Neuron):
    """Deterministic two-phase neurons."""

    streaming: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    ways: ClassVar[Ways] = Ways(_window, "two_phase")

    def start(self, current: Tensor) -> Tensor:
        """Return theta / 2 and what corrections add in a window, in the shape of ``current`` [batch, channels, ...]."""
        start = torch.zeros_like(current) + self.threshold / 2
        return start if self.offset is None else start + self.offset

    def fire_once(self, potential: Tensor, slot: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return s = 1[v >= theta], or 1[v >= theta] - 1[v < 0] where signed, and v - theta s."""
        if not self.signed:
            return soft_reset(potential, self.threshold)
        spikes = (potential >= self.threshold).to(potential.dtype) - (potential < 0).to(potential.dtype)
        return spikes, potential - self.threshold * spikes

    def count(self, total: Tensor, noise: Noise) -> Tensor:
        """Return N = clip(floor(total / theta + 1/2), 0, T), or from -T on where signed."""
        return self.expected_count(total)

    def window(self, mean: Tensor, noise: Noise, worth: Tensor | None = None) -> Tensor:
        """Return `count` for the ``mean`` input of a window, times ``worth``."""
        neurons = self.population(self.offset, worth)
        found: Tensor | None = self.ways(mean, neurons)
        return _window(mean, neurons) if found is None else found

    def window_bytes(self, mean: Tensor, noise: Noise) -> Tensor | None:
        """Return `count` for the ``mean`` input of a window, in bytes; None where that cannot be done here."""
        return native.two_phase(mean, self.population(self.offset, None), counts=True)

    def expected_count(self, total: Tensor) -> Tensor:
        """Return N, which is not random."""
        total = total if self.offset is None else total + self.offset
        return rounded_count(total / self.threshold, self.most, self.signed)
