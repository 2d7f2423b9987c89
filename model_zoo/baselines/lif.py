"""`lif`, the yardstick: leaky integrate-and-fire neurons, trained through time with a surrogate gradient.

    u[t] = k (u[t-1] - theta s[t-1]) + I[t];   s[t] = 1[u[t] >= theta];   output theta s[t]

Backwards, with psi the surrogate and the reset taken as constant,

    dL/du[t] = theta psi(u[t]) dL/dout[t] + k dL/du[t+1],   dL/dI[t] = dL/du[t]

The field's default: Wu et al. 2018 (arXiv 1706.02609), Neftci, Mostafa and Zenke 2019 (arXiv 1901.09948).
`MembraneLoop` holds the equations for m thresholds, which `mt_lif` uses too; m = 1 is this one.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from snnconvert.converter.errors import UsageError, choice
from snnconvert.converter.fused import Fused
from snnconvert.converter.thresholds import LONGEST_BURST

from .method import Method, TrainedNeuron, Units, stacked
from .surrogates import SURROGATES, Surrogate


def run(currents: Tensor, leak: float, theta: float, most: int, hard: bool) -> tuple[Tensor, Tensor]:
    """Return outputs theta s[t] and membrane potentials u[t], both [T, ...], of ``currents`` [T, ...]."""
    outputs, potentials = [], []
    left = torch.zeros_like(currents[0], dtype=torch.float32)
    for current in currents.unbind():
        u = leak * left + current.float()
        spikes = (u / theta).floor().clamp(0, most)
        left = u * (spikes == 0) if hard else u - theta * spikes
        potentials.append(u)
        outputs.append((theta * spikes).to(currents.dtype))
    return stacked(outputs), stacked(potentials)


def run_back(
    slopes: Tensor, potentials: Tensor, leak: float, theta: float, most: int, hard: bool, surrogate: Surrogate
) -> Tensor:
    """Return dL/dI[t] from dL/dout[t] and u[t], all [T, ...]."""
    found = []
    later = torch.zeros_like(potentials[0])
    for slope, u in zip(reversed(slopes.unbind()), reversed(potentials.unbind()), strict=True):
        kept = later * (u < theta) if hard else later
        later = theta * surrogate(u, theta, most) * slope.float() + leak * kept
        found.append(later.to(slopes.dtype))
    return stacked(found[::-1])


_RUN, _RUN_BACK = Fused(run), Fused(run_back, exact=False)


class MembraneLoop(torch.autograd.Function):
    """The outputs of leaky neurons with m thresholds, and a surrogate gradient."""

    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, leak: float, theta: float, most: int, hard: bool, surrogate: Surrogate
    ) -> Tensor:
        """Return outputs [T, ...]; see `run`."""
        outputs, potentials = _RUN(currents, leak, theta, most, hard)
        ctx.save_for_backward(potentials)
        ctx.settings = leak, theta, most, hard, surrogate
        return outputs  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """Return the slopes by the currents; see `run_back`."""
        (potentials,) = ctx.saved_tensors
        return _RUN_BACK(slopes[0], potentials, *ctx.settings), None, None, None, None, None


class LeakyNeuron(TrainedNeuron):
    """Leaky integrate-and-fire neurons with m thresholds."""

    def __init__(self, leak: float, theta: float, most: int, hard: bool, surrogate: str) -> None:
        super().__init__()
        self.settings = leak, theta, most, hard, SURROGATES[surrogate]
        self.theta, self.most = theta, most

    def forward(self, currents: Tensor) -> Tensor:
        """Return theta s[t] for ``currents`` [T, batch, ...]."""
        outputs: Tensor = MembraneLoop.apply(currents, *self.settings)  # type: ignore[no-untyped-call]
        return outputs

    def units(self) -> Units:
        """Return the neurons after training."""
        return Units(torch.tensor([self.theta * self.most]), self.most)


@dataclass(frozen=True)
class Lif(Method):
    """Settings of `lif`.

    Args:
        leak: k, what is left of the membrane potential after a step.
        threshold: theta, in units of the currents, which batch norm brings to a deviation of about one.
        surrogate: one of `SURROGATES`.
        hard_reset: set the potential to zero after a spike.
    """

    name: ClassVar[str] = "lif"
    about: ClassVar[str] = "leaky integrate-and-fire, surrogate gradient through time"

    leak: float = 0.5
    threshold: float = 1.0
    surrogate: str = "arctangent"
    hard_reset: bool = False

    @property
    def most(self) -> int:
        """The most spikes of a neuron in a step."""
        return 1

    def check(self, steps: int) -> None:
        """Check every setting.

        Raises:
            UsageError: one that is out of range.
        """
        choice("surrogate", self.surrogate, tuple(SURROGATES))
        if not (0 < self.leak <= 1 and 0 < self.threshold < math.inf and 1 <= self.most <= LONGEST_BURST):
            raise UsageError(
                f"expected 0 < leak <= 1, a finite threshold above 0 and 1 to {LONGEST_BURST} thresholds, got {self}"
            )

    def neuron(self, steps: int) -> TrainedNeuron:
        """Return the neurons of one site."""
        return LeakyNeuron(self.leak, self.threshold, self.most, self.hard_reset, self.surrogate)

    def simulated(self, steps: int) -> tuple[str, dict[str, float]]:
        """Return the leaky neuron of the converter."""
        return "lif", {"leak": self.leak, "hard_reset": float(self.hard_reset)}
