"""Reconstruction: learn thresholds, biases and weights so that the spiking network says what its ANN says.

The teacher is the ANN, on unlabelled images; the student is the spiking network with gradients (`student`). What the
loss looks at decides what is learned together. ``layer``: each site alone imitates the activation, on what the spiking
sites before it send. ``block``: the same for the parts between places where one tensor carries all. ``network``: the
output alone, by distillation (Hinton et al. 2015), or with hints by the sites (Romero et al. 2015, arXiv 1412.6550).
Li et al. 2021 (arXiv 2106.06984) learn the weights of one layer after the other; here all layers learn at the same
time, the first two kinds with gradients cut in between.

Several processes take every other row of each batch, and add their gradients up, so that all step alike. That is what
one process does, but for rounding, where the loss is a mean over rows; the errors of sites, and of outputs that are no
scores, are in units of their mean square over the rows that a process takes at once.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from snnconvert.converter import processes
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import CalibrationRefused
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.neurons import NEURONS
from snnconvert.converter.thresholds import Thresholds

from .learning import APART, Learning
from .settings import Settings
from .streaming_student import StreamingStudent
from .student import Student

DEFAULT = Settings()


@dataclass(frozen=True)
class Progress:
    """How far a reconstruction is.

    Args:
        done, total: steps.
        loss: a moving average.
        seconds_left: to the end, if nothing begins anew; NaN after the first step, which compiles.
        rates: those of learning, in units of the recipe's.
    """

    done: int
    total: int
    loss: float
    seconds_left: float
    rates: float = 1.0


def reconstruct(
    graph: PreparedGraph,
    thresholds: Thresholds,
    batches: Callable[[int], Iterable[Any]],
    *,
    neuron: str,
    settings: Settings = DEFAULT,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    **options: Any,
) -> Thresholds:
    """Return ``thresholds`` after learning, with corrections and weights for ``neuron``.

    Args:
        thresholds: for one window; where learning starts.
        batches: number of the epoch -> batches of unlabelled training images, the same ones each time it is asked, and
            in each process.
        settings: how to learn.
        seed: of random counts.
        checkpoint: file that keeps the state once a minute; if it exists, learning goes on from there. Every
            process must be able to read it.
        report: called after each step.
        options: further arguments of `convert`.

    Raises:
        UsageError: settings that do not exist.
        CalibrationRefused: thresholds without a window or for other neurons, no image, or a loss that is not finite
            before the first step.
        ArtefactRefused: the checkpoint is damaged, or of another reconstruction.
    """
    settings.check()
    if thresholds.steps is None:
        raise CalibrationRefused(
            f"{thresholds.rule} thresholds are for any T, corrections for one", "compute them for T"
        )
    convert(graph, thresholds, neuron=neuron, steps=thresholds.steps, **options)  # which checks them
    kind = StreamingStudent if NEURONS[neuron].streaming else Student
    student = kind(graph, thresholds, neuron, settings, options, seed + APART * processes.rank())
    optimiser = torch.optim.Adam(student.groups(), betas=(0.9, 0.99))
    run = Learning(student, optimiser, settings, batches, seed, None if checkpoint is None else Path(checkpoint))
    started = math.nan
    for number, inputs in enumerate(run.inputs()):
        run.step(inputs)
        left = (time.perf_counter() - started) / max(1, number) * (settings.iterations - run.done)
        report(Progress(run.done, settings.iterations, run.loss, left, run.rate))
        started = time.perf_counter() if number == 0 else started
    about = {"name": "reconstruction", "images": run.images, "loss": run.loss, "seed": seed, **asdict(settings)}
    about |= {"learn": list(settings.learn), "loss_before": run.begin, "rates": run.rate, "kept": run.kept}
    if run.checkpoint is not None and processes.rank() == 0:
        run.checkpoint.unlink(missing_ok=True)
    found = student.thresholds() if run.kept else thresholds
    corrections = [*thresholds.source.get("corrections", []), about]
    source = thresholds.source | {"corrections": corrections}
    return replace(found, source=source, warnings=(*thresholds.warnings, *run.warnings()))
