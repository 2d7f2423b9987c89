"""From a prepared graph to a stored artefact and the account of how it was made.

Commands import this module late, because it imports torch.
"""

from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from snnconvert.calibration import PER, RULES, Calibration, thresholds_from_batch_norm
from snnconvert.converter.artifact import save
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import choice
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.neurons import NEURONS, SHUFFLES
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.thresholds import Thresholds
from snnconvert.model_zoo import LoadedModel

from .output import Output, Table
from .recipe import Recipe


def check(recipe: Recipe) -> None:
    """Raise UsageError where the recipe names what does not exist, before any work is done."""
    choice("neuron", recipe.neuron, tuple(NEURONS))
    choice("rule", recipe.rule, tuple(RULES))
    choice("value of --per", recipe.per, PER)
    choice("shuffle", recipe.shuffle, SHUFFLES)


def find_thresholds(out: Output, graph: PreparedGraph, recipe: Recipe, calibration: Calibration | None) -> Thresholds:
    """Return thresholds from a calibration, or from batch-norm statistics where there is none, and say which."""
    chosen: dict[str, Any] = {"steps": recipe.steps, "rule": recipe.rule, "per": recipe.per}
    if calibration is None:
        found, origin = thresholds_from_batch_norm(graph, **chosen), "batch-norm statistics, no data was seen"
    else:
        if recipe.percentile is not None:
            chosen["percent"] = recipe.percentile
        found, origin = calibration.thresholds(graph, **chosen), f"{calibration.images} images"
    out.talk("thresholds", f"{found.rule} per {found.per}, from {origin}")
    for warning in found.warnings:
        out.warn(warning)
    return found


def make_spiking(graph: PreparedGraph, thresholds: Thresholds, recipe: Recipe) -> SpikingModel:
    """Return the spiking network that the recipe describes."""
    return convert(
        graph,
        thresholds,
        neuron=recipe.neuron,
        steps=recipe.steps,
        initial_potential=recipe.initial_potential,
        shift=recipe.shift,
        shuffle=recipe.shuffle,
        seed=recipe.seed,
    )


def store(path: Path, model: SpikingModel, loaded: LoadedModel, graph: PreparedGraph, recipe: Recipe) -> dict[str, Any]:
    """Write the artefact; return what it says about how it was made."""
    about = {
        "model": {"name": loaded.name, "source": loaded.source, "classes": loaded.classes},
        "preprocessing": loaded.preprocessing.to_json(),
        "calibration": model.thresholds.source,
        "recipe": asdict(recipe),
        "versions": {"snnconvert": version("snnconvert"), "torch": torch.__version__},
        "proof": asdict(graph.proof),
    }
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
