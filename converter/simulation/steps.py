"""The `steps` executor: one time step through the whole network after the other, as a chip does it; the reference.

Windows run one after the other. In the window of level k, at each of T steps, every node of that level speaks, and
every node that answers in a later window listens to what it hears. Trains that a later window reads wait in a delay
line.
"""

from typing import Any

import torch
from torch import Tensor, fx

from ..neurons import Noise, shuffle
from .network import Network
from .window import accumulated, apply


class Steps:
    """Runs a canonical graph step by step.

    Args:
        network: neurons in a canonical graph.
        noise: the random numbers of this pass.
        activity: the spike counts of each site are added to it, by the name of its child, if given.
    """

    def __init__(self, network: Network, noise: Noise, activity: dict[str, Tensor] | None = None) -> None:
        self.network, self.schedule, self.steps = network, network.schedule, network.steps
        self.noise, self.activity = noise, activity
        self.steady: dict[fx.Node, Any] = {}  # constants, and window operations once their window has closed
        self.now: dict[fx.Node, Any] = {}  # what every node of the running level says at this step
        self.trains: dict[fx.Node, list[Tensor]] = {}  # delay lines, one entry a step
        self.spikes: dict[fx.Node, list[Tensor]] = {}  # spikes that wait for their new order
        self.potential: dict[fx.Node, Tensor] = {}
        self.total: dict[tuple[fx.Node, fx.Node], Tensor] = {}  # what a node has heard of each of its inputs
        self.before: dict[fx.Node, Tensor] = {}

    def run(self, inputs: tuple[Tensor, ...]) -> Any:
        """Return what the output carries in its window, [steps, batch, ...], in the structure of the output."""
        *nodes, output = self.schedule.graph.nodes
        level = self.schedule.level
        self._compute_constants(nodes, inputs)
        moving = [n for n in nodes if n not in self.schedule.constant and n not in self.schedule.windowed]
        answering_later = [
            n for n in nodes if n in self.schedule.windowed or (n.op == "call_module" and self.schedule.delayed)
        ]
        for window in range(self.schedule.windows):
            speaking = [n for n in moving if level[n] == window]
            listening = [n for n in answering_later if level[n] == window + 1]
            waited_for = [n for n in speaking if any(r is output or level[r] > window for r in n.users)]
            for t in range(self.steps):
                for node in speaking:
                    self.now[node] = self._speak(node, t)
                for node in listening:
                    self._listen(node, t)
                for node in waited_for:
                    self.trains.setdefault(node, []).append(self.now[node])
                self.now.clear()
            for node in listening:
                self._close(node)
        return fx.node.map_arg(output.args[0], self._train)

    def _compute_constants(self, nodes: list[fx.Node], inputs: tuple[Tensor, ...]) -> None:
        interpreter = fx.Interpreter(self.network.module, garbage_collect_values=False)
        given = iter(inputs)
        for node in nodes:
            if node.op == "placeholder":
                interpreter.env[node] = next(given)
            elif node in self.schedule.constant:
                interpreter.env[node] = interpreter.run_node(node)
        self.steady = dict(interpreter.env)

    def _read(self, node: fx.Node, t: int) -> Any:
        if node in self.steady:
            return self.steady[node]
        return self.now[node] if node in self.now else self.trains[node][t]

    def _train(self, node: fx.Node) -> Tensor:
        return torch.stack([self._read(node, t) for t in range(self.steps)])

    def _speak(self, node: fx.Node, t: int) -> Any:
        if node.op == "call_module":
            return self._fire(node, t)
        if node in self.schedule.nonlinear:
            return self._change(node, t)
        return apply(node, lambda n: self._read(n, t))

    def _fire(self, node: fx.Node, t: int) -> Tensor:
        neuron = self.network.neuron(node)
        if self.network.order != "none":
            return self.spikes[node][t] * neuron.height
        if neuron.streaming:
            self._integrate(node, self._read(node.all_input_nodes[0], t), t)
        return self._spikes(node, t) * neuron.height

    def _spikes(self, node: fx.Node, t: int) -> Tensor:
        neuron, site = self.network.neuron(node), str(node.target)
        spikes, self.potential[node] = neuron.fire(self.potential[node], t, self.noise)
        if self.activity is not None:
            self.activity[site] = self.activity[site] + spikes if site in self.activity else spikes
        return spikes

    def _integrate(self, node: fx.Node, current: Tensor, t: int) -> None:
        neuron = self.network.neuron(node)
        if node not in self.potential:
            self.potential[node] = neuron.start(current)
        self.potential[node] = neuron.integrate(self.potential[node], current, t)

    def _change(self, node: fx.Node, t: int) -> Tensor:
        """Return the change of a nonlinear operation's accumulated result, in a streaming network."""
        for source in node.all_input_nodes:
            self._add(node, source, t)
        now = accumulated(node, t + 1, lambda n: self._total(node, n), self.schedule.weights)
        change = now - self.before[node] if node in self.before else now
        self.before[node] = now
        return change

    def _listen(self, node: fx.Node, t: int) -> None:
        """Take in one step of the window before the one in which ``node`` answers."""
        if node.op != "call_module":
            for source in node.all_input_nodes:
                if source not in self.schedule.windowed and source not in self.schedule.constant:
                    self._add(node, source, t)
            return
        source = node.all_input_nodes[0]
        if source in self.schedule.windowed:
            return
        self._integrate(node, self._read(source, t), t)
        neuron = self.network.neuron(node)
        if neuron.streaming:
            self.spikes.setdefault(node, []).append(self._spikes(node, t))

    def _add(self, node: fx.Node, source: fx.Node, t: int) -> None:
        """Add what ``source`` says at this step to what ``node`` has heard of it."""
        if source not in self.schedule.weights:
            x, key = self._read(source, t), (node, source)
            self.total[key] = self.total[key] + x if key in self.total else x

    def _total(self, node: fx.Node, source: fx.Node) -> Any:
        """Return what ``node`` has heard of ``source``, or what that says at every step."""
        return self.total[node, source] if (node, source) in self.total else self.steady[source]

    def _mean(self, node: fx.Node, source: fx.Node) -> Any:
        if source in self.steady:
            return self.steady[source]
        return self.total[node, source] / self.steps

    def _close(self, node: fx.Node) -> None:
        """End the window that ``node`` listened to."""
        if node.op != "call_module":
            self.steady[node] = apply(node, lambda source: self._mean(node, source))
            for source in node.all_input_nodes:
                self.total.pop((node, source), None)
            return
        source = node.all_input_nodes[0]
        neuron = self.network.neuron(node)
        if source in self.schedule.windowed:
            self._integrate(node, self.steady[source] * self.steps, 0)
        if self.network.order == "none":
            return
        if not neuron.streaming:
            self.spikes[node] = [self._spikes(node, t) for t in range(self.steps)]
        self.spikes[node] = list(shuffle(torch.stack(self.spikes[node]), self.network.order, neuron.site, self.noise))
