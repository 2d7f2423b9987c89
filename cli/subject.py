"""An artefact that is evaluated, and the test images that it gets.

Commands import this module late, because it imports torch.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnconvert.converter.artifact import load
from snnconvert.converter.errors import ArtefactRefused, UsageError, choice
from snnconvert.converter.shares import Numbered
from snnconvert.converter.simulation import EXECUTORS, SpikingModel
from snnconvert.model_zoo import DATASETS, ImageData, Preprocessing, open_dataset, spiking_files

from . import options
from .output import Output
from .torchrun import in_turn


@dataclass(frozen=True)
class Conditions:
    """On which images networks are evaluated, and how.

    ``seed`` is the artefact's own unless stated, and draws the images (0); ``reference`` is the artefact with whose ANN
    directly trained networks are compared. ``memory`` is in bytes, as for `SpikingModel`.
    """

    device: torch.device
    data: str | None = None
    root: Path | None = None
    images: int | None = None
    resize: int | None = None
    seeds: int = 3
    against: str | None = None
    reference: Path | None = None
    executor: str = "auto"
    seed: int | None = None
    batch_size: int = 100
    workers: int | None = None
    resume: Path | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Subject:
    """A network, what its artefact says about it, and the data set that it is tested on."""

    path: Path
    model: SpikingModel
    about: dict[str, Any]
    dataset: ImageData
    conditions: Conditions

    @property
    def direct(self) -> bool:
        """Whether it was trained as a spiking network, so that it comes from no ANN."""
        return "training" in self.about

    @property
    def order(self) -> int | None:
        """The seed that draws the images, None for all of them in their order."""
        return None if self.conditions.images is None else self.conditions.seed or 0

    @cached_property
    def caution(self) -> str | None:
        """A sentence where it, or its ANN, was trained or calibrated on the images that it is tested on."""
        made = {
            "was trained": self.about.get("training"),
            "was calibrated": self.about.get("calibration"),
            "comes from an ANN that was trained": self.about["model"].get("trained_on"),
        }
        for how, images in made.items():
            if isinstance(images, dict) and _same(images, self.dataset):
                return (
                    f"{self.path.name} {how} on images of {self.dataset.name}, so its accuracy there is not that on "
                    "images it has not seen"
                )
        return None

    def batches(self, out: Output, limit: int | None, what: str) -> Numbered[tuple[Tensor, Tensor, Tensor]]:
        """Return batches of the first ``limit`` images for processes to share, shown as progress on ``what``."""
        given, data = self.conditions, self.dataset
        ahead = options.worker_count(given.workers, files=data.files)
        read = partial(data.batches, given.batch_size, limit=limit, seed=self.order, device=given.device, workers=ahead)
        count = math.ceil(min(limit or data.count, data.count) / given.batch_size)
        return Numbered(lambda numbers: out.progress(read(numbers=numbers), len(numbers), what), count)


def _same(made: dict[str, Any], data: ImageData) -> bool:
    """Return whether an artefact was made on ``data``; one without a digest tells them by their name and part."""
    if "digest" in made:
        return bool(made["digest"] == data.digest())
    name, split = made.get("data"), made.get("split")
    return isinstance(name, str) and split == data.split and Path(name).resolve() == Path(data.name).resolve()


def open_subject(path: Path, conditions: Conditions) -> Subject:
    """Open the artefact at ``path`` and its test images, and put the network where it is to run.

    Raises:
        UsageError: no data set is stated and the artefact names none, or an unknown executor.
        ArtefactRefused: the artefact cannot be read, or does not say how images are to be prepared.
        DataRefused: the images cannot be read, or do not fit the network.
    """
    choice("executor", conditions.executor, ("auto", *EXECUTORS))
    model, about = load(path)
    _check_account(path, about)
    preprocessing, data = Preprocessing.from_json(about["preprocessing"]), conditions.data or _data_of(path, about)
    if conditions.resize is not None:
        preprocessing = replace(preprocessing, resize=conditions.resize)
    dataset = in_turn(lambda: open_dataset(data, split="test", preprocessing=preprocessing, root=conditions.root))
    if about["model"].get("classes"):
        dataset.check_labels(about["model"]["classes"])
    model.to(conditions.device)
    model.memory = conditions.memory
    model.seed = model.seed if conditions.seed is None else conditions.seed
    return Subject(path, model, about, dataset, conditions)


@dataclass(frozen=True)
class Chosen:
    """The artefacts that words name: those to evaluate, and ``others`` beside them.

    ``reference`` is the first that was converted, None if all were trained; ``data`` names the test images.
    """

    paths: list[Path]
    others: list[Path]
    reference: Path | None
    data: str


def find_artefacts(words: list[str], beside: list[str], data: str | None) -> Chosen:
    """Open every artefact that is named once, so that one that cannot be read is told before others are measured.

    Args:
        words: as for `spiking_files`.
        beside: likewise.
        data: test images; by default those of the artefacts that ``words`` name, which must agree.

    Raises:
        UsageError: a name that nothing has, or artefacts that name no data set or different ones.
        ArtefactRefused: a file that cannot be read, or that does not say how it was made.
    """
    paths = [path for word in words for path in spiking_files(word, data or "")]
    abouts = {path: load(path)[1] for path in paths}
    if data is None:
        names = {_data_of(path, about) for path, about in abouts.items()}
        if len(names) > 1:
            raise UsageError(
                f"the artefacts name different data sets: {', '.join(sorted(names))}",
                "name one for all with --data, or evaluate them apart",
            )
        (data,) = names
    found = dict.fromkeys(path for word in beside for path in spiking_files(word, data))
    others = [path for path in found if path not in abouts]
    abouts |= {path: load(path)[1] for path in others}
    reference = next((path for path, about in abouts.items() if "training" not in about), None)
    return Chosen(paths, others, reference, data)


def _data_of(path: Path, about: dict[str, Any]) -> str:
    made = _check_account(path, about)
    data = about[made].get("data")
    if data not in DATASETS:
        how = {"training": "trained", "calibration": "calibrated"}[made]
        raise UsageError(f"{path} was not {how} on a data set that has a name", "name the test images with --data")
    return str(data)


def _check_account(path: Path, about: dict[str, Any]) -> str:
    """Return which of "training" and "calibration" made the artefact, if it says so, what of, and for which images."""
    made = "training" if "training" in about else "calibration"
    missing = [key for key in ("model", "preprocessing", made) if not isinstance(about.get(key), dict)]
    if missing:
        raise ArtefactRefused(
            f"{path} does not say what its {' and '.join(missing)} was", "make it with `snnconvert convert`"
        )
    return made
