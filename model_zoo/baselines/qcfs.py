"""`qcfs`: quantisation clip-floor-shift, the quantised ANN that most conversion papers start from.

    y = (lambda / L) clip(floor(L x / lambda + 1/2), 0, L) - sigma n,   n ~ N(0, 1), while it learns only

with a straight-through floor, so dy/dx = 1[0 <= x <= lambda] and dy/dlambda is what is left of the formula. lambda is
learned, one a site, and becomes theta as it is: two-phase neurons at T = L fire y's levels exactly. The trained network
is written as that two-phase network; its ANN, with activations min(max(x, 0), lambda), converts to other neurons and T
with the rule ``cap``. Source: Bu et al., ICLR 2022 (arXiv 2303.04347). sigma, 0 by default, is the residual error of
``noise = residual`` (Huang et al. 2024, arXiv 2404.17456): the deviation of what integrate-and-fire neurons say at
T = 4 from y, measured after each epoch on validation images. Unlike their code, noise is off outside training, and the
test set chooses nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import UsageError, choice
from snnconvert.converter.simulation import SpikingModel

from .method import Epoch, Method, Rule, Scale, TrainedNeuron, Units

NOISE_STEPS = 4
"""T of the integrate-and-fire neurons whose residual error is modelled."""


def clip_floor_shift(x: Tensor, cap: Tensor, levels: int) -> Tensor:
    """Return (lambda / L) clip(floor(L x / lambda + 1/2), 0, L), with a straight-through floor; ``cap`` is [1]."""
    v = (x / cap).clamp(0, 1) * levels
    rounded = v + ((v + 0.5).floor() - v).detach()
    return rounded * (cap / levels)


class QcfsNeuron(TrainedNeuron):
    """A quantised activation with a learned largest value."""

    sigma: Tensor

    def __init__(self, cap: float, levels: int) -> None:
        super().__init__()
        self.scale, self.levels = Scale(cap), levels
        self.register_buffer("sigma", torch.zeros(1))

    @property
    def cap(self) -> float:
        """lambda."""
        return float(self.scale().detach())

    def forward(self, x: Tensor) -> Tensor:
        """Return the quantised activation of ``x`` [batch, ...]."""
        y = clip_floor_shift(x.float(), self.scale(), self.levels)
        if self.training and bool(self.sigma):
            y = y - self.sigma * torch.randn_like(y)
        return y.to(x.dtype)

    def units(self) -> Units:
        """Return the neurons after training."""
        return Units(self.scale())


class ResidualNoise(Rule):
    """Measures after each epoch by how much integrate-and-fire neurons miss the quantised activations."""

    def __init__(self, neurons: Mapping[str, TrainedNeuron]) -> None:
        super().__init__()
        self.neurons = dict(neurons)

    def after_epoch(self, epoch: Epoch, network: SpikingModel, images: Tensor) -> dict[str, Any]:
        """Set sigma of each site to the deviation of theta N / T of two networks: y's, and the one with if neurons."""
        values = network.thresholds.values
        graph = network.graph
        fast = convert(graph, replace(network.thresholds, steps=None, neuron=None), neuron="if", steps=NOISE_STEPS)
        exact, spiking = network.activity(images), fast.activity(images)
        found = {}
        for name, neuron in self.neurons.items():
            gap = (exact[name] / network.steps - spiking[name] / NOISE_STEPS) * values[name]
            neuron.get_buffer("sigma").copy_(gap.var(0, correction=0).mean().sqrt())
            found[name] = float(neuron.get_buffer("sigma"))
        return {"sigma": found}


@dataclass(frozen=True)
class Qcfs(Method):
    """Settings of `qcfs`.

    Args:
        cap: lambda at the start.
        noise: "none" or "residual".
    """

    name: ClassVar[str] = "qcfs"
    about: ClassVar[str] = "quantised ANN as a source for conversion, L = T (Bu et al. 2022)"
    timed: ClassVar[bool] = False

    cap: float = 4.0
    noise: str = "none"

    def check(self, steps: int) -> None:
        """Check every setting.

        Raises:
            UsageError: one that is out of range.
        """
        choice("noise", self.noise, ("none", "residual"))
        if not 0 < self.cap < math.inf:
            raise UsageError(f"expected a finite cap above 0, got {self.cap}")

    def neuron(self, steps: int) -> TrainedNeuron:
        """Return the activation of one site."""
        return QcfsNeuron(self.cap, steps)

    def rule(self, body: fx.GraphModule, neurons: Mapping[str, TrainedNeuron]) -> Rule:
        """Return the measurement of residual errors, if noise models them."""
        return ResidualNoise(neurons) if self.noise == "residual" else Rule()

    def simulated(self, steps: int) -> tuple[str, dict[str, float]]:
        """Return the two-phase neuron."""
        return "two-phase", {}
