"""What every neuron model has in common: a threshold, a membrane potential that callers hold, and two moves.

A simulation hands the membrane potential in and gets it back; a neuron keeps no state, so nothing can be forgotten to
be reset. At each step of its window a neuron ``integrate``s the current; then it may ``fire``. A *streaming* neuron
fires in the same step. A *two-phase* neuron integrates its whole window first, then fires for as many steps.

To add a neuron model, write one file like `two_phase` and add it to ``NEURONS`` in this package's ``__init__``.
"""

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..population import Population, train_like
from ..ways import Ways
from .correction import Correction
from .noise import Noise


class Place(NamedTuple):
    """What a population of neurons must know of its site.

    Args:
        number: of the site, which selects its random numbers.
        rank: the number of dimensions of the site's tensors, batch included.
        axis: the dimension of the channels.
        signed: spikes may be negative.
    """

    number: int
    rank: int
    axis: int = 1
    signed: bool = False


NONE = Correction()


class Neuron(nn.Module):
    """One population of neurons: the units of one site.

    Args:
        threshold: theta, in units of the activation, [channels] or [1].
        steps: T, the length of a window.
        place: where they are.
        correction: what calibration changed.
        burst: m, the most spikes that a neuron may fire in one step; the membrane's threshold, and what one spike is
            worth, is then theta / m, so that a window has T m + 1 levels (burst spikes: Park et al. 2019, DAC).
    """

    streaming: ClassVar[bool]
    stochastic: ClassVar[bool]
    ways: ClassVar[Ways | None] = None
    """How its window or train is computed fast, None where plain torch alone does it."""
    threshold: Tensor
    own_height: Tensor | None
    bias: Tensor | None
    potential: Tensor | None

    def __init__(
        self, threshold: Tensor, steps: int, place: Place, correction: Correction = NONE, burst: int = 1
    ) -> None:
        super().__init__()
        self.place, self.steps, self.burst = place, steps, burst
        self.register_buffer("threshold", self._along_channels(threshold) / burst)
        for name in ("own_height", "bias", "potential"):
            self.register_buffer(name, None)
        self.correct(correction)

    def correct(self, correction: Correction) -> None:
        """Put ``correction`` in the place of the one there was."""
        bias, start, height = correction
        self.own_height = None if height is None else self._along_channels(height)
        self.bias = None if bias is None else self._along_channels(bias)
        if start is not None:
            start = (self._along_channels(start) if start.ndim == 1 else start.detach()) * self.threshold
        self.potential = start

    def _along_channels(self, values: Tensor) -> Tensor:
        """Return ``values`` [..., channels] in a shape that broadcasts along the channels of the site."""
        return values.detach().reshape(*values.shape, *[1] * (self.place.rank - self.place.axis - 1)).clone()

    @property
    def site(self) -> int:
        """The number of the site."""
        return self.place.number

    @property
    def signed(self) -> bool:
        """Whether spikes may be negative."""
        return self.place.signed

    @property
    def most(self) -> int:
        """The most spikes in a window."""
        return self.steps * self.burst

    @property
    def height(self) -> Tensor:
        """What a spike is worth on its wire, in units of the activation: theta, unless calibration changed it."""
        return self.threshold if self.own_height is None else self.own_height

    def start(self, current: Tensor) -> Tensor:
        """Return the membrane potential before the first step, in the shape of ``current`` [batch, channels, ...]."""
        return torch.zeros_like(current)

    def integrate(self, potential: Tensor, current: Tensor, step: int) -> Tensor:
        """Return the membrane potential after ``current`` came in at ``step``: v + I."""
        return potential + current

    def fire(self, potential: Any, step: int, noise: Noise) -> tuple[Tensor, Any]:
        """Return the spikes (0 to m; -m to m where signed) at ``step`` (0 to T - 1) and the potential after them."""
        first = step * self.burst
        spikes, potential = self.fire_once(potential, first, noise)
        for slot in range(first + 1, first + self.burst):
            more, potential = self.fire_once(potential, slot, noise)
            spikes = spikes + more
        return spikes, potential

    def spike_train(
        self, potential: Any, currents: Tensor, first: int, noise: Noise, worth: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Integrate and fire at each of the steps from ``first`` on; streaming neurons only.

        Args:
            potential: the membrane potential before them [batch, channels, ...]; it may be changed in place.
            currents: [steps, batch, channels, ...].
            worth: by what spikes are multiplied.

        Returns:
            the train [steps, batch, channels, ...], and the potential after it.
        """
        train = train_like(currents, potential)
        for t, current in enumerate(currents):
            train[t], potential = self.fire(self.integrate(potential, current, first + t), first + t, noise)
        return train if worth is None else train.mul_(worth), potential

    def fire_once(self, potential: Any, slot: int, noise: Noise) -> tuple[Tensor, Any]:
        """Return a spike or none (1 or 0; -1 too where signed) in ``slot`` (0 to T m - 1) and the potential after."""
        raise NotImplementedError

    def count(self, total: Tensor, noise: Noise) -> Tensor:
        """Return the number of spikes in a window whose input adds up to ``total``; two-phase neurons only."""
        raise NotImplementedError

    def window(self, mean: Tensor, noise: Noise, worth: Tensor | None = None) -> Tensor:
        """Return `count` for the ``mean`` input of a window, times ``worth``; two-phase neurons only."""
        counts = self.count(mean * self.steps, noise)
        return counts if worth is None else counts * worth

    def train_bytes(self, potential: Tensor, currents: Tensor, first: int) -> Tensor | None:
        """Return `spike_train` in bytes, with ``potential`` as it is after it; None where that cannot be done here."""
        return None

    def window_bytes(self, mean: Tensor, noise: Noise) -> Tensor | None:
        """Return `count` for the ``mean`` input of a window, in bytes; None where that cannot be done here."""
        return None

    def population(self, offset: Tensor | None, worth: Tensor | None) -> Population:
        """Return the neurons as compiled functions take them."""
        low = -self.most if self.signed else 0
        return Population(self.place.axis, self.threshold, offset, worth, self.steps, low, self.most)

    def expected_count(self, total: Tensor) -> Tensor:
        """Return the mean of `count` over its random numbers; two-phase neurons only."""
        raise NotImplementedError

    @property
    def offset(self) -> Tensor | None:
        """What corrections add to the input of a whole window, in the shape of one image's channels; None for zero."""
        if self.bias is None:
            return self.potential
        total = self.bias.sum(0) if self.bias.ndim > self.threshold.ndim else self.bias * self.steps
        return total if self.potential is None else total + self.potential

    def extra_repr(self) -> str:
        """Number of steps and of thresholds, for printing."""
        return f"steps={self.steps}, thresholds={self.threshold.numel()}" + f", burst={self.burst}" * (self.burst > 1)


def soft_reset(potential: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Return spikes and the membrane potential after the reset by subtraction.

    s = 1[v >= theta],  v <- v - theta s
    """
    spikes = (potential >= threshold).to(potential.dtype)
    return spikes, potential - threshold * spikes
