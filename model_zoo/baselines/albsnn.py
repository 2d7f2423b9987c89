"""`albsnn`: weights of one bit, in the layers where they cost least. A reconstruction from the abstract.

A binarised layer computes with W_b = alpha_o sign(W), alpha_o = mean |W_o| of an output channel o; gradients go
straight through to W, which is kept in [-1, 1]. First and last layers keep their precision. The accuracy-loss
estimators of a layer, averaged over batches (0.9 of the old, 0.1 of the new one), are

    e1 = ||W - W_b||^2 / ||W||^2          e2 = | sum_i g_i (W_b - W)_i |,   g = dLoss / dW

e2 is the change of the loss to first order. After each epoch layers are sorted by e2 over their number of weights and
binarised while the sum of e2 stays within ``budget`` times the loss; no layer joins while the validation accuracy is
more than ``tolerance`` points below its best; one that no longer fits in the budget gets its precision back, and keeps
the estimates that it had with one bit: near a minimum of its own weights the slope says too little (a fifth of that, as
measured), so that layers would come and go with every epoch. Where the accuracy has not risen for ``patience`` epochs,
the signs of the 0.1 % weights with the largest g_i W_b,i > 0 turn.

Source: Pei, Xu, Wu, Liu and Yang 2022 (arXiv 2208.00398; Front. Neurosci. 2023), whose text could not be read: the
estimators, the rule of selection and the neuron (`mt_lif`'s) are our reading. Their global-average-pool head is a
property of the architecture.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from snnconvert.converter.errors import ModelRefused, UsageError
from snnconvert.converter.simulation import SpikingModel

from .method import Epoch, Rule, TrainedNeuron
from .mt_lif import MultiThresholdLif

DECAY = 0.9
TURNED = 0.001
"""The share of the weights of a layer whose sign turns."""


def binarised(weight: Tensor) -> Tensor:
    """Return alpha_o sign(W), alpha_o = mean |W_o|, of ``weight`` [out, ...]; the sign of zero counts as positive."""
    alpha = weight.abs().mean(tuple(range(1, weight.ndim)), keepdim=True)
    return torch.where(weight >= 0, alpha, -alpha)


class LocalBinarisation(nn.Module):
    """A layer's weights: as they are, or binarised; and the estimators."""

    on: Tensor
    tried: Tensor
    weight_error: Tensor
    loss_change: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("on", torch.tensor(False))
        self.register_buffer("tried", torch.tensor(False))
        self.register_buffer("weight_error", torch.zeros(()))
        self.register_buffer("loss_change", torch.zeros(()))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weights that the layer computes with."""
        return weight + (binarised(weight) - weight).detach() if bool(self.on) else weight

    def estimate(self, weight: Tensor, slope: Tensor) -> None:
        """Take the gradient ``slope`` of a batch into the estimators, unless they are known from when it was binary."""
        if bool(self.tried) and not bool(self.on):
            return
        change = binarised(weight) - weight
        first = change.square().sum() / weight.square().sum()
        second = (slope * change).sum().abs()
        self.weight_error.mul_(DECAY).add_(first, alpha=1 - DECAY)
        self.loss_change.mul_(DECAY).add_(second, alpha=1 - DECAY)


def chosen(estimates: Mapping[str, float], sizes: Mapping[str, int], allowed: float) -> set[str]:
    """Return the layers to binarise: in the order of e2 over their number of weights, while the sum of e2 fits.

    Args:
        estimates: e2 of each layer.
        sizes: number of weights of each.
        allowed: what e2 may add up to; infinity takes all layers and 0 none.
    """
    found, total = set[str](), 0.0
    for name in sorted(estimates, key=lambda n: estimates[n] / sizes[n]) if allowed > 0 else ():
        total += estimates[name]
        if total > allowed:
            break
        found.add(name)
    return found


class Selection(Rule):
    """Which layers are binarised."""

    best: Tensor
    waited: Tensor

    def __init__(self, body: fx.GraphModule, method: "Albsnn") -> None:
        super().__init__()
        self.method = method
        self.layers: dict[str, tuple[nn.Module, str]] = {}
        found = [str(n.target) for n in body.graph.nodes if n.op == "get_attr" and _weight(body, n).ndim > 1]
        weights = list(dict.fromkeys(found))
        if len(weights) < 3:
            raise ModelRefused(f"binarising leaves out the first and the last layer, and there are {len(weights)}")
        for path in weights[1:-1]:
            owner, _, name = path.rpartition(".")
            module = body.get_submodule(owner)
            if not parametrize.is_parametrized(module, name):
                parametrize.register_parametrization(module, name, LocalBinarisation())
            self.layers[path] = module, name
        self.register_buffer("best", torch.tensor(-math.inf, dtype=torch.float64))  # an equal accuracy is no gain
        self.register_buffer("waited", torch.tensor(0))

    def _parts(self, path: str) -> tuple[LocalBinarisation, nn.Parameter]:
        module, name = self.layers[path]
        found: Any = module.parametrizations[name]  # type: ignore[index]
        return found[0], found.original

    @torch.no_grad()
    def after_backward(self) -> None:
        """Take the gradients of a batch into the estimators."""
        for path in self.layers:
            layer, weight = self._parts(path)
            if weight.grad is not None:
                layer.estimate(weight, weight.grad)

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep the weights of binarised layers in [-1, 1]."""
        for path in self.layers:
            layer, weight = self._parts(path)
            if bool(layer.on):
                weight.clamp_(-1, 1)

    @torch.no_grad()
    def after_epoch(self, epoch: Epoch, network: SpikingModel, images: Tensor) -> dict[str, Any]:
        """Choose the layers anew, and turn signs where the accuracy stands still."""
        gained = epoch.top1 > float(self.best)
        self.waited.copy_(torch.where(torch.tensor(gained), 0, self.waited + 1))
        near = epoch.top1 >= float(self.best) - self.method.tolerance
        self.best.clamp_(min=epoch.top1)
        if self.method.warm_up <= epoch.progress <= self.method.settle:
            estimates = {path: float(self._parts(path)[0].loss_change) for path in self.layers}
            sizes = {path: self._parts(path)[1].numel() for path in self.layers}
            fitting = chosen(estimates, sizes, self.method.budget * epoch.loss)
            for path in self.layers:
                layer = self._parts(path)[0]
                layer.on.fill_(path in fitting and (near or bool(layer.on)))
                layer.tried.logical_or_(layer.on)
        turned = self._turn() if int(self.waited) >= self.method.patience else 0
        return {
            "turned": turned,
            "layers": {
                path: {
                    "binary": bool(layer.on),
                    "weight_error": float(layer.weight_error),
                    "loss_change": float(layer.loss_change),
                }
                for path in self.layers
                for layer, _ in (self._parts(path),)
            },
        }

    def _turn(self) -> int:
        self.waited.zero_()
        turned = 0
        for path in self.layers:
            layer, weight = self._parts(path)
            if not bool(layer.on) or weight.grad is None:
                continue
            gain = (weight.grad * binarised(weight)).flatten()
            worst = gain.topk(max(1, round(TURNED * gain.numel())))
            places = worst.indices[worst.values > 0]
            weight.view(-1)[places] *= -1
            turned += len(places)
        return turned


