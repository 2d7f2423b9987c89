"""A walk over every spike of every step, and loops over indices: what counted operations are compared with.

The step-by-step executor gives the spikes; loops, or what a single spike changes behind real weights, give its
connections.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from snnconvert.converter.convert import convert
from snnconvert.converter.graph import prepare
from snnconvert.converter.graph.sites import site_of
from snnconvert.converter.neurons import Noise
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.simulation.steps import Steps
from snnconvert.converter.thresholds import Thresholds
from snnconvert.evaluation.operations import LayerOperations, Operations, operations

STEPS, IMAGES = 3, 2


def spiking(model: nn.Module, *shape: int, neuron: str = "if", theta: float = 0.4, **more: Any) -> SpikingModel:
    graph = prepare(model.eval(), torch.randn(2, *shape, generator=torch.Generator().manual_seed(1)))
    values = {site.name: torch.full((site.channels,), theta) for site in graph.sites}
    bursts = {site.name: more.pop("burst") for site in graph.sites[:1]} if "burst" in more else {}
    return convert(graph, Thresholds(values, None, "given", "channel", bursts=bursts), neuron=neuron, steps=STEPS)


def images(model: SpikingModel) -> Tensor:
    return torch.randn(IMAGES, *model.input_shapes[0], generator=torch.Generator().manual_seed(2))


def counted(model: SpikingModel, **options: Any) -> Operations:
    x = images(model)
    batches = [(x[i : i + 1], torch.zeros(1), torch.tensor([i])) for i in range(IMAGES)]
    return operations(model, batches, **options)


def layer(found: Operations, operation: str, number: int = 0) -> LayerOperations:
    return [one for one in found.layers if one.operation == operation][number]


class Trains(Steps):
    """Writes down every spike: site, image, step, neuron and how many at once."""

    def _spikes(self, node: fx.Node, t: int) -> Tensor:
        found = super()._spikes(node, t)
        self.written: list[tuple[str, tuple[int, ...], int]]
        for place in found.nonzero().tolist():
            self.written.append((site_of(node).name, tuple(place[1:]), abs(int(found[tuple(place)]))))  # type: ignore[union-attr]
        return found


def every_spike(model: SpikingModel) -> list[tuple[str, tuple[int, ...], int]]:
    steps = Trains(model.network, Noise(model.seed, torch.arange(IMAGES)))
    steps.written = []
    with torch.no_grad():
        steps.run((images(model),))
    assert steps.written
    return steps.written


def walk(model: SpikingModel, site: str, connections: Callable[[tuple[int, ...]], int]) -> float:
    """Return the mean over images of the connections of each spike of ``site``."""
    return sum(times * connections(place) for name, place, times in every_spike(model) if name == site) / IMAGES


def changed(function: Callable[[Tensor], Tensor], shape: Sequence[int]) -> Callable[[tuple[int, ...]], int]:
    """Return how many outputs of ``function`` a single spike changes."""

    def count(place: tuple[int, ...]) -> int:
        x = torch.zeros(1, *shape, dtype=torch.float64)
        nothing = function(x)
        x[(0, *place)] = 1
        return int((function(x) != nothing).sum())

    return count


def by_loops(
    size: Sequence[int], kernel: Sequence[int], stride: int, padding: int, dilation: int, channels: int
) -> Any:
    """Return the fan-out of each place of an image in a convolution to ``channels``, by loops over its outputs."""
    found = np.zeros(size, int)
    out = [(n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(size, kernel, strict=True)]
    for output in itertools.product(*map(range, out)):
        for tap in itertools.product(*map(range, kernel)):
            place = tuple(o * stride - padding + k * dilation for o, k in zip(output, tap, strict=True))
            if all(0 <= p < n for p, n in zip(place, size, strict=True)):
                found[place] += channels
    return found
