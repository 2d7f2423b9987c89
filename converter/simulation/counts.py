"""The `counts` executor: a two-phase network in one pass, whatever T.

A two-phase site depends on the sum of its input only, and linear operations pass means through, so each site maps its
mean input z to theta N / T, with N the spike count of T z.
"""

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor, fx, nn

from ..neurons import Neuron, Noise


class Pass(NamedTuple):
    """What the sites share in one pass.

    Args:
        noise: the random numbers.
        activity: filled with the spike counts of each site, by the name of its child, if given.
        watch: called at each site with the name of its child and its mean input, before it fires, if given.
    """

    noise: Noise
    activity: dict[str, Tensor] | None = None
    watch: Callable[[str, Tensor], None] | None = None


class _Site(nn.Module):
    """The neurons of one site, which answer for a whole window at once."""

    def __init__(self, name: str, neuron: Neuron) -> None:
        super().__init__()
        self.name, self.neuron = name, neuron

    def forward(self, mean: Tensor, now: Pass) -> Tensor:
        """Return theta N / T for the ``mean`` input of a window."""
        if now.watch is not None:
            now.watch(self.name, mean)
        worth = self.neuron.height / self.neuron.steps
        if now.activity is None:
            return self.neuron.window(mean, now.noise, worth)
        counts = now.activity[self.name] = self.neuron.window(mean, now.noise)
        return counts * worth


def counting(module: fx.GraphModule, neurons: Mapping[str, Neuron]) -> fx.GraphModule:
    """Return a canonical graph with two-phase neurons at its sites, which takes its inputs and then the `Pass`."""
    graph = copy.deepcopy(module.graph)
    *_, last = (node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_after(last):
        now = graph.placeholder("snnconvert_pass")
    for node in graph.nodes:
        if node.op == "call_module":
            node.args = (*node.args, now)
    counted = fx.GraphModule(module, graph)
    for name, neuron in neurons.items():
        counted.add_submodule(name, _Site(name, neuron))
    return counted