def _weight(body: fx.GraphModule, node: fx.Node) -> Tensor:
    owner, _, name = str(node.target).rpartition(".")
    found: Tensor = getattr(body.get_submodule(owner), name)
    return found


@dataclass(frozen=True)
class Albsnn(MultiThresholdLif):
    """Settings of `albsnn`: those of `mt-lif`, for one step with twice as many thresholds, and

    Args:
        budget: what binarising may add to the loss by the estimators, in units of the loss.
        tolerance: how far below its best the validation accuracy may be when layers join, in points.
        warm_up: the share of the training before the first layer is binarised.
        settle: the share after which the choice stays.
        patience: epochs without a better validation accuracy after which signs turn.
    """

    name: ClassVar[str] = "albsnn"
    about: ClassVar[str] = "adaptive local binarisation (Pei et al. 2022; reconstruction from the abstract)"

    threshold: float = 0.25
    thresholds: int = 8
    budget: float = 0.2
    tolerance: float = 1.0
    warm_up: float = 0.2
    settle: float = 0.6
    patience: int = 10

    def check(self, steps: int) -> None:
        """Check every setting.

        Raises:
            UsageError: one that is out of range.
        """
        super().check(steps)
        sizes = 0 <= self.budget < math.inf and 0 <= self.tolerance < math.inf
        if not (sizes and 0 <= self.warm_up <= self.settle <= 1 <= self.patience):
            raise UsageError(
                "expected a finite budget and tolerance of at least 0, and 0 <= warm_up <= settle <= 1 <= patience, "
                f"got {self}"
            )

    def rule(self, body: fx.GraphModule, neurons: Mapping[str, TrainedNeuron]) -> Rule:
        """Return the choice of layers."""
        return Selection(body, self)
