"""The fan-out of every neuron: how many accumulates one of its spikes causes, by the shapes of the graph alone.

A *layer* here is a linear operation that sums: convolution, linear, product with constants, average pool, sum, smooth
interpolation. Its *connections* are the pairs of an input and an output element between which it has a weight; what
padding, stride or groups leave out is none, and a weight that happens to be zero is one. With d_l(e) the connections
of element e of layer l, and a_il(e) the copies of a spike of neuron i that arrive at e,

    F_il = sum_e a_il(e) d_l(e)

is the fan-out of neuron i in layer l. The sum over outputs of a layer with ones in the place of its weights has d_l as
its gradient, and d_l, pulled back through what lies between, F_l. What only moves numbers (reshape, slice, concat,
padding, nearest interpolation), scales them, or adds two trains costs nothing: every spike goes on by itself.

A layer gives a *current*. Currents add up in the membrane, free of charge; a spike that reaches a membrane, a current,
a window operation or the output without a layer on its way is one accumulate ("identity"). A current that enters
another layer before it reaches neurons, as behind a pool, is *graded* and sparse no more: all of its connections are
operations at every step. So are those of the image and of any analog value, which are *steady*: equal at every step.
No sparsity is claimed but that of spikes.

That is the graph as it is built. A pool that spikes enter and that sends each to one output at most (windows that do
not overlap, global) can also be folded into the weights behind it, as chips do: it then costs nothing, and a spike has
the fan-out of the output that it is part of.
"""

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.converter.graph import functions
from snnconvert.converter.graph.canonical import attribute
from snnconvert.converter.graph.operations import OPERATIONS, SYNAPSES, Kind
from snnconvert.converter.graph.signals import kind_of, nodes_in
from snnconvert.converter.graph.sites import site_of
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.simulation.window import apply

from .connections import ATTENTION, WEIGHTED, degrees, macs_from_shapes, relayed, sums

Maps = dict[str, Tensor]
Pair = tuple[float, float]


@dataclass(frozen=True)
class Connections:
    """What the shapes of a graph say of a layer, or of what spikes reach without one.

    Args:
        name: the path of the module, or of the node, unique in the graph.
        operation: its name in the operation table, or "identity".
        weighted: analog values cost multiply-accumulates here, not additions.
        inputs: input elements; ``outputs`` and ``weights`` (biases with them) are counted likewise.
        connections: pairs of an input and an output element; padding is none.
        from_shapes: the same as most tools count it, with padding: output elements times the size of a kernel.
        analog: operations in a window on values that are no spikes, computed anew at every step.
        analog_once: the same, where what is steady is computed once, and what only a window's sum needs, on the sum.
    """

    name: str
    operation: str
    weighted: bool
    inputs: int
    outputs: int
    weights: int
    connections: int
    from_shapes: int
    analog: int
    analog_once: int


@dataclass(frozen=True)
class Layer(Connections):
    """A layer and its neurons.

    Args:
        fan_out: accumulates that a spike of each neuron causes, site name to [rows, channels, ...]; without the sites
            none of whose spikes arrives.
        arrivals: input elements at which a spike of each neuron arrives, likewise.
    """

    fan_out: Maps
    arrivals: Maps


@dataclass(frozen=True)
class Structure:
    """What a network costs, but for its spikes: its layers, and for each site name neurons and updates of each."""

    layers: tuple[Layer, ...]
    sites: dict[str, tuple[int, int]]


def structure(model: SpikingModel, fold_pools: bool = False) -> Structure:
    """Return the layers of ``model`` with the fan-out of every neuron; see the module's docstring for the equation.

    Args:
        fold_pools: pools of spikes are part of the weights behind them.
    """
    walk = _Walk(model, fold_pools)
    return Structure(tuple(walk.layers), walk.sites)


@dataclass(frozen=True)
class _Wire:
    """What a node carries for one image: a function of the spikes that arrive, and where graded and steady values lie.

    No spikes lie where values are graded.
    """

    spikes: Tensor
    graded: Tensor
    steady: Tensor


