"""Synaptic operations of a spiking network: every spike counts its real fan-out.

With n_i the spikes that neuron i fires in its window (a burst is as many, a negative one is one) and F_il its fan-out
in layer l, as `fan_out` defines it,

    S_l = sum_i n_i F_il

are the synaptic operations of layer l, each one accumulate. Values that are no spikes (the image, graded currents,
analog operations) cost multiply-accumulates where the layer has weights, and additions elsewhere, spikes or not.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from snnconvert.converter import processes
from snnconvert.converter.errors import DataRefused
from snnconvert.converter.shares import shared
from snnconvert.converter.simulation import SpikingModel

from .fan_out import Connections, Layer, structure

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class SiteOperations:
    """The neurons of one site; means per image.

    Args:
        neurons: how many.
        spikes: fired in the window, those of bursts one by one, of both signs.
        rate: spikes per neuron and step.
        updates: neuron updates: T a streaming neuron, which integrates, compares and resets in one; 2 T a two-phase
            neuron, which integrates for T steps and fires for T, but T + 1 where it takes its input once a window.
    """

    name: str
    neurons: int
    spikes: float
    rate: float
    updates: int


@dataclass(frozen=True)
class LayerOperations(Connections):
    """A layer, or what spikes reach without one, and what the spikes cause there.

    Args:
        events: input elements that spikes arrive at, each as often as one does; mean per image.
        synaptic_operations: accumulates that spikes cause; mean per image.
    """

    events: float
    synaptic_operations: float


@dataclass(frozen=True)
class Operations:
    """What one image costs in operations: means over ``images``; the ANN's are those of the same graph, run once."""

    neuron: str
    steps: int
    seed: int
    images: int
    fold_pools: bool
    sites: tuple[SiteOperations, ...]
    layers: tuple[LayerOperations, ...]

    @property
    def spikes(self) -> float:
        """Spikes fired."""
        return sum(site.spikes for site in self.sites)

    @property
    def synaptic_operations(self) -> float:
        """Accumulates that spikes cause."""
        return sum(layer.synaptic_operations for layer in self.layers)

    @property
    def updates(self) -> int:
        """Neuron updates."""
        return sum(site.updates for site in self.sites)

    @property
    def ann_macs(self) -> int:
        """Multiply-accumulates of the ANN, with no product of padding."""
        return sum(layer.connections for layer in self.layers if layer.weighted)

    @property
    def ann_additions(self) -> int:
        """Additions of the ANN's pools and sums; its residual additions are not counted."""
        return sum(one.connections for one in self.layers if not one.weighted and one.operation != "identity")

    def macs(self, once: bool = False) -> int:
        """Return the multiply-accumulates on values that are no spikes; ``once`` as `Layer.analog_once`."""
        return sum(layer.analog_once if once else layer.analog for layer in self.layers if layer.weighted)

    def additions(self, once: bool = False) -> int:
        """Return the additions of values that are no spikes, in pools and sums."""
        return sum(layer.analog_once if once else layer.analog for layer in self.layers if not layer.weighted)

    def as_json(self) -> dict[str, Any]:
        """Return the same, with the totals, as nested dictionaries that json.dumps takes."""
        totals = {name: getattr(self, name) for name in ("spikes", "synaptic_operations", "updates")}
        analog = {"macs": self.macs(), "macs_once": self.macs(once=True), "additions": self.additions()}
        analog["additions_once"] = self.additions(once=True)
        ann = {"macs": self.ann_macs, "additions": self.ann_additions}
        ann["macs_from_shapes"] = sum(layer.from_shapes for layer in self.layers if layer.weighted)
        return asdict(self) | totals | analog | {"ann": ann}


def operations(
    model: SpikingModel, batches: Iterable[Batch], *, seed: int | None = None, fold_pools: bool = False
) -> Operations:
    """Run ``model`` over ``batches`` once and count its operations; see the module's docstring for the equation.

    Several processes share the batches (see `shared`), and each returns what one process would have found.

    Args:
        batches: normalised images [B, C, H, W], labels [B] (not read) and positions in the data set [B].
        seed: of the random numbers; the model's own by default, which is restored afterwards.
        fold_pools: pools of spikes are part of the weights behind them, see `fan_out`; by default they are layers.

    Raises:
        DataRefused: no image, or images that do not fit the network.
        UsageError: a seed beyond 64 bits.
    """
    before, seed = model.seed, model.seed if seed is None else seed
    model.seed = seed
    try:
        parts = processes.gather(lambda: _spikes(model, batches))
    finally:
        model.seed = before
    images = sum(count for count, _ in parts)
    if not images:
        raise DataRefused("expected images to count the operations of, got none")
    found = structure(model, fold_pools)
    fired = {name: sum((part[name] for _, part in parts if part), torch.zeros(())) for name in found.sites}
    sites = tuple(
        _site(name, neurons, float(fired[name].sum()) / images, model.steps, updates)
        for name, (neurons, updates) in found.sites.items()
    )
    layers = tuple(_layer(layer, fired, images) for layer in found.layers)
    return Operations(model.neuron, model.steps, seed, images, fold_pools, sites, layers)


def _site(name: str, neurons: int, spikes: float, steps: int, updates: int) -> SiteOperations:
    return SiteOperations(name, neurons, spikes, spikes / neurons / steps, neurons * updates)


def _layer(layer: Layer, fired: dict[str, Tensor], images: int) -> LayerOperations:
    """Return ``layer`` with the operations of the spikes ``fired`` by each neuron, site name to [neurons]."""
    events, caused = (
        sum(float(fired[site] @ per_spike.flatten().cpu()) for site, per_spike in maps.items()) / images
        for maps in (layer.arrivals, layer.fan_out)
    )
    known = {field.name: getattr(layer, field.name) for field in fields(Connections)}
    return LayerOperations(**known, events=events, synaptic_operations=caused)


def _spikes(model: SpikingModel, batches: Iterable[Batch]) -> tuple[int, dict[str, Tensor]]:
    """Return the number of images, and the spikes that each neuron fired for all of them."""
    count, fired, weight = 0, dict[str, Tensor](), model.graph.weight
    for _, (images, _, index) in shared(batches):
        for name, spikes in model.activity(images.to(weight), index=index).items():  # a window has spikes of one sign
            total = spikes.abs().reshape(len(images), -1).sum(0, dtype=torch.float64).cpu()
            fired[name] = fired[name] + total if name in fired else total
        count += len(images)
    return count, fired
