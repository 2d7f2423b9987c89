"""The `layers` executor: each operation runs for all its steps at once, with time folded into the batch.

A wire is either steady in time, [batch, ...], or a train, [steps batch, ...] with time as the slow part of the batch
dimension, wherever that is. What comes before the first site is steady and computed once.

Images go through in parts, so few at a time that all their steps fit in a budget of memory: membrane potentials then
stay in the caches. Where one image has too many steps, a streaming network is cut into chunks of steps too, because
membrane potentials carry over; a network with two-phase or shuffled sites needs its whole window in one chunk.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from ..graph.canonical import attribute
from ..neurons import Neuron, Noise, shuffle
from .network import Network
from .window import accumulated, apply


class Layers:
    """Runs a canonical graph layer by layer, one chunk of steps after the other.

    Args:
        network: neurons in a canonical graph.
        noise: the random numbers of this pass.
        activity: the spike counts of each site are added to it, by the name of its child, if given.
    """

    def __init__(self, network: Network, noise: Noise, activity: dict[str, Tensor] | None = None) -> None:
        self.network, self.schedule = network, network.schedule
        self.noise, self.activity = noise, activity
        self.env: dict[fx.Node, Any] = {}
        self.trains: set[fx.Node] = set()
        self.steady: dict[fx.Node, Any] = {}  # what stays equal at every step, kept from chunk to chunk
        self.carried: dict[fx.Node, Any] = {}  # membrane potentials and running totals at the end of the last chunk
        self.first, self.steps = 0, 0

    def chunk(self, inputs: tuple[Tensor, ...], first: int, steps: int) -> Any:
        """Return what the output carries, [steps, batch, ...], in the ``steps`` steps from ``first`` on."""
        self.first, self.steps = first, steps
        *nodes, output = self.schedule.graph.nodes
        given = iter(inputs)
        for node in nodes:
            self.env[node] = next(given) if node.op == "placeholder" else self._run(node)
            for read in self.schedule.read_last_by.get(node, ()):
                del self.env[read]
        result = fx.node.map_arg(output.args[0], self._over_time)
        self.env.clear()
        return result

    def _run(self, node: fx.Node) -> Any:
        """Compute one wire."""
        if node in self.schedule.constant:
            if node not in self.steady:
                self.steady[node] = self._constant(node)
            return self.steady[node]
        if node in self.schedule.windowed:
            return apply(node, self._mean)
        self.trains.add(node)
        if node.op == "call_module":
            return self._site(node, self.network.neuron(node))
        if node in self.schedule.nonlinear:
            return self._running(node)
        in_bytes = self.network.byte_synapses
        if node in in_bytes.convolutions and (counts := self.env[node.args[0]]).dtype == torch.uint8:  # type: ignore[index]
            return in_bytes.currents(node, counts, 1)
        if node in in_bytes.additions:
            site, other = in_bytes.additions[node]
            if other in self.trains and (counts := self.env[site]).dtype == torch.uint8:
                return in_bytes.values(site, counts, 1, self.env[other])
        return apply(node, self._train)

    def _constant(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return attribute(self.network.module, str(node.target))
        return apply(node, self.env.__getitem__)

    def _over_time(self, node: fx.Node) -> Tensor:
        """Return what ``node`` carries, [steps, ...]."""
        value = self._value(node)
        if node in self.trains:
            batch = node.meta["batch"]
            train: Tensor = value.unflatten(batch, (self.steps, -1)).movedim(batch, 0)
            return train
        return value.expand(self.steps, *value.shape)

    def _value(self, node: fx.Node) -> Tensor:
        """Return what ``node`` carries, in units of the activation."""
        value: Tensor = self.env[node]
        if node in self.network.byte_synapses.sites and value.dtype == torch.uint8:
            return self.network.byte_synapses.values(node, value, 1)
        return value

    def _mean(self, node: fx.Node) -> Any:
        return self._over_time(node).mean(0) if node in self.trains else self.env[node]

    def _train(self, node: fx.Node) -> Any:
        """Return what ``node`` carries with time folded into the batch."""
        if node in self.trains or node in self.schedule.weights:
            return self._value(node)
        return _folded(self._over_time(node), node)

    def _site(self, node: fx.Node, neuron: Neuron) -> Tensor:
        source = node.all_input_nodes[0]
        currents = self._over_time(source)
        potential = self.carried[node] if node in self.carried else neuron.start(currents[0])
        if neuron.streaming and self.network.order == "none" and node in self.network.byte_synapses.sites:
            counts = neuron.train_bytes(potential, currents, self.first)
            if counts is not None:
                self.carried[node] = potential
                self._add_activity(node, counts)
                return counts.flatten(0, 1)
        if neuron.streaming:
            plain = self.activity is None and self.network.order == "none"
            train, self.carried[node] = neuron.spike_train(
                potential, currents, self.first, self.noise, neuron.height if plain else None
            )
            if plain:
                return train.flatten(0, 1)
        else:
            train = torch.empty_like(currents, memory_format=torch.contiguous_format)
            if source in self.schedule.windowed:
                potential = neuron.integrate(potential, currents[0] * self.steps, 0)
            else:
                for t in range(self.steps):
                    potential = neuron.integrate(potential, currents[t], t)
            for t in range(self.steps):
                train[t], potential = neuron.fire(potential, t, self.noise)
        self._add_activity(node, train)
        train = shuffle(train, self.network.order, neuron.site, self.noise)
        return train.mul_(neuron.height).flatten(0, 1)

    def _add_activity(self, node: fx.Node, train: Tensor) -> None:
        if self.activity is not None:
            dtype = torch.get_default_dtype() if train.dtype == torch.uint8 else train.dtype
            self.activity[str(node.target)] = self.activity.get(str(node.target), 0) + train.sum(0, dtype=dtype)

    def _running(self, node: fx.Node) -> Tensor:
        """Carry a nonlinear operation through the steps of a streaming network."""
        signals = [n for n in node.all_input_nodes if n not in self.schedule.weights]
        trains = {n: self._over_time(n) for n in signals}
        totals, before = self.carried.get(node, ({n: torch.zeros_like(x[0]) for n, x in trains.items()}, None))
        changes = []
        for t in range(self.steps):
            totals = {n: totals[n] + trains[n][t] for n in signals}
            now = accumulated(node, self.first + t + 1, (self.env | totals).__getitem__, self.schedule.weights)
            changes.append(now if before is None else now - before)
            before = now
        self.carried[node] = (totals, before)
        return _folded(torch.stack(changes), node)


def mean(
    network: Network, inputs: tuple[Tensor, ...], noise: Noise, memory: int, activity: dict[str, Tensor] | None = None
) -> Any:
    """Return the mean of the output over its window, in its structure; ``activity`` is filled as by `Layers`.

    Args:
        memory: the bytes of trains to work on at once.
    """
    found, counts = [], []
    for layers, part in _parts(network, inputs, noise, memory, activity is not None):
        sums = [over(lambda train: train.sum(0), trains) for trains in _chunks(layers, part, memory)]
        found.append(joined(sums, lambda chunks: torch.stack(chunks).sum(0) / network.steps))
        counts.append(layers.activity)
    if activity is not None:
        activity.update(joined(counts, torch.cat))
    return joined(found, torch.cat)


def trains(network: Network, inputs: tuple[Tensor, ...], noise: Noise, memory: int) -> Any:
    """Return what the output carries at each step, [steps, batch, ...], in its structure."""
    parts = _parts(network, inputs, noise, memory, False)
    found = [joined(list(_chunks(layers, part, memory)), torch.cat) for layers, part in parts]
    return joined(found, lambda pieces: torch.cat(pieces, 1))


def over(function: Callable[[Any], Any], structure: Any) -> Any:
    """Return ``structure`` with ``function`` of each tensor; None, which a model may return beside tensors, stays."""
    return tree_map(lambda part: None if part is None else function(part), structure)


def joined(structures: list[Any], function: Callable[[Any], Any]) -> Any:
    """Return one structure with ``function`` of the tensors in the same place of all."""
    return tree_map(lambda *parts: None if parts[0] is None else function(parts), *structures)


def _parts(
    network: Network, inputs: tuple[Tensor, ...], noise: Noise, memory: int, active: bool
) -> Iterator[tuple[Layers, tuple[Tensor, ...]]]:
    images = max(1, memory // (_bytes_per_step(network, inputs[0]) * network.steps))
    for start in range(0, len(inputs[0]), images):
        part = slice(start, start + images)
        layers = Layers(network, Noise(noise.seed, noise.index[part]), {} if active else None)
        yield layers, tuple(x[part] for x in inputs)


def _chunks(layers: Layers, inputs: tuple[Tensor, ...], memory: int) -> Iterator[Any]:
    steps = size = layers.network.steps
    if not layers.schedule.delayed:
        size = max(1, memory // (_bytes_per_step(layers.network, inputs[0]) * len(inputs[0])))
    for first in range(0, steps, size):
        yield layers.chunk(inputs, first, min(size, steps - first))


def _bytes_per_step(network: Network, x: Tensor) -> int:
    """Return the bytes that one image's values take at one step."""
    return network.schedule.values_per_image * x.element_size()


def _folded(train: Tensor, node: fx.Node) -> Tensor:
    """Return ``train`` [steps, ...] of ``node`` with time folded into the batch."""
    batch = node.meta["batch"]
    return train.movedim(0, batch).flatten(batch, batch + 1)
