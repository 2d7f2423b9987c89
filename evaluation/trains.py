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

    Bursts are counts and negative spikes negative; trains that are shuffled come in their new order. The window of a
    site deep in a two-phase network begins later than that of the first, and all of them are told from step 0 on.

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
