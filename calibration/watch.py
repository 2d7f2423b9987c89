"""Watch a prepared network while it runs: the distribution of what each site reads and puts out."""

from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.converter.errors import CalibrationRefused
from snnconvert.converter.graph import PreparedGraph, Site

from .gaussian import Moments
from .histogram import Histogram


class Watch(fx.Interpreter):
    """Runs a prepared graph and counts what each site puts out; of what it takes in, it keeps the latest moments.

    Args:
        graph: the network.
        sample: count one in so many of the numbers of a channel, but at least eight of an image; other ones in each
            batch. The largest is always found.
    """

    def __init__(self, graph: PreparedGraph, sample: int = 1) -> None:
        super().__init__(graph.module)
        self.sample, self.number = sample, 0
        self.extra_traceback = False  # it would rewrite the messages of our errors
        self.histograms = {site.name: Histogram.empty(site.channels) for site in graph.sites}
        self.moments: dict[str, Moments] = {}

    def see(self, inputs: tuple[Tensor, ...], number: int) -> dict[str, Moments]:
        """Run the network on a batch; return the moments of what each site takes in, in it.

        Args:
            number: of the batch, which decides what is sampled.
        """
        self.number, self.moments = number, {}
        with torch.no_grad():
            self.run(*inputs)
        return self.moments

    def _sampled(self, values: Tensor) -> Tensor:
        """Return some of ``values`` [batch, channels, ...]: of each image another run of neighbours."""
        positions = values[0, 0].numel()
        one_in = min(self.sample, positions // 8)
        if one_in <= 1:
            return values
        length = positions // one_in  # runs, because memory is read in lines
        runs = values.flatten(2)[:, :, : one_in * length].unflatten(2, (one_in, length))
        images = torch.arange(len(values), device=values.device)
        chosen: Tensor = runs[images, :, (images + self.number) % one_in]
        return chosen

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the activation of a site, and add it to its histogram; keep the moments of its input."""
        site, z = self.fetch_attr(target), args[0]
        assert isinstance(site, Site)
        if not bool(z.sum().isfinite()) and not bool(z.isfinite().all()):  # a cap would hide infinity
            raise CalibrationRefused(
                f"{site.name}: its input is NaN or infinite", "check the images, their preprocessing and the weights"
            )
        sampled = self._sampled(z.movedim(site.axis, 1))
        self.moments[site.name] = Moments.of(sampled, site.signed)
        activation = super().call_module(target, args, kwargs)
        largest = _amax(activation, site.axis)
        if site.signed:
            largest = torch.maximum(largest, _amax(-activation, site.axis))
        sampled = site(sampled)
        self.histograms[site.name].add(sampled.abs() if site.signed else sampled, largest)
        return activation


def _amax(values: Tensor, axis: int) -> Tensor:
    """Return the largest of ``values`` in each channel, [channels]; in an order that follows memory."""
    moved = values.movedim(axis, 1)
    if moved.ndim == 4 and moved.stride(1) == 1:  # whole lines, since few channels are slow by themselves
        return moved.movedim(1, 3).flatten(2).amax(1).amax(0).reshape(-1, moved.shape[1]).amax(0)
    return moved.reshape(*moved.shape[:2], -1).amax(2).amax(0)
