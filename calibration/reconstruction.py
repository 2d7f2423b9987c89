"""Reconstruction: learn thresholds, biases and weights so that the spiking network says what its ANN says.

The student is the prepared graph with, at each site, the spike count N of its neurons in the forward pass and the
gradient of a clipped line in the backward pass (straight-through, Bengio et al. 2013):

    a = theta N / T,   d a / d z = [0 < v < T],   v = (z + b) T / theta

which makes d a / d theta = N / T - [0 < v < T] z / theta, that of learned step sizes (Esser et al. 2020). N is what the
neurons fire: of two-phase neurons the rounded, of TPP a random count; streaming ones are simulated step by step, and
only their rates carry gradients, as in rate-based backpropagation (Yu et al. 2024). The teacher is the ANN on the same
unlabelled images.

What the loss looks at decides what is learned together. ``layer``: each site alone imitates the activation, on what
the spiking sites before it send. ``block``: the same for the parts between places where one tensor carries all.
``network``: the output alone, by distillation (Hinton et al. 2015). Li et al. 2021 (arXiv 2106.06984) learn the weights
of one layer after the other; here all layers learn at the same time, the first two kinds with gradients cut in between.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ArtefactRefused, CalibrationRefused, UsageError, choice
from snnconvert.converter.graph import PreparedGraph, Site
from snnconvert.converter.graph.canonical import attribute
from snnconvert.converter.graph.operations import SYNAPSES
from snnconvert.converter.graph.sites import site_of
from snnconvert.converter.neurons import NEURONS, Correction
from snnconvert.converter.neurons.tpp import stochastic_count
from snnconvert.converter.neurons.two_phase import rounded_count
from snnconvert.converter.tensor_file import read_tensors, write_tensors
from snnconvert.converter.thresholds import Thresholds

from .side_by_side import activations

SCOPES = ("layer", "block", "network")
"""What learns together: each layer, each block, or the whole network."""

LEARNED = ("threshold", "bias", "weight")
"""What can be learned."""

_KEY = "snnconvert.reconstruction"
_FORMAT = 1
_SAVE_EVERY = 60.0


@dataclass(frozen=True)
class Settings:
    """How to reconstruct.

    Args:
        scope: what learns together, one of `SCOPES`.
        iterations: steps of the optimiser.
        learn: what changes, of `LEARNED`.
        weight_rate: the first learning rate of weights, per unit of their tensor's root mean square.
        threshold_rate: that of the logarithms of thresholds, and of biases in units of theta.
        seed: of random counts.
    """

    scope: str = "network"
    iterations: int = 500
    learn: tuple[str, ...] = LEARNED
    weight_rate: float = 1e-4
    threshold_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a reconstruction is: steps done and in all, the loss (a moving average), and the seconds left."""

    done: int
    total: int
    loss: float
    seconds_left: float


def reconstruct(
    graph: PreparedGraph,
    thresholds: Thresholds,
    batches: Callable[[int], Iterable[Any]],
    *,
    neuron: str,
    settings: Settings = Settings(),
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    **options: Any,
) -> Thresholds:
    """Return ``thresholds`` after learning, with corrections and weights for ``neuron``.

    Args:
        thresholds: for one window; where learning starts.
        batches: number of the epoch -> batches of unlabelled training images, the same ones each time it is asked.
        settings: how to learn.
        checkpoint: file that keeps the state once a minute; if it exists, learning goes on from there.
        report: called after each step.
        options: further arguments of `convert`.

    Raises:
        UsageError: settings that do not exist.
        CalibrationRefused: thresholds without a window or for other neurons, no image, or a loss that is not finite.
        ArtefactRefused: the checkpoint is damaged, or of another reconstruction.
    """
    _check(settings)
    if thresholds.steps is None:
        raise CalibrationRefused(
            f"{thresholds.rule} thresholds are for any T, corrections for one", "compute them for T"
        )
    thresholds.check(graph, thresholds.steps, neuron)
    student = _Student(graph, thresholds, neuron, settings, options)
    optimiser = torch.optim.Adam(student.groups(), betas=(0.9, 0.99))
    run = _Run(student, optimiser, settings, checkpoint)
    started, begun = time.perf_counter(), run.done
    for inputs in run.inputs(batches):
        run.step(inputs)
        left = (time.perf_counter() - started) / (run.done - begun) * (settings.iterations - run.done)
        report(Progress(run.done, settings.iterations, run.loss, left))
    about = {"name": "reconstruction", "images": run.images, "loss": run.loss, **asdict(settings)}
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    found = student.thresholds()
    corrections = [*thresholds.source.get("corrections", []), about | {"learn": list(settings.learn)}]
    return replace(found, source=thresholds.source | {"corrections": corrections})


