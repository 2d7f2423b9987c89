"""What an executor runs: a canonical graph, neurons in the place of its sites, and the order of their spikes."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, fx

from ..neurons import Neuron
from .schedule import Schedule


@dataclass(frozen=True, eq=False)
class Network:
    """A spiking network without a way to run it.

    Args:
        module: the canonical graph.
        neurons: the neurons of each site, by the name of its child in ``module``.
        steps: T, the length of a window.
        order: how trains are re-ordered, one of `SHUFFLES`.
    """

    module: fx.GraphModule
    neurons: Mapping[str, Neuron]
    steps: int
    order: str

    @cached_property
    def schedule(self) -> Schedule:
        """When each node speaks."""
        streaming = all(neuron.streaming for neuron in self.neurons.values())
        return Schedule(self.module.graph, streaming, self.order != "none")

    def neuron(self, node: fx.Node) -> Neuron:
        """The neurons of the site that ``node`` calls."""
        return self.neurons[str(node.target)]


def with_weights(module: fx.GraphModule, weights: dict[str, Tensor]) -> fx.GraphModule:
    """Return ``module`` with other values for some of its constants; the rest is shared."""
    if not weights:
        return module
    changed = fx.GraphModule(module, copy.deepcopy(module.graph))
    for name, value in weights.items():
        owner, _, leaf = name.rpartition(".")
        setattr(changed.get_submodule(owner), leaf, value)
    return changed
