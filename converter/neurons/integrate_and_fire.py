"""The soft-reset integrate-and-fire neuron: streaming, deterministic.

    v[t] = v[t-1] + I[t] + shift theta / T;  s[t] = 1[v[t] >= theta];  v[t] <- v[t] - theta s[t];  v[0] = v0 theta

Sources: Bu et al. 2022 ("Optimized potential initialization", v0 = 1/2); Deng and Gu 2021 (arXiv 2103.00476; v0 = 0,
shift = 1/2). For a current that is constant in time and between 0 and theta, both give the mean output
(theta / T) clip(floor(T I / theta + 1/2), 0, T).
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import native
from ..fused import Fused
from ..population import Population
from ..ways import Ways
from .correction import Correction
from .neuron import NONE, Neuron, Place, soft_reset
from .noise import Noise

_AT_ONCE = 8
"""Steps in one function of inductor's, which is unrolled."""


def _train(potential: Tensor, currents: Tensor, neurons: Population) -> tuple[Tensor, Tensor]:
    train = []
    for current in currents.unbind():
        potential = potential + current if neurons.offset is None else potential + current + neurons.offset
        spikes, potential = soft_reset(potential, neurons.theta)
        train.append(spikes if neurons.worth is None else spikes * neurons.worth)
    return torch.stack(train), potential


_FUSED = Fused(_train)


def _fused_train(potential: Tensor, currents: Tensor, neurons: Population) -> tuple[Tensor, Tensor]:
    trains = []
    for part in currents.split(_AT_ONCE):
        train, potential = _FUSED(potential, part, neurons)
        trains.append(train)
    return torch.cat(trains), potential


class IntegrateAndFire(Neuron):
    """Soft-reset integrate-and-fire neurons.

    Args:
        initial_potential: v0 in units of theta.
        shift: the potential added over a whole window, in units of theta (1/2: Deng and Gu).
    """

    streaming: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False
    ways: ClassVar[Ways] = Ways(_train, "integrate_and_fire", _fused_train)

    def __init__(
        self,
        threshold: Tensor,
        steps: int,
        place: Place,
        correction: Correction = NONE,
        burst: int = 1,
        initial_potential: float = 0.5,
        shift: float = 0.0,
    ) -> None:
        super().__init__(threshold, steps, place, correction, burst)
        self.initial_potential = initial_potential
        self.shift = shift

    def start(self, current: Tensor) -> Tensor:
        """Return v0 theta, in the shape of ``current`` [batch, channels, ...]."""
        start = torch.empty_like(current).copy_(self.initial_potential * self.threshold)
        return start if self.potential is None else start + self.potential

    def integrate(self, potential: Tensor, current: Tensor, step: int) -> Tensor:
        """Return v + I + shift theta / T + bias[t]."""
        potential = potential + current
        if self.shift:
            potential = potential + self.shift * self.threshold / self.steps
        if self.bias is None:
            return potential
        return potential + (self.bias[step] if self.bias.ndim > self.threshold.ndim else self.bias)

    def spike_train(
        self, potential: Any, currents: Tensor, first: int, noise: Noise, worth: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Integrate and fire at each of the steps from ``first`` on, in one pass where the input alone drives them."""
        if not self._alike:
            return super().spike_train(potential, currents, first, noise, worth)
        found: tuple[Tensor, Tensor] | None = self.ways(potential, currents, self.population(self._drive, worth))
        return super().spike_train(potential, currents, first, noise, worth) if found is None else found

    def train_bytes(self, potential: Tensor, currents: Tensor) -> Tensor | None:
        """Return `spike_train` in bytes, with ``potential`` as it is after it; None where that cannot be done here."""
        if not self._alike:
            return None
        found = native.integrate_and_fire(potential, currents, self.population(self._drive, None), counts=True)
        return None if found is None else found[0]

    @property
    def _alike(self) -> bool:
        """Whether all steps are alike, and one spike is the most in each."""
        return self.burst == 1 and (self.bias is None or (self.bias.ndim == self.threshold.ndim and not self.shift))

    @property
    def _drive(self) -> Tensor | None:
        """What is added to the input of every step, if they are alike."""
        return self.shift * self.threshold / self.steps if self.shift else self.bias

    def fire_once(self, potential: Tensor, slot: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return s = 1[v >= theta] and v - theta s."""
        return soft_reset(potential, self.threshold)
