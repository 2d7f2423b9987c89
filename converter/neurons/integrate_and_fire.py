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
    for t, current in enumerate(currents.unbind()):
        potential = potential + current
        if neurons.offset is not None:
            potential = potential + (neurons.offset[t] if neurons.by_step else neurons.offset)
        spikes, potential = soft_reset(potential, neurons.theta)
        train.append(spikes if neurons.worth is None else spikes * neurons.worth)
    return torch.stack(train), potential


_FUSED = Fused(_train)


def _fused_train(potential: Tensor, currents: Tensor, neurons: Population) -> tuple[Tensor, Tensor]:
    trains = []
    for first, part in zip(range(0, len(currents), _AT_ONCE), currents.split(_AT_ONCE), strict=True):
        now = neurons
        if neurons.offset is not None and neurons.by_step:
            now = neurons._replace(offset=neurons.offset[first : first + _AT_ONCE])
        train, potential = _FUSED(potential, part, now)
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
        found: tuple[Tensor, Tensor] | None = None
        if self._simple:
            found = self.ways(potential, currents, self._driven(first, len(currents), worth))
        return super().spike_train(potential, currents, first, noise, worth) if found is None else found

    def train_bytes(self, potential: Tensor, currents: Tensor, first: int) -> Tensor | None:
        """Return `spike_train` in bytes, with ``potential`` as it is after it; None where that cannot be done here."""
        if not self._simple:
            return None
        neurons = self._driven(first, len(currents), None)._replace(most=1)  # at one step
        found = native.integrate_and_fire(potential, currents, neurons, counts=True)
        return None if found is None else found[0]

    @property
    def _simple(self) -> bool:
        """Whether one spike is the most in a step, and one number at most comes in besides the input."""
        return self.burst == 1 and (self.bias is None or not self.shift)

    def _driven(self, first: int, steps: int, worth: Tensor | None) -> Population:
        """Return the neurons with what is added to the input of the steps from ``first`` on."""
        if self.shift:
            return self.population(self.shift * self.threshold / self.steps, worth)
        if self.bias is None or self.bias.ndim == self.threshold.ndim:
            return self.population(self.bias, worth)
        return self.population(self.bias[first : first + steps], worth)._replace(by_step=True)

    def fire_once(self, potential: Tensor, slot: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return s = 1[v >= theta] and v - theta s."""
        return soft_reset(potential, self.threshold)
