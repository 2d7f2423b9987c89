"""The leaky integrate-and-fire neuron of directly trained networks: streaming, deterministic, one or more thresholds.

    u[t] = leak (u[t-1] - theta s[t-1]) + gain I[t],   u[0] = 0
    s[t] = clip(floor(u[t] / theta + 1 - alpha), 0, m)

It fires at alpha theta, (1 + alpha) theta, ...: one threshold where m = 1. A hard reset sets u to zero after a spike
in the place of the subtraction. With m thresholds s[t] are the spikes of a burst. Sources: Xu, Liu and Yang 2021 (arXiv
2112.07426; from its abstract, the reset and the leak are our reading); alpha and gain are those of DSR (Meng et al.
2022, arXiv 2205.00459), where leak = exp(-dt / tau) and gain = 1 - leak.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import UsageError
from .correction import Correction
from .neuron import NONE, Neuron, Place
from .noise import Noise


class LeakyIntegrateAndFire(Neuron):
    """Leaky integrate-and-fire neurons.

    Args:
        leak: what is left of the membrane potential after a step, above 0, at most 1.
        gain: by what the input is multiplied.
        firing_potential: alpha, the potential at which a neuron fires, in units of theta.
        hard_reset: whether a spike sets the potential to zero (1) or takes theta away (0).

    Raises:
        UsageError: a number out of range.
    """

    streaming: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(
        self,
        threshold: Tensor,
        steps: int,
        place: Place,
        correction: Correction = NONE,
        burst: int = 1,
        leak: float = 0.5,
        gain: float = 1.0,
        firing_potential: float = 1.0,
        hard_reset: float = 0.0,
    ) -> None:
        super().__init__(threshold, steps, place, correction, burst)
        if not (0 < leak <= 1 and gain > 0 and firing_potential > 0 and hard_reset in (0, 1)):
            raise UsageError(
                "expected a leak above 0 and at most 1, a gain and a firing potential above 0, and a hard reset of "
                f"0 or 1; got {leak}, {gain}, {firing_potential}, {hard_reset}"
            )
        self.leak, self.gain, self.firing_potential, self.hard_reset = leak, gain, firing_potential, hard_reset

    def start(self, current: Tensor) -> Tensor:
        """Return zero, in the shape of ``current`` [batch, channels, ...]."""
        start = torch.zeros_like(current)
        return start if self.potential is None else start + self.potential

    def integrate(self, potential: Tensor, current: Tensor, step: int) -> Tensor:
        """Return leak u + gain I + bias[t]."""
        potential = self.leak * potential + self.gain * current
        if self.bias is None:
            return potential
        return potential + (self.bias[step] if self.bias.ndim > self.threshold.ndim else self.bias)

    def fire(self, potential: Any, step: int, noise: Noise) -> tuple[Tensor, Any]:
        """Return s = clip(floor(u / theta + 1 - alpha), 0, m) and the potential after the reset."""
        spikes = potential / self.threshold
        if self.firing_potential != 1:
            spikes += 1 - self.firing_potential
        spikes.floor_().clamp_(0, self.burst)
        if self.hard_reset:
            return spikes, potential.masked_fill(spikes > 0, 0)
        return spikes, potential - self.threshold * spikes
