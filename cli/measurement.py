"""One artefact measured on test images, next to its ANN.

Commands import this module late, because it imports torch.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.calibration import Calibration, Drift, drift, observe
from snnconvert.converter import native_check, processes
from snnconvert.converter.artifact import load, save
from snnconvert.converter.errors import ArtefactRefused, BarMissed, UsageError, choice
from snnconvert.converter.shares import Numbered
from snnconvert.converter.simulation import EXECUTORS
from snnconvert.evaluation import Evaluation, evaluate
from snnconvert.model_zoo import DATASETS, Preprocessing, load_model, open_dataset

from . import options
from .output import Output
from .resume import open_shards
from .torchrun import in_turn

ROUNDING = 1e-9

COMPARED = 1000
"""Images that are compared with those of a calibration."""


@dataclass(frozen=True)
class Measurement:
    """An evaluation and what it was made of."""

    path: Path
    data: str
    split: str
    ann: str
    calibration: dict[str, Any]
    evaluation: Evaluation
    drift: Drift | None = None


def measure(
    out: Output,
    path: Path,
    *,
    device: torch.device,
    data: str | None = None,
    root: Path | None = None,
    images: int | None = None,
    resize: int | None = None,
    seeds: int = 3,
    against: str | None = None,
    executor: str = "auto",
    seed: int | None = None,
    batch_size: int = 100,
    workers: int | None = None,
    expected: Calibration | None = None,
    resume: Path | None = None,
    memory: int | None = None,
) -> Measurement:
    """Evaluate the artefact at ``path`` on test images; ``seed`` is its own unless stated, and draws the images (0).

    With ``expected``, say how far the activations on the first `COMPARED` of them are from those of that calibration.
    With ``resume``, keep the finished batches in that folder, and take those that are there already. ``memory`` is in
    bytes, as for `SpikingModel`.

    Raises:
        UsageError: no data set is stated and the artefact names none, or the network has no such executor.
        ArtefactRefused: the artefact cannot be read, or does not say how images are to be prepared; or a finished batch
            is damaged.
        CalibrationRefused: the calibration is of another network.
    """
    choice("executor", executor, ("auto", *EXECUTORS))
    model, about = load(path)
    preprocessing = _preprocessing(path, about, resize)
    reference = data or _data_of(path, about)
    dataset = in_turn(lambda: open_dataset(reference, split="test", preprocessing=preprocessing, root=root))
    if about["model"].get("classes"):
        dataset.check_labels(about["model"]["classes"])
    model.to(device)
    model.memory = memory
    model.seed = model.seed if seed is None else seed
    order = None if images is None else seed or 0
    ahead = options.worker_count(workers, files=dataset.files)

    def batches(limit: int | None, what: str) -> Numbered[tuple[Tensor, Tensor, Tensor]]:
        read = partial(dataset.batches, batch_size, limit=limit, seed=order, device=device, workers=ahead)
        count = math.ceil(min(limit or dataset.count, dataset.count) / batch_size)
        return Numbered(lambda numbers: out.progress(read(numbers=numbers), len(numbers), what), count)

    found = None
    if expected is not None:
        found = drift(expected, observe(model.graph, batches(min(COMPARED, images or COMPARED), "comparing")))
        (out.warn if found.drifted else partial(out.talk, "data"))(found.verdict)
    tested, shards = batches(images, path.name), None
    if resume is not None:
        choices = {"images": images, "order": order, "seed": model.seed, "seeds": seeds}
        shards = open_shards(resume, path, dataset, against, choices | {"executor": executor, "batch_size": batch_size})
        out.talk("going on", f"{len(shards.finished)} of {tested.count} batches come from {shards.folder}")
    evaluation = evaluate(
        model,
        tested,
        against=None if against is None else _reference(out, against, preprocessing).to(device),
        seeds=seeds,
        executor=None if executor == "auto" else executor,
        shards=shards,
    )
    for warning in dataset.warnings:
        out.warn(warning)
    ran = f"executor {evaluation.executor}, neurons by {native_check.path(device.type)}"
    out.talk("evaluated", f"{path.name} on {evaluation.images} images in {evaluation.seconds:.1f} s, {ran}")
    if memory is not None and evaluation.executor != "layers":
        out.warn(f"--memory is for the layers executor; {path.name} ran by {evaluation.executor}")
    ann = against or str(about["model"].get("name"))
    return Measurement(path, dataset.name, dataset.split, ann, about["calibration"], evaluation, found)


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
        "ann": measured.ann,
        "ann_top1": found.ann.top1,
    }
    save(measured.path, model, about)


def _reference(out: Output, name: str, given: Preprocessing) -> nn.Module:
    loaded = in_turn(lambda: load_model(name))
    if loaded.preprocessing != given and not loaded.preprocessing_assumed:
        out.warn(f"{name} expects images as {loaded.preprocessing.describe()}; it gets {given.describe()}")
    return loaded.model


def _preprocessing(path: Path, about: dict[str, Any], resize: int | None) -> Preprocessing:
    missing = [key for key in ("model", "preprocessing", "calibration") if not isinstance(about.get(key), dict)]
    if missing:
        raise ArtefactRefused(
            f"{path} does not say what its {' and '.join(missing)} was", "make it with `snnconvert convert`"
        )
    found = Preprocessing.from_json(about["preprocessing"])
    return found if resize is None else replace(found, resize=resize)


def _data_of(path: Path, about: dict[str, Any]) -> str:
    data = about["calibration"].get("data")
    if data not in DATASETS:
        raise UsageError(f"{path} was not calibrated on a data set that has a name", "name the test images with --data")
    return str(data)


def missed_bar(measured: list[Measurement], max_drop: float | None) -> BarMissed | None:
    """Return an error that names the networks more than ``max_drop`` points below their ANN, if there are any."""
    if max_drop is None:
        return None
    missed = [
        f"{each.path}: top-1 {each.evaluation.snn.top1:.2f}, the ANN's {each.evaluation.ann.top1:.2f}"
        for each in measured
        if each.evaluation.snn.difference.points < -max_drop - ROUNDING
    ]
    if not missed:
        return None
    return BarMissed(
        f"expected at most {max_drop:g} points below the ANN, got {'; '.join(missed)}",
        "take more steps (-T), calibrate on data, or state a larger --max-drop",
    )
