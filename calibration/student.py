"""The student of a reconstruction: a spiking network of two-phase neurons with gradients.

At each site it has the spike count N of the neurons in the forward pass and the gradient of a clipped line in the
backward pass (straight-through, Bengio et al. 2013):

    a = theta N / K,   d a / d z = [0 < v < K],   v = (z + b) K / theta

with K = T m, m the burst (`straight_through` has all gradients, also where a spike is not worth theta / m). N is what
the neurons fire: of two-phase neurons the rounded, of TPP a random count. `streaming_student` is for streaming ones.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from snnconvert.converter.graph import PreparedGraph, Site
from snnconvert.converter.graph.canonical import attribute
from snnconvert.converter.graph.operations import SYNAPSES
from snnconvert.converter.graph.sites import site_of
from snnconvert.converter.neurons import NEURONS, Correction
from snnconvert.converter.neurons.tpp import mean_count_table
from snnconvert.converter.precision import computes_bfloat16
from snnconvert.converter.simulation import channels_last
from snnconvert.converter.thresholds import Thresholds

from .settings import Settings
from .side_by_side import activations
from .straight_through import Fire, drawn, rounded, straight_through

MEMORY = 2**31
"""Bytes that the values of the student may take for its gradients; a batch that needs more goes through in parts.

Errors that are in units of a mean square (of sites, of outputs that are no scores) are so within a part.
"""

COMPILING_PAYS = 200
"""The number of iterations from which on compiling the sites takes less time than it saves."""


class Student(fx.Interpreter):
    """A spiking network with gradients.

    Args:
        graph: the teacher.
        thresholds: where learning starts.
        neuron: the neuron model.
        settings: how to learn.
        options: further arguments of `convert`.
        seed: of random counts.
    """

    def __init__(
        self,
        graph: PreparedGraph,
        thresholds: Thresholds,
        neuron: str,
        settings: Settings,
        options: dict[str, Any],
        seed: int = 0,
    ) -> None:
        super().__init__(graph.module)
        assert thresholds.steps is not None
        self.extra_traceback = False
        self.fuse = settings.iterations >= COMPILING_PAYS
        self.prepared, self.before, self.neuron, self.steps = graph, thresholds.to(graph), neuron, thresholds.steps
        self.settings, self.options = settings, options
        self.generator = torch.Generator(graph.weight.device).manual_seed(seed)
        nodes = {str(n.target): site for n in graph.module.graph.nodes if (site := site_of(n)) is not None}
        self.sites: dict[str, Site] = nodes
        self.log_threshold = {c: self.before.values[s.name].log().clone() for c, s in nodes.items()}
        self.shift = {c: self._first_shift(s) for c, s in nodes.items()}
        self.weights = _synapses(graph.module) | {n: w.detach().clone() for n, w in self.before.weights.items()}
        for name, group in self._learned().items():
            for tensor in group.values():
                tensor.requires_grad_(name in settings.learn)
        self.ends = ends(graph.module.graph, settings.scope)
        self.wanted: dict[str, tuple[Tensor, Tensor]] = {}
        self.losses: list[Tensor] = []
        self.hints: list[Tensor] = []

    @property
    def at_once(self) -> int:
        """The number of images whose values fit in `MEMORY`."""
        nodes = self.prepared.module.graph.nodes
        sizes: dict[fx.Node, int] = {
            n: math.prod(n.meta.get("shape", ())) for n in nodes if n.op in ("call_function", "call_module")
        }
        values = sum(sizes.values()) * self._values_per_node
        if self.settings.hint or self.ends:
            values += sum(size for n, size in sizes.items() if n.op == "call_module")  # errors of sites
        return max(1, MEMORY // (values * self.prepared.weight.element_size()))

    @property
    def _values_per_node(self) -> int:
        return 1

    def _learned(self) -> dict[str, dict[str, Tensor]]:
        return {"threshold": self.log_threshold, "bias": self.shift, "weight": self.weights}

    def groups(self) -> list[dict[str, Any]]:
        """Return the parameters with their learning rates."""
        rates = {"threshold": self.settings.threshold_rate, "bias": self.settings.threshold_rate}
        small = [
            {"params": list(self._learned()[name].values()), "lr": rate}
            for name, rate in rates.items()
            if name in self.settings.learn
        ]
        if "weight" not in self.settings.learn:
            return small
        rate = self.settings.weight_rate
        return small + [
            {"params": [w], "lr": rate * float(w.detach().square().mean().sqrt())} for w in self.weights.values()
        ]

    def loss(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return how far the student is from its teacher on one batch."""
        inputs = channels_last(inputs)
        self.losses, self.hints = [], []
        device = self.prepared.weight.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.mixed and computes_bfloat16(device)):
            teacher, self.wanted = activations(self.prepared, inputs)
            student = self.run(*inputs)
        pairs = zip(tree_leaves(student), tree_leaves(teacher), strict=True)
        exact = self.prepared.weight.dtype
        found = torch.stack(
            [divergence(a.to(exact), b.to(exact), self.settings.temperature) for a, b in pairs if b is not None]
        ).sum()
        for weight, errors in ((1.0, self.losses), (self.settings.hint, self.hints)):
            found = found + weight * torch.stack(errors).mean() if errors else found
        return found

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return a constant, as far as it is learned."""
        return self.weights[str(target)] if str(target) in self.weights else super().get_attr(target, args, kwargs)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return theta N / T of the neurons of a site, with straight-through gradients."""
        site = self.sites[target]
        correction = self._correction(target)

        def along_channels(x: Tensor) -> Tensor:
            return x.reshape(-1, *[1] * (args[0].ndim - site.axis - 1))

        theta = self._threshold(target)
        most = self.steps * self.before.bursts.get(site.name, 1)
        height = theta
        if correction.height is not None:
            height = theta * (correction.height * (most // self.steps) / self._first_threshold(target))
        theta, height = along_channels(theta), along_channels(height)
        bias = along_channels(self.shift[target] * self._first_threshold(target))
        start = correction.potential
        if start is not None:
            bias = bias + (along_channels(start) if start.ndim == 1 else start) * theta / most
        low = -most if site.signed else 0
        fire, given = self._firing(args[0], most, theta)
        out = straight_through(args[0], bias, theta, height, *given, fire=fire, most=most, low=low, fuse=self.fuse)
        return self._ended(target, out, lambda: out)

    def _ended(self, child: str, out: Tensor, mean: Callable[[], Tensor]) -> Tensor:
        """Return ``out`` of a site, and keep the loss of its ``mean``; where it learns by itself, cut the gradient."""
        ends = child in self.ends
        if ends or self.settings.hint:
            wanted, exact = self.wanted[child][1], self.prepared.weight.dtype
            error = (mean() - wanted).square().mean(dtype=exact)
            (self.losses if ends else self.hints).append(error / wanted.square().mean(dtype=exact).clamp(min=1e-12))
        return out.detach() if ends else out

    def _firing(self, z: Tensor, most: int, like: Tensor) -> tuple[Fire, tuple[Tensor, ...]]:
        """Return how the neurons of a site come from v to a count, and what they need besides."""
        if not NEURONS[self.neuron].stochastic:
            return rounded, ()
        uniform = torch.rand(z.shape, generator=self.generator, dtype=like.dtype, device=z.device)
        return drawn, (uniform, mean_count_table(most).to(like))

    def keep_caps(self) -> None:
        """Bring thresholds that were learned back to the cap of their site."""
        with torch.no_grad():
            for child, site in self.sites.items():
                if site.cap is not None:
                    self.log_threshold[child].clamp_(max=math.log(site.cap))

    def _threshold(self, child: str) -> Tensor:
        if "threshold" not in self.settings.learn:
            return self._first_threshold(child)
        theta, cap = self.log_threshold[child].exp(), self.sites[child].cap
        if cap is None:
            return theta
        return theta - (theta - cap).clamp(min=0).detach()  # at the cap, rounding must not cost the gradient

    def _first_threshold(self, child: str) -> Tensor:
        return self.before.values[self.sites[child].name]

    def _first_shift(self, site: Site) -> Tensor:
        """Return the mean bias that the site has already, in units of theta, [channels]."""
        theta = self.before.values[site.name]
        bias = self.before.corrections.get(site.name, Correction()).bias
        if bias is None:
            return torch.zeros(site.channels).to(theta)
        return ((bias.mean(0) if bias.ndim == 2 else bias) / theta).clone()

    def _learned_bias(self, child: str) -> Tensor:
        bias, before = self.shift[child] * self._first_threshold(child), self._correction(child).bias
        return bias if before is None or before.ndim == 1 else before - before.mean(0) + bias

    def _correction(self, child: str) -> Correction:
        return self.before.corrections.get(self.sites[child].name, Correction())

    def thresholds(self) -> Thresholds:
        """Return what was learned so far."""
        with torch.no_grad():
            values, corrections = {}, {}
            for child, site in self.sites.items():
                before = self._correction(child)
                theta = values[site.name] = self._threshold(child).clone()
                bias = self._learned_bias(child) if "bias" in self.settings.learn else before.bias
                height = None if before.height is None else before.height * (theta / self._first_threshold(child))
                corrections[site.name] = before._replace(bias=bias, height=height)
            learned = (
                {n: w.detach().clone() for n, w in self.weights.items()} if "weight" in self.settings.learn else {}
            )
        return replace(
            self.before,
            values=values,
            neuron=self.neuron,
            corrections=corrections,
            weights=learned or self.before.weights,
        )


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return how far an output is from the teacher's, a number without units.

    tau^2 KL(softmax(teacher / tau) || softmax(student / tau)) for scores [batch, classes] and the temperature tau, with
    which other classes than the first count for more (Hinton et al. 2015); for all else the mean square of the
    difference in units of that of the teacher.
    """
    if student.ndim == 2 and student.shape[1] > 1:
        logs = F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1)
        return temperature**2 * F.kl_div(*logs, log_target=True, reduction="batchmean")
    return (student - teacher).square().mean() / teacher.square().mean().clamp(min=1e-12)


def ends(graph: fx.Graph, scope: str) -> set[str]:
    """Return the children of the sites that learn from their own activation, and where gradients are cut."""
    if scope == "network":
        return set()
    order = {node: i for i, node in enumerate(graph.nodes)}
    found, alive_until = set(), -1
    for node in graph.nodes:
        if node.op == "get_attr":
            continue
        if site_of(node) is not None and (scope == "layer" or alive_until <= order[node]):
            found.add(str(node.target))
        alive_until = max(alive_until, *(order[user] for user in node.users), -1)
    return found


def _synapses(module: fx.GraphModule) -> dict[str, Tensor]:
    """Return a copy of the weights of every layer that has synapses, by the name of the constant."""
    nodes = [n.args[1] for n in module.graph.nodes if n.target in SYNAPSES.values() and len(n.args) > 1]
    names = dict.fromkeys(str(n.target) for n in nodes if isinstance(n, fx.Node) and n.op == "get_attr")
    return {name: attribute(module, name).detach().clone() for name in names}
