"""One artefact measured on test images, next to its ANN.

Commands import this module late, because it imports torch.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from snnconvert.calibration import Calibration, Drift, drift, observe
from snnconvert.converter import native_check, processes
from snnconvert.converter.artifact import load, save
from snnconvert.converter.errors import BarMissed, UsageError
from snnconvert.evaluation import Evaluation, evaluate
from snnconvert.model_zoo import Preprocessing, load_model, shipped

from .output import Output
from .resume import open_shards
from .subject import Conditions, Subject, open_subject
from .torchrun import in_turn

ROUNDING = 1e-9

COMPARED = 1000
"""Images that are compared with those of a calibration."""


@dataclass(frozen=True)
class Measurement:
    """An evaluation and what it was made of.

    ``training`` is what a directly trained network says of itself, ``caution`` as for `Subject`.
    """

    path: Path
    data: str
    split: str
    ann: str
    calibration: dict[str, Any]
    evaluation: Evaluation
    drift: Drift | None = None
    training: dict[str, Any] | None = None
    caution: str | None = None


def measure(out: Output, path: Path, *, expected: Calibration | None = None, **conditions: Any) -> Measurement:
    """Evaluate the artefact at ``path`` on test images.

    Args:
        expected: see `measure_subject`.
        conditions: the fields of `Conditions`.

    Raises:
        UsageError, ArtefactRefused, DataRefused, CalibrationRefused: as for `open_subject` and `measure_subject`.
    """
    return measure_subject(out, open_subject(path, Conditions(**conditions)), expected)


def measure_subject(out: Output, subject: Subject, expected: Calibration | None = None) -> Measurement:
    """Evaluate an artefact on its test images, next to an ANN: the stated one, its own or that of the reference.

    With ``expected``, say how far the activations on the first `COMPARED` images are from those of that calibration.
    With ``resume``, keep the finished batches in that folder, and take those that are there already. Images that the
    artefact was made on are a warning.

    Raises:
        UsageError: the network has no such executor.
        ArtefactRefused: a finished batch is damaged.
        CalibrationRefused: the calibration is of another network.
    """
    path, model, dataset, conditions = subject.path, subject.model, subject.dataset, subject.conditions
    found = None
    if subject.caution:
        out.warn(f"{subject.caution}; name others with --data")
    if expected is not None:
        few = min(COMPARED, conditions.images or COMPARED)
        found = drift(expected, observe(model.graph, subject.batches(out, few, "comparing")))
        (out.warn if found.drifted else partial(out.talk, "data"))(found.verdict)
    ann, shards, tested = _ann(out, subject), None, subject.batches(out, conditions.images, path.name)
    if conditions.resume is not None:
        choices = {
            "images": conditions.images,
            "order": subject.order,
            "seed": model.seed,
            "seeds": conditions.seeds,
            "executor": conditions.executor,
            "batch_size": conditions.batch_size,
        }
        shards = open_shards(conditions.resume, path, dataset, ann.source, choices)
        out.talk("going on", f"{len(shards.finished)} of {tested.count} batches come from {shards.folder}")
    evaluation = evaluate(
        model,
        tested,
        against=None if ann.module is None else ann.module.to(conditions.device),
        alone=subject.direct and ann.module is None,
        seeds=conditions.seeds,
        executor=None if conditions.executor == "auto" else conditions.executor,
        shards=shards,
    )
    for warning in dataset.warnings:
        out.warn(warning)
    ran = f"executor {evaluation.executor}, neurons by {native_check.path(conditions.device.type)}"
    out.talk("evaluated", f"{path.name} on {evaluation.images} images in {evaluation.seconds:.1f} s, {ran}")
    if conditions.memory is not None and evaluation.executor != "layers":
        out.warn(f"--memory is for the layers executor; {path.name} ran by {evaluation.executor}")
    made = subject.about.get("calibration") or {}
    training = subject.about.get("training")
    return Measurement(path, dataset.name, dataset.split, ann.name, made, evaluation, found, training, subject.caution)


class _Ann(NamedTuple):
    """An ANN to compare with: its name, the file or word that it comes from, and itself; None for the network's own."""

    name: str
    source: str | None = None
    module: nn.Module | None = None


def _ann(out: Output, subject: Subject) -> _Ann:
    """Return the ANN that is stated, the network's own, or that of the reference; or none."""
    stated, reference = subject.conditions.against, subject.conditions.reference
    if stated is not None:
        return _Ann(stated, stated, _stated(out, stated, subject.dataset.preprocessing))
    if not subject.direct:
        return _Ann(str(subject.about["model"].get("name")))
    if reference is None:
        return _Ann("")
    model, about = load(reference)
    return _Ann(str(about["model"].get("name")), str(reference), model.ann)


def _stated(out: Output, name: str, given: Preprocessing) -> nn.Module:
    loaded = in_turn(lambda: load_model(name))
    if loaded.preprocessing != given and not loaded.preprocessing_assumed:
        out.warn(f"{name} expects images as {loaded.preprocessing.describe()}; it gets {given.describe()}")
    return loaded.model


def check_recordable(paths: list[Path]) -> None:
    """Do nothing if the accuracy may be written into these artefacts.

    Raises:
        UsageError: one is shipped with snnconvert, which others rely on as it is.
    """
    owned = {path.resolve() for path in shipped().values()}
    for path in paths:
        if path.resolve() in owned:
            raise UsageError(
                f"{path.name} is shipped with snnconvert, so --record does not write into it",
                f"leave out --record, or evaluate a copy of {path}",
            )


def record(measured: Measurement) -> None:
    """Write the accuracy that was measured into the artefact, beside how it was made; the first process does.

    Raises:
        ArtefactRefused: the artefact cannot be read or written.
    """
    if processes.rank():
        return
    model, about = load(measured.path)
    found = measured.evaluation
    about["measured"] = {
        "data": f"{measured.data} ({measured.split})",
        "images": found.images,
        "seeds": found.seeds,
        "top1": found.snn.top1,
        "top1_std": found.snn.top1_std,
        "ci95": list(found.snn.ci95),
        **({} if found.ann is None else {"ann": measured.ann, "ann_top1": found.ann.top1}),
    }
    save(measured.path, model, about)


def missed_bar(measured: list[Measurement], max_drop: float | None) -> BarMissed | None:
    """Return an error that names the networks more than ``max_drop`` points below their ANN, if there are any."""
    if max_drop is None:
        return None
    missed = [
        f"{each.path}: top-1 {found.snn.top1:.2f}, the ANN's {found.ann.top1:.2f}"
        for each in measured
        if (found := each.evaluation).ann is not None
        and found.snn.difference is not None
        and found.snn.difference.points < -max_drop - ROUNDING
    ]
    if not missed:
        return None
    return BarMissed(
        f"expected at most {max_drop:g} points below the ANN, got {'; '.join(missed)}",
        "take more steps (-T), calibrate on data, or state a larger --max-drop",
    )