def _check(settings: Settings) -> None:
    choice("scope", settings.scope, SCOPES)
    for name in settings.learn:
        choice("thing to learn", name, LEARNED)
    if settings.iterations < 1 or not settings.learn:
        raise UsageError(f"expected at least one iteration and one thing to learn, got {settings}")


class _Run:
    """The state of a reconstruction: the student, the optimiser, and where among the batches it is."""

    def __init__(
        self, student: "_Student", optimiser: torch.optim.Optimizer, settings: Settings, checkpoint: Path | None
    ) -> None:
        self.student, self.optimiser, self.settings, self.checkpoint = student, optimiser, settings, checkpoint
        self.rates = [group["lr"] for group in optimiser.param_groups]
        self.done, self.epoch, self.position, self.images, self.loss = 0, 0, 0, 0, math.nan
        self.saved = time.perf_counter()
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    def inputs(self, batches: Callable[[int], Iterable[Any]]) -> Iterator[tuple[Tensor, ...]]:
        """Yield the inputs of each step that is left."""
        while self.done < self.settings.iterations:
            seen = 0
            for number, batch in enumerate(batches(self.epoch)):
                inputs = (
                    (batch,) if isinstance(batch, Tensor) else tuple(batch)[: len(self.student.prepared.input_shapes)]
                )
                seen += len(inputs[0])
                if number < self.position:
                    continue
                self.student.prepared.check_inputs(inputs)
                self.position = number + 1
                yield inputs
                if self.done == self.settings.iterations:
                    break
            if not seen:
                raise CalibrationRefused("the calibration data hold no image", "give at least one batch")
            self.images = max(self.images, seen)
            if self.done < self.settings.iterations:
                self.epoch, self.position = self.epoch + 1, 0

    def step(self, inputs: tuple[Tensor, ...]) -> None:
        """Learn from one batch."""
        factor = (1 + math.cos(math.pi * self.done / self.settings.iterations)) / 2
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        loss = self.student.loss(inputs)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CalibrationRefused(
                f"the loss is {value} after {self.done} steps", "learn more slowly: smaller rates in the recipe"
            )
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.done += 1
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        if self.checkpoint is not None and time.perf_counter() - self.saved > _SAVE_EVERY:
            self.save(self.checkpoint)

    def save(self, path: Path) -> None:
        """Write the state."""
        tensors = {f"parameter.{i}": p for i, p in enumerate(self._parameters())}
        for i, p in enumerate(self._parameters()):
            tensors |= {f"{name}.{i}": value for name, value in self.optimiser.state[p].items()}
        tensors["generator"] = self.student.generator.get_state()
        write_tensors(path, tensors, _KEY, {"format": _FORMAT, **self._identity(), **self._place()})
        self.saved = time.perf_counter()

    def _resume(self, path: Path) -> None:
        tensors, document = read_tensors(path, _KEY, _FORMAT, "checkpoint")
        if any(document.get(name) != value for name, value in self._identity().items()):
            raise ArtefactRefused(
                f"{path} is the checkpoint of another reconstruction", "delete it, or name another file"
            )
        with torch.no_grad():
            for i, p in enumerate(self._parameters()):
                p.copy_(tensors[f"parameter.{i}"])
                self.optimiser.state[p] = {
                    name: tensors[f"{name}.{i}"].to(p) for name in ("step", "exp_avg", "exp_avg_sq")
                }
        self.student.generator.set_state(tensors["generator"])
        self.done, self.epoch, self.position = (int(document[name]) for name in ("done", "epoch", "position"))
        self.images, self.loss = int(document["images"]), float(document["loss"])

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def _identity(self) -> dict[str, Any]:
        settings = asdict(self.settings) | {"learn": list(self.settings.learn)}
        shapes = [list(p.shape) for p in self._parameters()]
        return {"settings": settings, "neuron": self.student.neuron, "steps": self.student.steps, "shapes": shapes}

    def _place(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("done", "epoch", "position", "images", "loss")}


