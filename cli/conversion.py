"""From a prepared graph to a stored artefact and the account of how it was made.

Commands import this module late, because it imports torch.
"""

import math
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from snnconvert import calibration
from snnconvert.calibration import Progress
from snnconvert.converter import processes
from snnconvert.converter.artifact import save
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import CalibrationRefused, UsageError, choice
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.neurons import CONVERTIBLE, SHUFFLES
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.thresholds import Thresholds
from snnconvert.model_zoo import LoadedModel

from .output import Output, Table
from .session import Observed, TrainingImages
from .settings import Request

EXAMINED = 100
"""Training images on which the errors of sites are measured."""


def method(request: Request, *, data: bool) -> calibration.Recipe:
    """Return the recipe that is named, with what flags state instead; without a name, what the data allow.

    Raises:
        UsageError: a name that does not exist, or a recipe that needs images where there are none.
    """
    choice("neuron", request.neuron, CONVERTIBLE)
    choice("shuffle", request.shuffle, SHUFFLES)
    named = request.recipe or ("balanced" if data else "thresholds")
    found = calibration.Recipe("optimal", rule="max") if named == "optimal" else calibration.find_recipe(named)
    names = ("rule", "per", "percentile", "mixed_steps")
    stated: dict[str, Any] = {name: getattr(request, name) for name in names}
    found = replace(found, **{name: value for name, value in stated.items() if value is not None})
    if request.percentile is not None and found.rule != "percentile":
        raise UsageError("--percentile has no meaning without --rule percentile", "add --rule percentile")
    if request.rule is not None or found.rule == "percentile":
        found = replace(found, percentile=found.percent if found.rule == "percentile" else None)
    found.check()
    if request.shuffle != "none" and found.mixed_steps > 1:
        raise UsageError("--shuffle re-orders single spikes, and mixed steps let sites fire bursts", "drop one")
    if found.needs_images and not data:
        raise UsageError(
            f"recipe {found.name!r}{' with mixed steps' * (found.mixed_steps > 1)} looks at training images, "
            "and none are given",
            "add --data, or use --recipe thresholds without --mixed-steps",
        )
    return found


def find_thresholds(
    out: Output,
    graph: PreparedGraph,
    request: Request,
    chosen: calibration.Recipe,
    observed: calibration.Calibration | None,
    images: TrainingImages | None,
    checkpoint: Path,
) -> Thresholds:
    """Return thresholds and corrections, or thresholds from batch-norm statistics alone, and say which."""
    if observed is None:
        found = calibration.thresholds_from_batch_norm(graph, steps=request.steps, rule=chosen.rule, per=chosen.per)
        origin = f"{found.source['data']}, no data was seen"
    else:
        if chosen.reconstruction is not None and checkpoint.exists():
            out.talk("going on", f"from {checkpoint}")
        try:
            found = calibration.follow(
                chosen,
                graph,
                observed,
                images or (lambda epoch: ()),
                neuron=request.neuron,
                steps=request.steps,
                seed=request.seed,
                checkpoint=checkpoint,
                report=_Report(out),
                **_options(request),
            )
        except KeyboardInterrupt:
            if chosen.reconstruction is not None and checkpoint.exists():
                out.talk("kept", f"what was learned up to the last minute; the same command goes on from {checkpoint}")
            raise
        origin = f"{observed.images} images"
    out.talk("thresholds", f"{found.rule} per {found.per}, from {origin}")
    if found.bursts:
        ratio = found.source["mixed_steps"]["times_the_spikes"]
        out.talk(
            "mixed steps", f"bursts at {len(found.bursts)} of {len(graph.sites)} sites, {ratio:.2f} times the spikes"
        )
    for step in found.source.get("corrections", []):
        loss = f", loss {step['loss_before']:.3g} -> {step['loss']:.3g}" if "loss" in step else ""
        if step.get("kept", True):
            out.talk("corrected", f"{step['name']}, on {step['images']} images{loss}")
    for name in chosen.corrections if observed is not None else ():
        neurons = calibration.CORRECTIONS[name].neurons
        if request.neuron not in neurons:
            out.talk("left out", f"{name}, a correction of {' and '.join(neurons)} neurons")
    for warning in found.warnings:
        out.warn(warning)
    return found


def timed(thresholds: Thresholds, started: float) -> Thresholds:
    """Return ``thresholds`` with the seconds since ``started``, of `time.perf_counter`, in their source.

    Those of an earlier calibration, which are there already, count as well.
    """
    seconds = thresholds.source.get("seconds", 0) + time.perf_counter() - started
    return replace(thresholds, source=thresholds.source | {"seconds": seconds})


