"""What an executor runs: a canonical graph, neurons in the place of its sites, and the order of their spikes."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from ..graph import PreparedGraph
from ..graph.sites import site_of
from ..neurons import NEURONS, Correction, Neuron, Place
from ..thresholds import Thresholds
from .byte_synapses import ByteSynapses
from .counts import Counting
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

    @cached_property
    def counting(self) -> Counting:
        """What the `counts` executor runs."""
        return Counting(self.module, self.neurons, self.byte_synapses)

    @cached_property
    def byte_synapses(self) -> ByteSynapses:
        """The convolutions that read spikes in bytes."""
        return ByteSynapses(self.module, self.neurons)

    def neuron(self, node: fx.Node) -> Neuron:
        """The neurons of the site that ``node`` calls."""
        return self.neurons[str(node.target)]


def populations(
    graph: PreparedGraph, thresholds: Thresholds, neuron: str, steps: int, options: Mapping[str, Any]
) -> dict[str, Neuron]:
    """Return the neurons of each site of ``graph``, by the name of its child, with arguments as for `SpikingModel`."""
    found: dict[str, Neuron] = {}
    for node in graph.module.graph.nodes:
        site = site_of(node)
        if site is not None:
            place = Place(len(found), len(site.shape) + 1, site.axis, site.signed)
            correction = thresholds.corrections.get(site.name, Correction())
            found[str(node.target)] = NEURONS[neuron](
                thresholds.values[site.name],
                steps,
                place,
                correction,
                burst=thresholds.bursts.get(site.name, 1),
                **options,
            )
    return found


def with_weights(module: fx.GraphModule, weights: dict[str, Tensor]) -> fx.GraphModule:
    """Return ``module`` with other values for some of its constants; the rest is shared."""
    if not weights:
        return module
    changed = fx.GraphModule(module, copy.deepcopy(module.graph))
    for name, value in weights.items():
        owner, _, leaf = name.rpartition(".")
        setattr(changed.get_submodule(owner), leaf, value)
    return changed


@contextmanager
def exact(inputs: tuple[Tensor, ...]) -> Iterator[None]:
    """Switch off gradients, and the mixed precision that a caller may have on: spikes need exact comparisons."""
    with torch.no_grad(), torch.autocast(inputs[0].device.type, enabled=False):
        yield


def channels_last(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return images in the order in which convolutions on them are fastest; the layers pass it on."""
    return tuple(x.clone(memory_format=torch.channels_last) if _in_another_order(x) else x for x in inputs)


def _in_another_order(x: Tensor) -> bool:
    """Return whether the channels of images are not the fastest axis; `is_contiguous` cannot tell for one channel."""
    return x.ndim == 4 and (x.stride(1) != 1 or x.stride(3) != x.shape[1])
