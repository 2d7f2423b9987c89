"""A network while it learns to spike: traced, with a method's neurons in the place of its activations.

The steps of a window are folded into the batch, [T batch, ...], wherever the network is not a neuron, so any network of
images learns as it is. What comes before the first neurons is the same at every step and is computed once. A max-pool
of currents gives the difference of running maxima, as it does where streaming neurons are simulated.
"""

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.graph.canonical import attribute
from snnconvert.converter.graph.on_shapes import OnShapes
from snnconvert.converter.graph.operations import MAX_POOLS
from snnconvert.converter.graph.sites import site_cap
from snnconvert.converter.graph.spellings import SYNONYMS
from snnconvert.converter.graph.tracing import trace
from snnconvert.converter.simulation import SpikingModel

from .method import Method, TrainedNeuron


class Repeated(nn.Module):
    """Gives each of T steps the same."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Return [T batch, ...] of ``x`` [batch, ...]."""
        return torch.cat([x] * self.steps)  # `repeat` would change the order of memory


class Accumulated(nn.Module):
    """Gives each of T steps the sum of it and of those before."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Return x[1] + ... + x[t] for each t, [T batch, ...] as ``x`` is."""
        sums: Tensor = x.unflatten(0, (self.steps, -1)).cumsum(0)
        return sums.flatten(0, 1)


class Changes(nn.Module):
    """Gives each of T steps by how much it differs from the one before: undoes `Accumulated`."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Return x[t] - x[t - 1] for each t, x[0] = 0, [T batch, ...] as ``x`` is."""
        batch = len(x) // self.steps
        return torch.cat([x[:batch], x[batch:] - x[:-batch]])


class Folded(nn.Module):
    """Neurons with time between layers that see the steps as more images."""

    def __init__(self, neuron: TrainedNeuron, steps: int) -> None:
        super().__init__()
        self.neuron, self.steps = neuron, steps

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs [T batch, ...] of currents ``x`` [T batch, ...]."""
        outputs: Tensor = self.neuron(x.unflatten(0, (self.steps, -1)))
        return outputs.flatten(0, 1)


_TIMED: dict[str, type[Repeated | Accumulated | Changes]] = {
    "repeated": Repeated,
    "accumulated": Accumulated,
    "changes": Changes,
}


class Trainee(nn.Module):
    """A network with neurons that learn.

    Args:
        model: the architecture, with the weights to start from, which it shares; dropout is left out.
        example: images [batch, channels, height, width].
        method: the neurons.
        steps: T.

    Raises:
        ModelRefused: the network cannot be prepared for conversion, has activations beyond the ReLU family, ends in
            one, or pools an activation that something else reads.
    """

    def __init__(self, model: nn.Module, example: Tensor, method: Method, steps: int) -> None:
        super().__init__()
        self.method, self.steps, self.example = method, steps, example
        prepared = prepare(model, example)
        self.body = trace(model.eval(), (example,), OnShapes())
        self.neurons = _put_neurons(self.body, method, steps)
        if len(self.neurons) != len(prepared.sites) or any(site.signed or site.opposite for site in prepared.sites):
            raise ModelRefused(
                f"{method.name} trains networks whose activations are all of the ReLU family and lead to layers with "
                f"weights; this one has {len(prepared.sites)} sites, and {len(self.neurons)} such activations",
                "choose another --arch, or replace its activations",
            )
        if method.timed:
            _repeat_for_steps(self.body, steps, set(self.neurons))
        self.body.recompile()
        self._plain = (copy.deepcopy(self.body).cpu(),)  # a tuple, as its tensors are no state of this module
        self.rule = method.rule(self.body, self.neurons)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes], the mean over the steps."""
        logits: Tensor = self.body(images)
        return logits.unflatten(0, (self.steps, -1)).mean(0) if self.method.timed else logits

    def prepared(self) -> PreparedGraph:
        """Return the network with its weights as they are, ready for conversion; weights fit in half precision."""
        body = copy.deepcopy(self._plain[0]).eval()
        with torch.no_grad():
            for name, tensor in body.state_dict().items():
                tensor.copy_(attribute(self.body, name))
        for name, neuron in self.neurons.items():
            body.set_submodule(name, nn.ReLU() if neuron.cap is None else nn.Hardtanh(0.0, neuron.cap))
        for name in _TIMED:
            body.set_submodule(name, nn.Identity())
        graph = prepare(body, self.example)
        for tensor in graph.module.buffers():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
        return graph

    def spiking(self) -> SpikingModel:
        """Return the network as the executors run it."""
        return self.method.spiking(self.prepared(), self.neurons, self.steps)


