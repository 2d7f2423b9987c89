"""The `layers` executor: each operation runs for all its steps at once, with time folded into the batch.

A wire is either steady in time, [batch, ...], or a train, [steps batch, ...] with time as the slow dimension. What
comes before the first site is steady and computed once. A streaming network may be cut into chunks of steps, because
membrane potentials carry over; a network with two-phase or shuffled sites needs its whole window in one chunk.
"""

from typing import Any

import torch
from torch import Tensor, fx

from ..graph.prepare import is_window
from ..graph.signals import constants
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
        self.weights = constants(network.module.graph)
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
            return apply(n, self._over_time(n.all_input_nodes[0]).mean(0))
        if n.op == "call_module":
            self.trains.add(n)
            return self._site(n, self.network.neuron(n))
        if not any(m in self.trains for m in n.all_input_nodes):
            return super().run_node(n)
        self.trains.add(n)
        if is_window(n):
            return self._running(n)
        args, kwargs = fx.node.map_arg((n.args, n.kwargs), self._operand)
        return n.target(*args, **kwargs)  # type: ignore[operator]

    def _over_time(self, node: fx.Node) -> Tensor:
        value: Tensor = self.env[node]
        if node in self.trains:
            return value.reshape(self.steps, -1, *value.shape[1:])
        return value.expand(self.steps, *value.shape)

    def _operand(self, node: fx.Node) -> Any:
        if node in self.trains or node in self.weights:
            return self.env[node]
        return self._over_time(node).flatten(0, 1)

    def _site(self, node: fx.Node, neuron: Neuron) -> Tensor:
        source = node.all_input_nodes[0]
        currents = self._over_time(source)
        train = torch.empty_like(currents, memory_format=torch.contiguous_format)
        potential = self.carried[node] if node in self.carried else neuron.start(currents[0])
        if neuron.streaming:
            for t in range(self.steps):
                potential = neuron.integrate(potential, currents[t])
                train[t], potential = neuron.fire(potential, self.first + t, self.noise)
            self.carried[node] = potential
        else:
            if source in self.schedule.windowed:
                potential = neuron.integrate(potential, currents[0] * self.steps)
            else:
                for current in currents:
                    potential = neuron.integrate(potential, current)
            for t in range(self.steps):
                train[t], potential = neuron.fire(potential, t, self.noise)
        if self.activity is not None:
            self.activity[str(node.target)] = self.activity.get(str(node.target), 0) + train.sum(0)
        train = shuffle(train, self.network.order, neuron.site, self.noise)
        return train.mul_(neuron.threshold).flatten(0, 1)

    def _running(self, node: fx.Node) -> Tensor:
        """Carry a window operation through the steps of a streaming network."""
        inputs = self._over_time(node.all_input_nodes[0])
        total, before = self.carried.get(node, (torch.zeros_like(inputs[0]), None))
        changes = []
        for t, x in enumerate(inputs):
            total = total + x
            now = accumulated(node, total, self.first + t + 1)
            changes.append(now if before is None else now - before)
            before = now
        self.carried[node] = (total, before)
        return torch.cat(changes)
