"""What every neuron model has in common: a threshold, a membrane potential that callers hold, and two moves.

A simulation hands the membrane potential in and gets it back; a neuron keeps no state, so nothing can be forgotten to
be reset. At each step of its window a neuron ``integrate``s the current; then it may ``fire``. A *streaming* neuron
fires in the same step. A *two-phase* neuron integrates its whole window first, then fires for as many steps.

To add a neuron model, write one file like `two_phase` and add it to ``NEURONS`` in this package's ``__init__``.
"""

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

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


class Neuron(nn.Module):
    """One population of neurons: the units of one site.

    Args:
        threshold: theta, in units of the activation, [channels] or [1].
        steps: T, the length of a window.
        place: where they are.
    """

    streaming: ClassVar[bool]
    stochastic: ClassVar[bool]
    threshold: Tensor

    def __init__(self, threshold: Tensor, steps: int, place: Place) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold.detach().reshape(-1, *[1] * (place.rank - place.axis - 1)).clone())
        self.steps = steps
        self.site = place.number
        self.signed = place.signed

    def start(self, current: Tensor) -> Tensor:
        """Return the membrane potential before the first step, in the shape of ``current`` [batch, channels, ...]."""
        return torch.zeros_like(current)

    def integrate(self, potential: Tensor, current: Tensor) -> Tensor:
        """Return the membrane potential after ``current`` came in: v + I."""
        return potential + current

    def fire(self, potential: Any, step: int, noise: Noise) -> tuple[Tensor, Any]:
        """Return spikes (0 or 1; -1 too where signed) at ``step`` (0 to T - 1) and the potential after the reset."""
        raise NotImplementedError

    def count(self, total: Tensor, noise: Noise) -> Tensor:
        """Return the number of spikes in a window whose input adds up to ``total``; two-phase neurons only."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Number of steps and of thresholds, for printing."""
        return f"steps={self.steps}, thresholds={self.threshold.numel()}"


def soft_reset(potential: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Return spikes and the membrane potential after the reset by subtraction.

    s = 1[v >= theta],  v <- v - theta s
    """
    spikes = (potential >= threshold).to(potential.dtype)
    return spikes, potential - threshold * spikes