def examine(
    out: Output,
    graph: PreparedGraph,
    request: Request,
    chosen: calibration.Recipe,
    observed: Observed,
    found: Thresholds,
    images: TrainingImages,
) -> dict[str, Any]:
    """Return whether there were enough images, and where the error of the spiking network comes from; say so."""
    account: dict[str, Any] = {}
    try:
        if observed.first is observed.whole:
            raise CalibrationRefused("one image has no halves")
        enough = calibration.split_half(
            observed.first,
            observed.second,
            graph,
            steps=request.steps,
            rule=chosen.rule,
            per=chosen.per,
            percent=chosen.percent,
        )
    except CalibrationRefused:  # a site that is silent in one half
        out.talk("adequacy", "not known: too few images to halve")
    else:
        out.talk("adequacy", enough.verdict)
        account["adequacy"] = enough.to_json()
    few = calibration.first(images(0), EXAMINED)
    errors = calibration.attribute(graph, found, few, neuron=request.neuron, steps=request.steps, **_options(request))
    worst = ", ".join(f"{entry.site} {entry.own:.1%}" for entry in errors.ranked()[:3])
    out.talk("error", f"most is added at {worst} of the activation's mean square, on {errors.images} images")
    account["attribution"] = errors.to_json()
    return account


class _Report:
    """Says a few times how far learning is."""

    def __init__(self, out: Output) -> None:
        self.out, self.said, self.rates = out, -1, 1.0

    def __call__(self, progress: Progress) -> None:
        """Say it at every tenth of the way."""
        if progress.rates != self.rates:
            self.rates = progress.rates
            self.out.talk("learning", f"the loss grew; again from the start, with {self.rates:g} times the rates")
        tenth = 10 * progress.done // progress.total
        if tenth != self.said:
            self.said = tenth
            left = "" if math.isnan(progress.seconds_left) else f", {progress.seconds_left:.0f} s left"
            self.out.talk("learning", f"{progress.done} of {progress.total}, loss {progress.loss:.3g}{left}")


def _options(request: Request) -> dict[str, Any]:
    return {"initial_potential": request.initial_potential, "shift": request.shift}


def make_spiking(graph: PreparedGraph, thresholds: Thresholds, request: Request) -> SpikingModel:
    """Return the spiking network that the recipe describes."""
    return convert(
        graph,
        thresholds,
        neuron=request.neuron,
        steps=request.steps,
        shuffle=request.shuffle,
        seed=request.seed,
        **_options(request),
    )


def store(
    path: Path,
    model: SpikingModel,
    loaded: LoadedModel,
    graph: PreparedGraph,
    request: Request,
    chosen: calibration.Recipe,
    account: dict[str, Any],
) -> dict[str, Any]:
    """Write the artefact; return what it says about how it was made."""
    about = {
        "model": {
            "name": loaded.name,
            "source": loaded.source,
            "classes": loaded.classes,
            **({} if loaded.trained_on is None else {"trained_on": loaded.trained_on}),
        },
        "preprocessing": loaded.preprocessing.to_json(),
        "calibration": model.thresholds.source,
        "recipe": asdict(request)
        | {"recipe": chosen.name, "rule": chosen.rule, "per": chosen.per, "percentile": chosen.percentile},
        "method": calibration.to_document(chosen),
        "versions": {"snnconvert": version("snnconvert"), "torch": torch.__version__},
        "proof": asdict(graph.proof),
    }
    about |= account
    if processes.rank() == 0:
        save(path, model, about)
    return about


def describe(
    path: Path, model: SpikingModel, graph: PreparedGraph, about: dict[str, Any]
) -> tuple[dict[str, Any], Table]:
    """Return what a conversion made, as a JSON document and as a table."""
    document = {
        "artefact": str(path),
        "neuron": model.neuron,
        "steps": model.steps,
        "end_to_end_steps": model.end_to_end_steps,
        "interval": model.interval,
        "levels": model.levels,
        "spike_type": model.spike_type,
        "sites": len(graph.sites),
        "audit": graph.audit.verdict,
        **about,
        "notes": list(graph.notes),
        "warnings": list(model.thresholds.warnings),
    }
    rows = [
        ("neuron", model.neuron),
        ("T", str(model.steps)),
        ("steps end to end", f"{model.end_to_end_steps}, a result every {model.interval} when pipelined"),
        ("levels", str(model.levels)),
        ("spike type", model.spike_type),
        ("sites", f"{len(graph.sites)}, {graph.depth} on the longest path"),
        ("audit", graph.audit.verdict),
        ("artefact", str(path)),
    ]
    return document, Table("", ("spiking network", ""), rows, words=2)