def _put_neurons(body: fx.GraphModule, method: Method, steps: int) -> dict[str, TrainedNeuron]:
    """Replace activations by neurons, and exchange max-pools with those before them; return them by path."""
    found: dict[str, TrainedNeuron] = {}
    for node in list(body.graph.nodes):
        if site_cap(node) is not None:
            path = _free_path(body, node, found)
            found[path] = neuron = method.neuron(steps)
            body.add_submodule(path, Folded(neuron, steps) if method.timed else neuron)
            with body.graph.inserting_before(node):
                call = body.graph.call_module(path, (node.args[0],))
            node.replace_all_uses_with(call)
            body.graph.erase_node(node)
    for node in list(body.graph.nodes):
        if _is_max_pool(node):
            _pool_first(node, found)
    return found


def _is_max_pool(node: fx.Node) -> bool:
    return SYNONYMS.get(node.target, node.target) in MAX_POOLS


def _pool_first(pool: fx.Node, neurons: dict[str, TrainedNeuron]) -> None:
    """Pool the currents of neurons and not their spikes, as conversion does."""
    neuron: Any = pool.args[0]
    if neuron.target not in neurons:
        return
    if len(neuron.users) > 1:
        raise ModelRefused(
            f"a max-pool and something else read {neuron.target}", "pool averages, or choose another --arch"
        )
    pool.replace_all_uses_with(neuron)
    pool.args = (neuron.args[0], *pool.args[1:])
    neuron.args = (pool,)
    pool.append(neuron)


def _free_path(body: fx.GraphModule, node: fx.Node, taken: dict[str, TrainedNeuron]) -> str:
    """Return the path of the activation: its module's, or that of the module that calls a function, and its name."""
    path = str(node.meta["path"])
    if not issubclass(node.meta["type"] or nn.Module, nn.ReLU | nn.Hardtanh | nn.Threshold):
        path = f"{path}.{getattr(node.target, '__name__', node.target)}".strip("._")
    number, free = 1, path
    while free in taken:
        number += 1
        free = f"{path}_{number}"
    return free


def _repeat_for_steps(body: fx.GraphModule, steps: int, neurons: set[str]) -> None:
    """Repeat for every step what is computed once, where it meets neurons or what comes behind them."""
    signals, timed = set[fx.Node](), set[fx.Node]()
    for name, kind in _TIMED.items():
        body.add_submodule(name, kind(steps))
    for node in list(body.graph.nodes):
        inputs = [n for n in node.all_input_nodes if n in signals]
        if node.op == "placeholder" or inputs:
            signals.add(node)
        is_neuron = node.op == "call_module" and node.target in neurons
        if not is_neuron and not any(n in timed for n in inputs):
            continue
        timed.add(node)
        for once in [n for n in inputs if n not in timed]:
            with body.graph.inserting_before(node):
                node.replace_input_with(once, body.graph.call_module("repeated", (once,)))
        if _is_max_pool(node):
            with body.graph.inserting_before(node):
                node.args = (body.graph.call_module("accumulated", (node.args[0],)), *node.args[1:])
            with body.graph.inserting_after(node):
                changes = body.graph.call_module("changes", (node,))
            node.replace_all_uses_with(changes, delete_user_cb=lambda user, own=changes: user is not own)
            signals.add(changes)
            timed.add(changes)
