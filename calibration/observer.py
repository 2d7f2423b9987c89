"""Observe: run a prepared network over images, once, and keep the distribution of what each site reads and puts out.

Several processes share the batches, and each ends with what one process would have found, bit for bit: histograms add
up exactly, and what depends on the order of the images, their hash and the moments, is put together in that order.
"""

import hashlib
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnconvert.converter import processes
from snnconvert.converter.errors import CalibrationRefused, UsageError
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.shares import shared
from snnconvert.converter.simulation import channels_last
from snnconvert.converter.thresholds import norms

from .batches import Batches, first, first_inputs
from .calibration import Calibration, refuse_dead
from .gaussian import Moments
from .histogram import add_up
from .watch import Watch


def observe(
    graph: PreparedGraph,
    batches: Batches,
    *,
    images: int | None = None,
    about: dict[str, Any] | None = None,
    sample: int = 1,
) -> Calibration:
    """Return the distribution of each site's activations over ``batches``, in one pass.

    Args:
        batches: image batches [batch, channels, ...] as the network takes them; of a tuple, as a data loader yields
            it, the first tensors are taken, one for each input. Several processes share them (see `shared`).
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
    (found,), sha256 = observe_parts(graph, batches if images is None else first(batches, images), 1, about, sample)
    if not found.images:
        raise CalibrationRefused("the calibration data hold no image", "give at least one batch")
    refuse_dead(found.histograms, graph)
    few = images is not None and found.images < images
    return replace(
        found,
        sha256=sha256,
        warnings=(f"asked for {images} calibration images, got {found.images}",) if few else (),
    )


class _Seen(NamedTuple):
    """What one batch adds to what depends on their order.

    Args:
        number: of the batch.
        images: how many it has.
        hashes: of its images, one after the other.
        moments: of what each site takes in, by its name.
    """

    number: int
    images: int
    hashes: bytes
    moments: dict[str, Moments]


def observe_parts(
    graph: PreparedGraph, batches: Batches, parts: int, about: dict[str, Any] | None, sample: int
) -> tuple[list[Calibration], str]:
    """Return calibrations on batches 0, n, 2n, ..., on 1, n + 1, ..., n = ``parts``, and the hash of all images.

    Raises:
        UsageError: ``sample`` below 1.
        DataRefused, CalibrationRefused: as for `observe`, but that a part may be empty, or its sites silent.
    """
    if sample < 1:
        raise UsageError(f"one in {sample} activations cannot be counted", "give a whole number of at least 1")
    watches = [Watch(graph, sample) for _ in range(parts)]
    images, digest = [0] * parts, hashlib.sha256()
    moments = [{site.name: Moments.empty(site.channels, site.signed) for site in graph.sites} for _ in range(parts)]

    def put(seen: _Seen) -> None:
        part = seen.number % parts
        images[part] += seen.images
        digest.update(seen.hashes)
        for name, found in seen.moments.items():
            moments[part][name] = moments[part][name].joined(found)

    def watch() -> list[_Seen]:
        kept: list[_Seen] = []
        keep = put if processes.count() == 1 else kept.append  # one process needs no memory of batches
        for number, batch in shared(batches):
            inputs = channels_last(first_inputs(graph, batch))
            turn, part = divmod(number, parts)
            keep(_Seen(number, len(inputs[0]), _hashes(inputs), watches[part].see(inputs, turn + 1)))
        return kept

    for seen in sorted(chain(*processes.gather(watch)), key=lambda seen: seen.number):
        put(seen)
    known = dict(about or {}), (), norms(graph)
    found = []
    for watched, count, totals in zip(watches, images, moments, strict=True):
        add_up(list(watched.histograms.values()))
        found.append(Calibration(watched.histograms, count, "", *known, totals))
    return found, digest.hexdigest()


def _hashes(inputs: tuple[Tensor, ...]) -> bytes:
    """Return the SHA-256 of each image, over all its inputs, one after the other."""
    flat = (x.detach().cpu().reshape(len(x), -1).view(torch.uint8).numpy() for x in inputs)
    return b"".join(hashlib.sha256(b"".join(image)).digest() for image in zip(*flat, strict=True))
