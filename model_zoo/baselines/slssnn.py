"""`slssnn`: spike-train-level blocks with an equivalent gradient. A reconstruction from the abstract.

A block takes the sum of its input train, applies its convolution once, and fires T steps of a constant current z:

    v[0] = theta / 2;   v[t] = v[t-1] + z;   s[t] = 1[v[t] >= theta];   v[t] -= theta s[t];   a = (theta / T) sum_t s[t]

Backwards  da/dz = 1[0 <= z <= theta],  da/dtheta = 1[z > theta].  As z is constant, a is the two-phase neuron's
(theta / T) clip(floor(T z / theta + 1/2), 0, T), so the network learns in one pass whatever T is, and runs as a
two-phase network; DSR with if neurons has the same gradient but convolves at every step. Source: Xu, Liu and Yang 2023
(arXiv 2307.07136; Neurocomputing 2024), whose text could not be read: the neuron and the gradient are our reading.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from snnconvert.converter.errors import UsageError
from snnconvert.converter.fused import Fused

from .method import Method, Scale, TrainedNeuron, Units


def block(z: Tensor, theta: Tensor, steps: int) -> Tensor:
    """Return a = (theta / T) clip(floor(T z / theta + 1/2), 0, T) of mean currents ``z`` [...]; ``theta`` is [1].

    Half precision is computed with in the type of ``theta``.
    """
    return (theta / steps * (steps / theta * z + 0.5).floor().clamp(0, steps)).to(z.dtype)


_BLOCK = Fused(block)


class Equivalent(torch.autograd.Function):
    """The block forwards, the gradient of min(max(z, 0), theta) backwards."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor, steps: int) -> Tensor:
        """Return the block's mean output; see `block`."""
        ctx.save_for_backward(z, theta)
        return _BLOCK(z, theta, steps)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """Return the slopes by z and theta."""
        z, theta = ctx.saved_tensors
        inside = (z >= 0) & (z <= theta)
        return slopes[0] * inside, (slopes[0].float() * (z > theta)).sum().reshape(1), None


class BlockNeuron(TrainedNeuron):
    """The neurons of a block, with a learned threshold."""

    def __init__(self, theta: float, steps: int) -> None:
        super().__init__()
        self.theta, self.steps = Scale(theta), steps

    def forward(self, z: Tensor) -> Tensor:
        """Return the mean output of the mean currents ``z`` [batch, ...]."""
        found: Tensor = Equivalent.apply(z, self.theta(), self.steps)  # type: ignore[no-untyped-call]
        return found

    def units(self) -> Units:
        """Return the neurons after training."""
        return Units(self.theta())


@dataclass(frozen=True)
class Slssnn(Method):
    """Settings of `slssnn`.

    Args:
        threshold: theta at the start, in units of the currents.
    """

    name: ClassVar[str] = "slssnn"
    about: ClassVar[str] = "spike-train-level blocks (Xu et al. 2023; reconstruction from the abstract)"
    timed: ClassVar[bool] = False

    threshold: float = 2.0

    def check(self, steps: int) -> None:
        """Check every setting.

        Raises:
            UsageError: one that is out of range.
        """
        if not 0 < self.threshold < math.inf:
            raise UsageError(f"expected a finite threshold above 0, got {self.threshold}")

    def neuron(self, steps: int) -> TrainedNeuron:
        """Return the neurons of one site."""
        return BlockNeuron(self.threshold, steps)

    def simulated(self, steps: int) -> tuple[str, dict[str, float]]:
        """Return the two-phase neuron."""
        return "two-phase", {}
