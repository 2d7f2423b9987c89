"""Spike trains, step by step, to look at."""

from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.converter.graph.sites import site_of
from snnconvert.converter.neurons import Noise
from snnconvert.converter.simulation import SpikingModel, channels_last
from snnconvert.converter.simulation.steps import Steps


def spike_trains(model: SpikingModel, images: Tensor, index: Tensor) -> dict[str, Tensor]:
    """Return what each site sends in its window: site name to spikes, int64 [T, batch, channels, ...].

    Bursts are counts and negative spikes negative; trains that are shuffled come in their new order. Each train begins
    with its site's window, which `window_starts` places.

    Args:
        images: normalised, [B, C, H, W].
        index: positions in the data set [B], which select the random numbers.

    Raises:
        DataRefused: images that do not fit the network.
    """
    images = images.to(model.graph.weight)
    model.graph.check_inputs((images,))
    watched = _Watched(model.network, Noise(model.seed, index.to(images.device)))
    with torch.no_grad():
        watched.run(channels_last((images,)))
    return {name: torch.stack(train) for name, train in watched.sent.items()}


def window_starts(model: SpikingModel) -> dict[str, int]:
    """Return how many steps after the image each site's window begins: l T for one of level l, by site name.

    Where neurons stream all of them begin with the image, l = 0; where they are two-phase, site number l on the longest
    path to it fires in steps l T + 1 to (l + 1) T.
    """
    sites = ((node, site_of(node)) for node in model.schedule.graph.nodes)
    return {site.name: model.schedule.level[node] * model.steps for node, site in sites if site is not None}


class _Watched(Steps):
    """Step by step, with a copy of all spikes that are sent."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.sent: dict[str, list[Tensor]] = {}

    def _fire(self, node: fx.Node, t: int) -> Tensor:
        found, site = super()._fire(node, t), site_of(node)
        if site is not None:
            spikes = (found / self.network.neuron(node).height).round().long()
            self.sent.setdefault(site.name, []).append(spikes)
        return found
