"""Observe: run a prepared network over images, once, and keep the distribution of what each site reads and puts out."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.converter.errors import CalibrationRefused, UsageError
from snnconvert.converter.graph import PreparedGraph, Site
from snnconvert.converter.thresholds import norms

from .calibration import Calibration, refuse_dead
from .gaussian import Moments
from .histogram import Histogram


class Watch(fx.Interpreter):
    """Runs a prepared graph and counts what each site takes in and puts out.

    Args:
        graph: the network.
        sample: count one in so many of the numbers of a channel, where an image has at least eight times as many; other
            ones in each batch. The largest is always found.
    """

    def __init__(self, graph: PreparedGraph, sample: int = 1) -> None:
        super().__init__(graph.module)
        self.sample, self.batches = sample, 0
        self.extra_traceback = False  # it would rewrite the messages of our errors
        self.histograms = {site.name: Histogram.empty(site.channels) for site in graph.sites}
        self.moments = {site.name: Moments.empty(site.channels, site.signed) for site in graph.sites}

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network on one batch."""
        self.batches += 1
        return super().run(*args, **kwargs)

    def _sampled(self, values: Tensor) -> Tensor:
        """Return some of ``values`` [batch, channels, ...]: of each image another run of neighbours."""
        positions = values[0, 0].numel()
        if self.sample == 1 or positions < 8 * self.sample:
            return values
        length = positions // self.sample  # runs, because memory is read in lines
        runs = values.flatten(2)[:, :, : self.sample * length].unflatten(2, (self.sample, length))
        images = torch.arange(len(values), device=values.device)
        chosen: Tensor = runs[images, :, (images + self.batches) % self.sample]
        return chosen

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the activation of a site, and add it to its histogram, and its input to its moments."""
        site, z = self.fetch_attr(target), args[0]
        assert isinstance(site, Site)
        if not bool(z.sum().isfinite()) and not bool(z.isfinite().all()):  # a cap would hide infinity
            raise CalibrationRefused(
                f"{site.name}: its input is NaN or infinite", "check the images, their preprocessing and the weights"
            )
        self.moments[site.name].add(self._sampled(z.movedim(site.axis, 1)))
        activation = super().call_module(target, args, kwargs)
        others = [d for d in range(activation.ndim) if d != site.axis]
        largest = activation.amax(others)
        if site.signed:
            largest = torch.maximum(largest, -activation.amin(others))
        sampled = self._sampled(activation.movedim(site.axis, 1))
        self.histograms[site.name].add(sampled.abs() if site.signed else sampled, largest)
        return activation


def observe(
    graph: PreparedGraph,
    batches: Iterable[Tensor | tuple[Tensor, ...] | list[Tensor]],
    *,
    images: int | None = None,
    about: dict[str, Any] | None = None,
    sample: int = 1,
) -> Calibration:
    """Return the distribution of each site's activations over ``batches``, in one pass.

    Args:
        batches: image batches [batch, channels, ...] as the network takes them; of a tuple, as a data loader yields
            it, the first tensors are taken, one for each input.
        images: stop after so many; all by default.
        about: what to remember of the data, JSON-able.
        sample: count one in so many activations, which is faster, as in `Watch`.

    Raises:
        UsageError: ``images`` or ``sample`` below 1.
        DataRefused: images of another shape, number or type than the network takes.
        CalibrationRefused: no batch, a site that is always zero, or one whose input is NaN or infinite (it is named).
    """
    if images is not None and images < 1:
        raise UsageError(f"the number of calibration images must be at least 1, got {images}")
    if sample < 1:
        raise UsageError(f"one in {sample} activations cannot be counted", "give a whole number of at least 1")
    watch, seen, digest = Watch(graph, sample), 0, Digest(len(graph.input_shapes))
    for batch in batches:
        if images is not None and seen >= images:
            break
        inputs = first_inputs(graph, batch)
        inputs = tuple(x[: None if images is None else images - seen] for x in inputs)
        digest.update(inputs)
        with torch.no_grad():
            watch.run(*inputs)
        seen += len(inputs[0])
    if seen == 0:
        raise CalibrationRefused("the calibration data hold no image", "give at least one batch")
    refuse_dead(watch.histograms, graph)
    warnings = () if images is None or seen >= images else (f"asked for {images} calibration images, got {seen}",)
    remembered = dict(about or {})
    return Calibration(watch.histograms, seen, digest.sha256(), remembered, warnings, norms(graph), watch.moments)


class Digest:
    """The SHA-256 of images as they come; of several inputs, that of their hashes.

    Args:
        inputs: how many tensors come at once.
    """

    def __init__(self, inputs: int) -> None:
        self.digests = [hashlib.sha256() for _ in range(inputs)]

    def update(self, inputs: tuple[Tensor, ...]) -> None:
        """Add one batch."""
        for digest, x in zip(self.digests, inputs, strict=True):
            digest.update(x.detach().cpu().contiguous().view(torch.uint8).numpy().data)

    def sha256(self) -> str:
        """Return the hash so far."""
        first, *others = self.digests
        if not others:
            return first.hexdigest()
        return hashlib.sha256(b"".join(digest.digest() for digest in self.digests)).hexdigest()


def first_inputs(graph: PreparedGraph, batch: Tensor | tuple[Tensor, ...] | list[Tensor]) -> tuple[Tensor, ...]:
    """Return the tensors of ``batch`` that ``graph`` takes, one for each input.

    Raises:
        DataRefused: images of another shape, number or type than the network takes.
    """
    inputs = (batch,) if isinstance(batch, Tensor) else tuple(batch)[: len(graph.input_shapes)]
    graph.check_inputs(inputs)
    return inputs
