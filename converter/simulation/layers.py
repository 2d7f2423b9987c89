"""The `layers` executor: each operation runs for all its steps at once, with time folded into the batch.

A wire is either steady in time, [batch, ...], or a train, [steps batch, ...] with time as the slow part of the batch
dimension, wherever that is. What comes before the first site is steady and computed once. A streaming network may be
cut into chunks of steps, because membrane potentials carry over; a network with two-phase or shuffled sites needs its
whole window in one chunk.
"""

from typing import Any

import torch
from torch import Tensor, fx

from ..neurons import Neuron, Noise, shuffle
from .network import Network
from .window import accumulated, apply


class Layers(fx.Interpreter):
    """Runs a canonical graph layer by layer, one chunk of steps after the other.

    Args:
        network: neurons in a canonical graph.
        noise: the random numbers of this pass.
        activity: the spike counts of each site are added to it, by the name of its child, if given.
    """

    def __init__(self, network: Network, noise: Noise, activity: dict[str, Tensor] | None = None) -> None:
        super().__init__(network.module)
        self.extra_traceback = False  # it would rewrite the messages of our errors
        self.network, self.schedule = network, network.schedule
        self.noise, self.activity = noise, activity
        self.trains: set[fx.Node] = set()
        self.steady: dict[fx.Node, Any] = {}  # what stays equal at every step, kept from chunk to chunk
        self.carried: dict[fx.Node, Any] = {}  # membrane potentials and running totals at the end of the last chunk
        self.first, self.steps = 0, 0

    def chunk(self, inputs: tuple[Tensor, ...], first: int, steps: int) -> Any:
        """Return what the output carries, [steps, batch, ...], in the ``steps`` steps from ``first`` on."""
        self.first, self.steps = first, steps
        return self.run(*inputs)

    def run_node(self, n: fx.Node) -> Any:
        """Compute one wire."""
        if n.op == "output":
            return fx.node.map_arg(n.args[0], self._over_time)
        if n in self.schedule.constant:
            if n not in self.steady:
                self.steady[n] = super().run_node(n)
            return self.steady[n]
        if n in self.schedule.windowed:
            return apply(n, self._mean)
        self.trains.add(n)
        if n.op == "call_module":
            return self._site(n, self.network.neuron(n))
        if n in self.schedule.nonlinear:
            return self._running(n)
        return apply(n, self._train)

    def _over_time(self, node: fx.Node) -> Tensor:
        """Return what ``node`` carries, [steps, ...]."""
        value: Tensor = self.env[node]
        if node in self.trains:
            batch = node.meta["batch"]
            train: Tensor = value.unflatten(batch, (self.steps, -1)).movedim(batch, 0)
            return train
        return value.expand(self.steps, *value.shape)

    def _mean(self, node: fx.Node) -> Any:
        return self._over_time(node).mean(0) if node in self.trains else self.env[node]

    def _train(self, node: fx.Node) -> Any:
        """Return what ``node`` carries with time folded into the batch."""
        if node in self.trains or node in self.schedule.weights:
            return self.env[node]
        return _folded(self._over_time(node), node)

    def _site(self, node: fx.Node, neuron: Neuron) -> Tensor:
        source = node.all_input_nodes[0]
        currents = self._over_time(source)
        potential = self.carried[node] if node in self.carried else neuron.start(currents[0])
        if neuron.streaming:
            plain = self.activity is None and self.network.order == "none"
            train, self.carried[node] = neuron.train(
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
        if self.activity is not None:
            self.activity[str(node.target)] = self.activity.get(str(node.target), 0) + train.sum(0)
        train = shuffle(train, self.network.order, neuron.site, self.noise)
        return train.mul_(neuron.height).flatten(0, 1)

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


def _folded(train: Tensor, node: fx.Node) -> Tensor:
    """Return ``train`` [steps, ...] of ``node`` with time folded into the batch."""
    batch = node.meta["batch"]
    return train.movedim(0, batch).flatten(batch, batch + 1)