class _Walk:
    """Goes through a canonical graph once, with ones in the place of weights."""

    def __init__(self, model: SpikingModel, fold_pools: bool) -> None:
        self.model, self.schedule, self.module = model, model.schedule, model.network.module
        self.fold_pools = fold_pools
        self.constants: dict[fx.Node, Any] = {}
        self.wires: dict[fx.Node, _Wire] = {}
        self.leaves: dict[str, Tensor] = {}
        self.layers: list[Layer] = []
        self.sites: dict[str, tuple[int, int]] = {}
        self.names: Counter[str] = Counter()
        self.before_neurons: set[fx.Node] = set()
        for node in reversed(self.schedule.graph.nodes):
            if any(site_of(reader) or reader in self.before_neurons for reader in node.users):
                self.before_neurons.add(node)
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            self.one = torch.ones((), dtype=torch.float64)
            for node in self.schedule.graph.nodes:
                self._visit(node)
                for read in self.schedule.read_last_by.get(node, ()):
                    self.wires.pop(read, None)

    def _visit(self, node: fx.Node) -> None:
        if node in self.schedule.weights:
            fetch = self.constants.__getitem__
            get = node.op == "get_attr"
            self.constants[node] = attribute(self.module, str(node.target)).cpu() if get else apply(node, fetch)
        elif node.op == "placeholder":
            self.wires[node] = self._analog(node)
        elif kind_of(node, self.schedule.weights) is not Kind.LINEAR:
            self._arrive(node)
        elif sums(node):
            self._sum(node)
        else:
            self._move(node)

    def _analog(self, node: fx.Node) -> _Wire:
        """Return values that are no spikes: all steady, or all graded."""
        whole = self.one.expand(node.meta["shape"])
        steady = node in self.schedule.constant or node in self.schedule.windowed
        return _Wire(whole * 0, whole * (not steady), whole * steady)

    def _arrive(self, node: fx.Node) -> None:
        """Let spikes end at a site, the output, or an operation that is not linear."""
        for source in node.all_input_nodes:
            if source in self.wires:
                self._record(node, self.wires[source].spikes)
        site = site_of(node)
        if site is None:
            if node.op != "output":
                self._product(node)
                self.wires[node] = self._analog(node)
            return
        leaf = self.leaves[site.name] = (self.one.expand(node.meta["shape"]) * 0).requires_grad_()
        self.wires[node] = _Wire(leaf, leaf.detach(), leaf.detach())
        once = node.all_input_nodes[0] in self.schedule.windowed
        integrations = 0 if self.model.streaming else 1 if once else self.model.steps
        self.sites[site.name] = leaf.numel(), self.model.steps + integrations

    def _sum(self, node: fx.Node) -> None:
        (source,) = (n for n in node.all_input_nodes if n in self.wires)
        constants = {n: self.constants[n] for n in node.all_input_nodes if n in self.constants}
        wire, degree = self.wires[source], degrees(node, source, constants)
        relays = node.target not in WEIGHTED and float(degree.max()) <= 1
        if self.fold_pools and relays and not bool((wire.graded + wire.steady).any()):
            self._record(node, wire.spikes * 0, degree)
            spikes = relayed(node, source, wire.spikes)
            self.wires[node] = _Wire(spikes, spikes.detach() * 0, spikes.detach() * 0)
            return
        analog = float((degree * wire.graded).sum()), float((degree * wire.steady * (1 - wire.graded)).sum())
        self._record(node, wire.spikes, degree, analog)
        self.wires[node] = self._analog(node)

    def _move(self, node: fx.Node) -> None:
        """Pass on what only moves, is scaled or added; spikes that are added to a current end there."""
        inputs = {n: self.wires[n] for n in node.all_input_nodes if n in self.wires}
        spikes = _moved(node, {n: wire.spikes for n, wire in inputs.items()}, self.constants)
        nothing = _moved(node, {n: wire.steady * 0 for n, wire in inputs.items()}, self.constants)
        graded = _moved(node, {n: wire.graded for n, wire in inputs.items()}, self.constants).gt(nothing).double()
        steady = _moved(node, {n: wire.steady for n, wire in inputs.items()}, self.constants).gt(nothing).double()
        if bool(graded.any()):
            self._record(node, spikes * graded)
        self.wires[node] = _Wire(spikes * (1 - graded), graded, steady)

    def _record(self, node: fx.Node, spikes: Tensor, degree: Tensor | None = None, analog: Pair = (0, 0)) -> None:
        """Keep the layer ``node``, or, without ``degree``, the ``spikes`` that arrive at ``node`` as they are.

        Args:
            degree: the connections of each input element.
            analog: connections of the graded and of the steady input elements.
        """
        caused = self._origins(spikes if degree is None else spikes * degree)
        if degree is None and not caused:
            return
        arrived = caused if degree is None else self._origins(spikes * (degree > 0))
        total = sum(float(m.sum()) for m in caused.values()) if degree is None else float(degree.sum())
        sizes = {"connections": round(total), "inputs": spikes.numel(), "outputs": spikes.numel(), "weights": 0}
        if degree is not None:
            constants = [self.constants[n].numel() for n in node.all_input_nodes if n in self.constants]
            sizes |= {"outputs": prod(node.meta["shape"]), "weights": sum(constants)}
        self._keep(node, degree is not None, analog, caused, arrived, **sizes)

    def _keep(self, node: fx.Node, sums: bool, analog: Pair, caused: Maps, arrived: Maps, **sizes: int) -> None:
        site, weighted = site_of(node), sums and node.target in WEIGHTED
        path = site.name if site is not None else node.meta.get("path") or str(node.name)
        self.names[path] += 1
        name = path if self.names[path] == 1 else f"{path}#{self.names[path]}"
        operation = OPERATIONS[node.target].name if sums else "identity"  # type: ignore[index]
        sizes["from_shapes"] = (weighted and macs_from_shapes(node)) or sizes["connections"]
        sizes["analog"], sizes["analog_once"] = self._repeated(node, *analog)
        self.layers.append(Layer(name, operation, weighted, **sizes, fan_out=caused, arrivals=arrived))

    def _product(self, node: fx.Node) -> None:
        """Keep a product of signals, such as those of attention, which the host computes."""
        if node.target not in WEIGHTED:
            return
        shapes = [n.meta["shape"] for n in nodes_in((node.args, node.kwargs))]
        if node.target is ATTENTION:
            count = prod(shapes[0][:-1]) * shapes[1][-2] * (shapes[0][-1] + shapes[2][-1])
        else:
            biases = node.args[2:] if node.target in SYNAPSES.values() else ()
            ones = {n: self.one.expand(n.meta["shape"]) * (n not in biases) for n in node.all_input_nodes}
            count = int(apply(node, ones.__getitem__).sum())
        sizes = {"inputs": sum(map(prod, shapes[:3])), "outputs": prod(node.meta["shape"]), "weights": 0}
        steady = node in self.schedule.constant
        self._keep(node, True, (count * (not steady), count * steady), {}, {}, connections=count, **sizes)

    def _repeated(self, node: fx.Node, graded: float, steady: float) -> tuple[int, int]:
        """Return the operations in a window, where what stays equal is computed at every step, and where it is not."""
        steps = self.model.steps
        if node in self.schedule.windowed:
            return round(graded + steady), round(graded + steady)
        every = self.model.streaming and node in self.before_neurons
        return round(graded + steady) * steps, round(graded * (steps if every else 1) + steady)

    def _origins(self, spikes: Tensor) -> Maps:
        """Return how often a spike of each neuron is in the sum of ``spikes``, for the sites with one that is."""
        total = spikes.sum()
        if not total.requires_grad:
            return {}
        found = torch.autograd.grad(total, list(self.leaves.values()), retain_graph=True, allow_unused=True)
        maps = zip(self.leaves, found, strict=True)
        return {name: times.round() for name, times in maps if times is not None and bool(times.any())}


_POINTWISE = frozenset({torch.add, torch.sub, torch.mul, torch.div, torch.neg, functions.per_image})


def _moved(node: fx.Node, signals: dict[fx.Node, Tensor], constants: dict[fx.Node, Any]) -> Tensor:
    """Return where ``node``, which sums nothing, puts the values of ``signals``; signs and factors count as one."""
    if node.target not in _POINTWISE:
        found: Tensor = apply(node, lambda n: signals[n] if n in signals else constants[n])
        return found
    given = [] if node.target is functions.per_image else signals.values()  # which repeats a constant
    like = next(iter(signals.values()))
    return sum(given, like.new_zeros(node.meta["shape"]))
