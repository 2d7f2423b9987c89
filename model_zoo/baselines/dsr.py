"""`dsr`: differentiation on spike representation, with integrate-and-fire or leaky neurons.

    if:   V += x[t];                s[t] = 1[V >= alpha theta];  V -= theta s[t];  out[t] = theta s[t]
    lif:  V = b V + (1 - b) x[t];   the same;  out[t] = theta s[t] / dt;   b = exp(-dt / tau)

Spikes run forwards only. Backwards a window is what its representation is, a clipped mean: with r the mean of x (for
lif weighted with w_t = exp(-(T - t) dt / tau)), g the same mean of dL/dout times T, and c = theta (if), tau theta / dt
(lif),

    dL/dx[t] = g 1[0 <= r <= c] / T  (lif: / tau too);    dL/dtheta = sum g 1[r > c]  (lif: times dt)

so nothing is kept of the steps. theta is learned, one a site. Source: Meng et al., CVPR 2022 (arXiv 2205.00459) and its
code. We differ in the readout, which is the mean of the last layer's output and no neuron, and for lif in that mean
being unweighted.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from snnconvert.converter.errors import UsageError, choice
from snnconvert.converter.fused import Fused

from .method import Method, Scale, TrainedNeuron, Units, stacked


class Steps(NamedTuple):
    """The numbers of a neuron.

    Args:
        alpha: the potential at which it fires, in units of theta.
        leak: what is left of the membrane potential after a step.
        gain: by what currents are multiplied.
        height: what a spike is worth, in units of theta.
        tau: the time constant of the representation.
    """

    alpha: float
    leak: float
    gain: float
    height: float
    tau: float


def run(x: Tensor, theta: Tensor, weights: Tensor, neuron: Steps) -> tuple[Tensor, Tensor]:
    """Return the outputs, height theta s[t], of currents ``x`` [T, ...], and the weighted mean of ``x``.

    Args:
        theta: the threshold, [1].
        weights: those of the steps in the mean, [T], which add up to 1.
    """
    potential = torch.zeros_like(x[0], dtype=torch.float32)
    mean = torch.zeros_like(potential)
    outputs = []
    for current, weight in zip(x.float().unbind(), weights.unbind(), strict=True):
        mean = mean + weight * current
        potential = neuron.leak * potential + neuron.gain * current
        fired = theta * (potential >= neuron.alpha * theta)
        potential = potential - fired
        outputs.append((neuron.height * fired).to(x.dtype))
    return stacked(outputs), mean


def run_back(slopes: Tensor, mean: Tensor, theta: Tensor, weights: Tensor, neuron: Steps) -> tuple[Tensor, Tensor]:
    """Return the slope by the current of any step [...], and that by theta [1], from the ``slopes`` [T, ...]."""
    g = torch.zeros_like(mean)
    for slope, weight in zip(slopes.float().unbind(), weights.unbind(), strict=True):
        g = g + weight * slope
    cap = neuron.tau * neuron.height * theta
    by_current = (g * ((mean >= 0) & (mean <= cap)) / neuron.tau).to(slopes.dtype)
    return by_current, (g * (mean > cap)).sum().reshape(1) * (len(weights) / neuron.height)


_RUN, _RUN_BACK = Fused(run), Fused(run_back, exact=False)


class Representation(torch.autograd.Function):
    """Spikes forwards, the gradient of a clipped mean backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor, weights: Tensor, neuron: Steps) -> Tensor:
        """Return outputs [T, ...] of currents ``x`` [T, ...]; see `run`."""
        outputs, mean = _RUN(x, theta, weights, neuron)
        ctx.save_for_backward(mean, theta, weights)
        ctx.neuron = neuron
        return outputs  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """Return the slopes by the currents and by theta; see `run_back`."""
        by_current, by_theta = _RUN_BACK(slopes[0], *ctx.saved_tensors, ctx.neuron)
        return stacked([by_current] * len(slopes[0])), by_theta, None, None


class DsrNeuron(TrainedNeuron):
    """Neurons with a learned threshold and the gradient of their representation."""

    def __init__(self, numbers: Steps, threshold: float, steps: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.theta = Scale(threshold / numbers.height, 0.01 / numbers.height)
        powers = torch.tensor([numbers.leak ** (steps - 1 - t) for t in range(steps)])
        self.register_buffer("weights", powers / powers.sum(), persistent=False)

    def forward(self, currents: Tensor) -> Tensor:
        """Return the outputs of ``currents`` [T, batch, ...]."""
        outputs: Tensor = Representation.apply(  # type: ignore[no-untyped-call]
            currents, self.theta(), self.weights, self.numbers
        )
        return outputs

    def units(self) -> Units:
        """Return the neurons after training."""
        theta, height = self.theta(), self.numbers.height
        return Units(theta, height=None if height == 1 else height * theta)


@dataclass(frozen=True)
class Dsr(Method):
    """Settings of `dsr`.

    Args:
        neurons: "if" or "lif".
        threshold: what a spike is worth at the start: theta for if, theta / dt for lif.
        alpha: the potential at which a neuron fires, in units of theta.
        tau: the membrane's time constant, lif only.
        dt: the length of a step, lif only.
    """

    name: ClassVar[str] = "dsr"
    about: ClassVar[str] = "differentiation on spike representation (Meng et al. 2022)"

    neurons: str = "if"
    threshold: float = 2.0
    alpha: float = 0.5
    tau: float = 1.0
    dt: float = 0.1

    @property
    def numbers(self) -> Steps:
        """The numbers of its neurons."""
        if self.neurons == "if":
            return Steps(self.alpha, 1.0, 1.0, 1.0, 1.0)
        leak = math.exp(-self.dt / self.tau)
        return Steps(self.alpha, leak, 1 - leak, 1 / self.dt, self.tau)

    def check(self, steps: int) -> None:
        """Check every setting.

        Raises:
            UsageError: one that is out of range.
        """
        choice("kind of neurons", self.neurons, ("if", "lif"))
        if not all(0 < number < math.inf for number in (self.threshold, self.alpha, self.tau, self.dt)):
            raise UsageError(f"expected a finite threshold, alpha, tau and dt above 0, got {self}")

    def neuron(self, steps: int) -> TrainedNeuron:
        """Return the neurons of one site."""
        return DsrNeuron(self.numbers, self.threshold, steps)

    def simulated(self, steps: int) -> tuple[str, dict[str, float]]:
        """Return the integrate-and-fire neuron that starts with (1 - alpha) theta, or the leaky neuron."""
        if self.neurons == "if":
            return "if", {"initial_potential": 1 - self.alpha, "shift": 0.0}
        numbers = self.numbers
        return "lif", {"leak": numbers.leak, "gain": numbers.gain, "firing_potential": numbers.alpha}
