"""`convert --max-drop`: the fewest steps, and the neurons, that stay within some points of the ANN.

Commands import this module late, because it imports torch.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from torch import Tensor

from snnconvert import calibration
from snnconvert.calibration import Point, powers_of_two, search
from snnconvert.converter.errors import BarMissed, ModelRefused, UsageError
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.neurons import NEURONS
from snnconvert.converter.thresholds import Thresholds
from snnconvert.evaluation import evaluate

from . import conversion
from .contents import search_table
from .output import Output, error_document
from .session import TrainingImages, calibrate_model
from .settings import Request

VALIDATION = 1000
"""Training images that choose among networks; calibration does not see them."""

SEEDS = 3
"""How often a stochastic network is scored."""


def split(training: TrainingImages) -> tuple[TrainingImages, TrainingImages]:
    """Return the images to calibrate on, and those to choose with: ``VALIDATION``, at most a fifth of the data set.

    Raises:
        UsageError: the data set is too small to be split.
    """
    held_out = min(VALIDATION, training.data.count // 5)
    if held_out < 1:
        raise UsageError(f"{training.data.name} has {training.data.count} training images, too few to hold some out")
    count = min(training.count, training.data.count - held_out)
    return replace(training, count=count), replace(training, first=training.data.count - held_out, count=held_out)


def choose(
    out: Output,
    graph: PreparedGraph,
    request: Request,
    chosen: calibration.Recipe,
    training: TrainingImages,
    *,
    max_drop: float,
    neurons: tuple[str, ...],
    checkpoint: Path,
) -> tuple[Request, Thresholds, dict[str, Any]]:
    """Return the recipe with the neurons and the T that were found, its thresholds, and an account of both.

    Raises:
        Exit: no network up to the request's T is good enough; the curve is the result.
    """
    training, validation = split(training)
    observed = calibrate_model(out, graph, training, chosen.sample)

    def make(neuron: str, steps: int) -> Thresholds:
        tried = replace(request, neuron=neuron, steps=steps)
        own = checkpoint.with_name(f"{checkpoint.name}.{neuron}-T{steps}")  # each network goes on where it was killed
        return conversion.find_thresholds(out, graph, tried, chosen, observed.whole, training, own)

    def score(thresholds: Thresholds, neuron: str, steps: int) -> float:
        model = conversion.make_spiking(graph, thresholds, replace(request, neuron=neuron, steps=steps))
        return evaluate(model, validation.numbered(), seeds=SEEDS if NEURONS[neuron].stochastic else 1).snn.top1

    ann = _ann(graph, validation)
    out.talk("validation", f"{validation.count} held-out training images, ANN {ann:.2f}")
    found = search(
        make,
        score,
        ann=ann,
        max_drop=max_drop,
        neurons=neurons,
        steps=powers_of_two(request.steps),
        report=lambda point: out.talk("tried", _words(point)),
    )
    curve = found.to_json() | {"validation_images": validation.count}
    if found.best is None or found.thresholds is None:
        nearest = max(found.curve, key=lambda point: point.score)
        missed = BarMissed(
            f"no network up to T={request.steps} stays within {max_drop:g} points of the ANN's {ann:.2f} on the "
            f"validation images; the best is {_words(nearest)}",
            "allow more steps (-T), a larger drop, or a stronger recipe (--recipe best)",
        )
        error = error_document(type(missed).__name__, missed.message, missed.hint, missed.exit_code)
        out.result({"search": curve, "error": error}, search_table(curve))
        out.complain(missed.message, missed.hint)
        raise typer.Exit(missed.exit_code)
    settled = replace(request, neuron=found.best.neuron, steps=found.best.steps)
    account = {"search": curve}
    return (
        settled,
        found.thresholds,
        account | conversion.examine(out, graph, settled, chosen, observed, found.thresholds, training),
    )


def _words(point: Point) -> str:
    return f"{point.neuron} T={point.steps}: {point.score:.2f}"


def _ann(graph: PreparedGraph, validation: TrainingImages) -> float:
    right = 0
    for images, labels, _ in validation.labelled():
        logits = graph.module(images)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ModelRefused(
                "--max-drop compares classes, and this network does not return logits [batch, classes]",
                "convert it for a T of your choice with -T",
            )
        right += int((logits.argmax(1).cpu() == labels).sum())
    return 100 * right / validation.count
