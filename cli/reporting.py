"""`eval --report`: what the page shows, gathered from networks that were evaluated side by side.

Commands import this module late, because it imports torch.
"""

import io
import shlex
import sys
from datetime import datetime
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from snnconvert.evaluation import Row, spike_trains, window_starts
from snnconvert.evaluation.report import NetworkDetail, Raster, Report, Sample

from .beside import Comparison, Network

SAMPLES = 12
"""Test images on the page, the first ones of the test."""

_RASTER_SITES, _RASTER_NEURONS = 4, 24


def make_report(found: Comparison) -> Report:
    """Return everything on the page."""
    made = f"{datetime.now().astimezone():%Y-%m-%d %H:%M %z}, snnconvert {version('snnconvert')}"
    return Report(
        title=found.title,
        made=f"{made}, {shlex.join(['snnconvert', *sys.argv[1:]])}",
        rows=[row.as_json() for row in found.rows],
        pairs=found.pairs,
        networks=[_detail(each) for each in found.networks],
        samples=_samples(found.networks[0], found.rows),
        notes=_notes(found.rows) + [f"{said}." for each in found.networks if (said := each.subject.caution)],
    )


def _detail(network: Network) -> NetworkDetail:
    model, about = network.subject.model, network.subject.about
    bursts = model.thresholds.bursts
    curve = [point for point in about.get("search", {}).get("curve", []) if point["neuron"] == model.neuron]
    return NetworkDetail(
        name=network.label,
        sites=[
            {
                "name": site.name,
                "neurons": site.neurons,
                "spikes": site.spikes,
                "rate": site.rate,
                "threshold": _thresholds(model.thresholds.values[site.name] / bursts.get(site.name, 1)),
            }
            for site in network.counted.sites
        ],
        by_t=network.measured.evaluation.by_t,
        curve=[(point["steps"], point["score"]) for point in curve],
        errors=about.get("attribution", {}).get("sites", []),
        raster=_raster(network),
    )


def _thresholds(values: Tensor) -> dict[str, float]:
    return {"min": float(values.min()), "median": float(values.median()), "max": float(values.max())}


def _raster(network: Network) -> Raster:
    """Return the trains of some neurons, evenly spread over the network, for the first test image."""
    data, subject = network.subject.dataset, network.subject
    images, _, positions = next(data.batches(1, limit=1, seed=subject.order, device=subject.conditions.device))
    trains = spike_trains(subject.model, images, positions)
    names = list(trains)
    shown = [names[i] for i in _spread_out(len(names), _RASTER_SITES)]
    sites = {}
    for name in shown:
        train = trains[name].flatten(1)  # [T, neurons]
        sites[name] = train[:, _spread_out(train.shape[1], _RASTER_NEURONS)].sign().cpu().numpy()
    image = f"image {int(positions[0])} of {data.name}{data.split and f' ({data.split})'}"
    return Raster(sites, image, window_starts(subject.model))


def _spread_out(count: int, chosen: int) -> list[int]:
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, chosen))})


def _samples(network: Network, rows: list[Row]) -> list[Sample]:
    data, count = network.subject.dataset, min(SAMPLES, rows[0].images)
    _, labels, positions = next(data.batches(count, limit=count, seed=network.subject.order))
    pictures = data.read(positions.numpy())
    if pictures.shape[1] not in (1, 3):
        return []
    called = data.class_name
    return [
        Sample(_png(picture.numpy()), called(int(label)), [(row.name, called(int(row.answers[n]))) for row in rows])
        for n, (picture, label) in enumerate(zip(pictures, labels, strict=True))
    ]


def _png(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture [1 or 3, height, width] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def _notes(rows: list[Row]) -> list[str]:
    counted = next(row.operations_images for row in rows if row.operations_images is not None)
    seeds = max(row.seeds or 1 for row in rows)
    notes = [
        f"Accuracy is that on {rows[0].images} test images, the same for all networks, with 95 % Wilson intervals.",
        f"Spikes, synaptic operations and energy are means over the first {counted} of these images.",
        "Energy is a model's, with 32-bit numbers, not a chip's: horowitz-45nm has arithmetic, lemaire memory too.",
        "What is constant over time, such as the first layer on the image, is counted anew at every step.",
        "Average pools of spikes are part of the synapses behind them.",
        "Weights count 32 bits each, binarised ones one bit and a number for each output channel.",
    ]
    if seeds > 1:
        notes.append(
            f"Accuracies of stochastic networks are means over {seeds} seeds; agreement and McNemar's test take the "
            "first seed, and operations too."
        )
    if any(row.kind == "quantised" for row in rows):
        notes.append(
            "A quantised ANN has the ANN's weights, and activations rounded to T + 1 levels by the thresholds of a "
            "network converted from it, with no other correction; the energy models do not price it."
        )
    if any(row.kind in ("converted", "direct") and (row.cost or {}).get("seconds") is None for row in rows):
        notes.append("Where no cost is given, the artefact does not say what it took to make it.")
    return notes
