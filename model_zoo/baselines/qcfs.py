"""`qcfs`: quantisation clip-floor-shift, the quantised ANN that most conversion papers start from.

    y = (lambda / L) clip(floor(L x / lambda + 1/2), 0, L) - sigma n,   n ~ N(0, 1), while it learns only

with a straight-through floor, so dy/dx = 1[0 <= x <= lambda], dy/dlambda = (y - x dy/dx) / lambda. lambda is learned,
one a site, and becomes theta as it is: two-phase neurons at T = L fire y's levels exactly. The trained network is
written as that two-phase network; its ANN, with activations min(max(x, 0), lambda), converts to other neurons and T,
with lambda for theta where no data are given. Source: Bu et al., ICLR 2022 (arXiv 2303.04347). sigma, 0 by default, is
the residual error of ``noise = residual`` (Huang et al. 2024, arXiv 2404.17456): the deviation, over images, of what
integrate-and-fire neurons say at T = 4 from y, measured after each epoch on validation images. Unlike their code, noise
is off outside training, and the test set chooses nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import UsageError, choice
from snnconvert.converter.fused import Fused
from snnconvert.converter.simulation import SpikingModel

from .method import Epoch, Method, Rule, Scale, TrainedNeuron, Units
from .slssnn import block

NOISE_STEPS = 4
"""T of the integrate-and-fire neurons whose residual error is modelled."""


def run_back(slope: Tensor, x: Tensor, cap: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Return the slopes by ``x`` and by lambda, ``cap`` [1], from that by y."""
    dy_dx, x = (x >= 0) & (x <= cap), x.to(cap.dtype)
    dy_dcap = (block(x, cap, levels) - x * dy_dx) / cap
    return slope * dy_dx, (slope * dy_dcap).sum().reshape(1)


_BLOCK, _RUN_BACK = Fused(block), Fused(run_back, exact=False)


class ClipFloorShift(torch.autograd.Function):
    """The quantised activation, and the gradient past its floor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cap: Tensor, levels: int) -> Tensor:
        """Return y of ``x``; ``cap`` is lambda, [1], ``levels`` is L."""
        ctx.save_for_backward(x, cap)
        ctx.levels = levels
        return _BLOCK(x, cap, levels)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """Return the slopes; see `run_back`."""
        return *_RUN_BACK(slopes[0], *ctx.saved_tensors, ctx.levels), None


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
        y: Tensor = ClipFloorShift.apply(x, self.scale(), self.levels)  # type: ignore[no-untyped-call]
        return y - (self.sigma * torch.randn_like(y)).to(y) if self.training and bool(self.sigma) else y

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
    converts: ClassVar[bool] = True

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