class _Student(fx.Interpreter):
    """The spiking network with gradients."""

    def __init__(
        self, graph: PreparedGraph, thresholds: Thresholds, neuron: str, settings: Settings, options: dict[str, Any]
    ) -> None:
        super().__init__(graph.module)
        assert thresholds.steps is not None
        self.extra_traceback = False
        self.prepared, self.before, self.neuron, self.steps = graph, thresholds.to(graph), neuron, thresholds.steps
        self.settings, self.options = settings, options
        self.streaming = NEURONS[neuron].streaming
        self.generator = torch.Generator(graph.weight.device).manual_seed(settings.seed)
        nodes = {str(n.target): site for n in graph.module.graph.nodes if (site := site_of(n)) is not None}
        self.sites: dict[str, Site] = nodes
        self.log_threshold = {c: self.before.values[s.name].log().clone() for c, s in nodes.items()}
        self.shift = {c: self._first_shift(s) for c, s in nodes.items()}
        self.weights = _synapses(graph.module) | self.before.weights
        for name, group in self._learned().items():
            for tensor in group.values():
                tensor.requires_grad_(name in settings.learn)
        self.ends = ends(graph.module.graph, settings.scope)
        self.wanted: dict[str, tuple[Tensor, Tensor]] = {}
        self.counts: dict[str, Tensor] = {}
        self.losses: list[Tensor] = []

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
        self.wanted = activations(self.prepared, inputs)
        with torch.no_grad():
            teacher = self.prepared.module(*inputs)
        if self.streaming:
            model = convert(self.prepared, self.thresholds(), neuron=self.neuron, steps=self.steps, **self.options)
            self.counts = model.activity(*inputs)
        self.losses = []
        student = self.run(*inputs)
        pairs = zip(tree_leaves(student), tree_leaves(teacher), strict=True)
        found = torch.stack([divergence(a, b) for a, b in pairs]).sum()
        return found + torch.stack(self.losses).mean() if self.losses else found

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return a constant, as far as it is learned."""
        return self.weights[str(target)] if str(target) in self.weights else super().get_attr(target, args, kwargs)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return theta N / T of the neurons of a site, with straight-through gradients."""
        site = self.sites[target]
        theta, bias = self._threshold(target), self.shift[target] * self._first_threshold(target)
        rank = args[0].ndim - site.axis - 1
        theta, bias = (x.reshape(-1, *[1] * rank) for x in (theta, bias))
        v = (args[0] + bias) * (self.steps / theta)
        correction = self.before.corrections.get(site.name, Correction())
        if correction.potential is not None:
            start = correction.potential
            v = v + (start.reshape(-1, *[1] * rank) if start.ndim == 1 else start)
        line = v.clamp(-self.steps if site.signed else 0, self.steps)
        with torch.no_grad():
            step = self._count(site, v) - line
        worth = theta / self.steps
        if correction.height is not None:
            ratio = correction.height / self.before.values[site.name]
            worth = worth * ratio.reshape(-1, *[1] * rank)
        out = (line + step) * worth
        if target in self.ends:
            wanted = self.wanted[target][1]
            self.losses.append((out - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12))
            out = out.detach()
        return out

    def _count(self, site: Site, v: Tensor) -> Tensor:
        """Return the spike counts for the mean input ``v``, in thresholds a window."""
        if self.streaming:
            return self.counts[site.name]
        if not NEURONS[self.neuron].stochastic:
            return rounded_count(v, self.steps, site.signed)
        uniform = torch.rand(v.shape, generator=self.generator, dtype=v.dtype, device=v.device)
        return stochastic_count(v.abs() if site.signed else v, uniform, self.steps) * (v.sign() if site.signed else 1)

    def _threshold(self, child: str) -> Tensor:
        cap = self.sites[child].cap
        return self.log_threshold[child].exp().clamp(max=math.inf if cap is None else cap)

    def _first_threshold(self, child: str) -> Tensor:
        return self.before.values[self.sites[child].name]

    def _first_shift(self, site: Site) -> Tensor:
        """Return the mean bias that the site has already, in units of theta, [channels]."""
        theta = self.before.values[site.name]
        bias = self.before.corrections.get(site.name, Correction()).bias
        if bias is None:
            return torch.zeros(site.channels).to(theta)
        return ((bias.mean(0) if bias.ndim == 2 else bias) / theta).clone()

    def thresholds(self) -> Thresholds:
        """Return what was learned so far."""
        with torch.no_grad():
            values, corrections = {}, {}
            for child, site in self.sites.items():
                before = self.before.corrections.get(site.name, Correction())
                theta = values[site.name] = self._threshold(child).clone()
                bias = self.shift[child] * self._first_threshold(child)
                if before.bias is not None and before.bias.ndim == 2:
                    bias = before.bias - before.bias.mean(0) + bias
                height = None if before.height is None else before.height / self._first_threshold(child) * theta
                corrections[site.name] = before._replace(bias=bias.clone(), height=height)
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


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return how far an output is from the teacher's, a number without units.

    KL(softmax(teacher) || softmax(student)) for scores [batch, classes]; for all else the mean square of the difference
    in units of that of the teacher.
    """
    if student.ndim == 2 and student.shape[1] > 1:
        logs = F.log_softmax(student, 1), F.log_softmax(teacher, 1)
        return F.kl_div(*logs, log_target=True, reduction="batchmean")
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
