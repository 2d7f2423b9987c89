"""What the flags name, opened: device, model, prepared graph, calibration.

Commands import this module late, because it imports torch.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnconvert.calibration import Calibration, observe, observe_halves
from snnconvert.converter.errors import UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.shares import Numbered
from snnconvert.model_zoo import ImageData, LoadedModel, Preprocessing, load_model, load_skeleton, open_dataset

from . import options
from .memory import keep_freed
from .output import Output
from .torchrun import in_turn, local_rank

PROOF_IMAGES = 4
"""Random images on which the prepared graph is compared with the model."""


def compute_device(name: str) -> torch.device:
    """Return the device called ``name``: cpu, cuda or cuda:N; of several processes on a machine each has its own cuda.

    This process is made ready to compute there.

    Raises:
        UsageError: there is no such kind of device, or torch sees none on this machine.
    """
    kind, _, number = name.partition(":")
    if name == "cuda" and local_rank():
        name, number = f"cuda:{local_rank()}", str(local_rank())
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UsageError(f"expected --device cpu, cuda or cuda:N, got {name!r}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices", "use --device cpu")
    keep_freed()
    torch.backends.cudnn.allow_tf32 = False  # 10 bits of mantissa move potentials across thresholds
    return torch.device(name)


def open_model(
    out: Output,
    reference: str,
    *,
    arch: str | None = None,
    weights: Path | None = None,
    trust: bool = False,
    random_weights: bool = False,
    size: str | None = None,
    resize: int | None = None,
    mean: str | None = None,
    std: str | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Load a model, let the flags correct its preprocessing, and say what was chosen and why."""
    torch.manual_seed(seed)
    loaded = in_turn(
        lambda: load_model(reference, arch=arch, weights=weights, trust=trust, pretrained=not random_weights)
    )
    loaded = replace(
        loaded, preprocessing=corrected(loaded.preprocessing, size=size, resize=resize, mean=mean, std=std)
    )
    out.talk("model", f"{loaded.name}, {loaded.classes} classes, from {loaded.source}")
    for note in loaded.notes:
        out.talk("", note)
    out.talk("preprocessing", loaded.preprocessing.describe())
    return loaded


def open_skeleton(
    out: Output, reference: str, *, arch: str | None = None, trust: bool = False, size: str | None = None
) -> LoadedModel:
    """Load a model as far as its structure goes, and say what was chosen and why."""
    loaded = load_skeleton(reference, arch=arch, trust=trust)
    loaded = replace(loaded, preprocessing=corrected(loaded.preprocessing, size=size, resize=None, mean=None, std=None))
    for note in loaded.notes:
        out.talk("model", note)
    return loaded


def prepare_model(out: Output, loaded: LoadedModel, device: torch.device) -> PreparedGraph:
    """Prepare a model on ``device``, and say what was rewritten and how far the graph is from the model."""
    example = torch.randn(PROOF_IMAGES, *loaded.preprocessing.size, generator=torch.Generator().manual_seed(0))
    with redirect_stdout(sys.stderr):  # a model may print
        graph = prepare(loaded.model, example)
    graph.module.to(device)
    for number, note in enumerate(graph.notes):
        out.talk("" if number else "prepared", note)
    proof = graph.proof
    out.talk(
        "proof",
        f"equal to the model within {proof.absolute:.2g}, {proof.relative:.2g} of the output's spread,"
        f" on {proof.images} images",
    )
    out.talk("audit", graph.audit.verdict)
    return graph


Labelled = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class TrainingImages:
    """Training images chosen by ``seed``; called with the number of an epoch, batches of them in another order.

    Those from position ``first`` of the order that the seed gives, ``count`` of them, read by ``workers``.
    """

    data: ImageData
    reference: str
    count: int
    seed: int
    batch_size: int
    like: Tensor
    first: int = 0
    workers: int = 0

    def __call__(self, epoch: int) -> Iterator[Tensor]:
        """Yield batches [batch, channels, height, width]."""
        for images, _, _ in self.labelled(epoch):
            yield images

    def labelled(self, epoch: int = 0, numbers: list[int] | None = None) -> Iterator[Labelled]:
        """Yield (images, labels, positions), of these ``numbers`` alone."""
        batches = self.data.batches(
            self.batch_size,
            limit=self.count,
            seed=self.seed,
            epoch=epoch,
            first=self.first,
            numbers=numbers,
            device=self.like.device,
            workers=self.workers,
        )
        for images, labels, positions in batches:
            yield images.to(self.like), labels, positions

    def numbered(self) -> Numbered[Labelled]:
        """Return (images, labels, positions) of the first epoch, for processes to share."""
        return Numbered(lambda numbers: self.labelled(0, numbers), math.ceil(self.count / self.batch_size))


def open_training_images(
    out: Output,
    graph: PreparedGraph,
    preprocessing: Preprocessing,
    reference: str,
    *,
    images: int,
    stated: bool,
    root: Path | None = None,
    seed: int = 0,
    batch_size: int = 100,
    workers: int | None = None,
) -> TrainingImages:
    """Open ``images`` training images, chosen by ``seed``; fewer, with a warning if a user stated that number."""
    data = in_turn(lambda: open_dataset(reference, split="train", preprocessing=preprocessing, root=root))
    if stated and images > data.count:
        out.warn(f"asked for {images} calibration images, got {data.count}")
    ahead = options.worker_count(workers, files=data.files)
    return TrainingImages(data, reference, min(images, data.count), seed, batch_size, graph.weight, workers=ahead)


class Observed(NamedTuple):
    """Calibrations on every other batch, on the rest, and on all."""

    first: Calibration
    second: Calibration
    whole: Calibration


def calibrate_model(out: Output, graph: PreparedGraph, images: TrainingImages, sample: int = 1) -> Observed:
    """Observe training images on their way through the graph, one in ``sample`` activations."""
    data = images.data
    about = {"data": images.reference, "split": data.split, "digest": data.digest(), "seed": images.seed}
    images = replace(images, batch_size=min(images.batch_size, math.ceil(images.count / 2)))  # at least two batches
    read = images.numbered()
    shown = replace(read, read=lambda numbers: out.progress(read.read(numbers), len(numbers), "calibrating"))
    if images.count == 1:
        whole = observe(graph, shown, about=about, sample=sample)
        found = Observed(whole, whole, whole)
    else:
        found = Observed(*observe_halves(graph, shown, about=about, sample=sample))
    out.talk("calibration", f"{found.whole.images} images of {data.name}{data.split and f' ({data.split})'}")
    return found


def corrected(
    preprocessing: Preprocessing, *, size: str | None, resize: int | None, mean: str | None, std: str | None
) -> Preprocessing:
    """Return ``preprocessing`` with what the flags state; a size alone keeps the share that the centre crop leaves.

    Raises:
        UsageError: a flag that is not numbers, or not as many as the image has channels.
    """
    changes: dict[str, Any] = {}
    if size is not None:
        shape = changes["size"] = _numbers("--size", size, "x", int, "CxHxW, for example 3x32x32")
        if preprocessing.resize and len(shape) == 3:
            changes["resize"] = round(preprocessing.resize * min(shape[1:]) / min(preprocessing.size[1:]))
    if resize is not None:
        changes["resize"] = resize
    for name, text in (("mean", mean), ("std", std)):
        if text is not None:
            changes[name] = _numbers(f"--{name}", text, ",", float, "one number per channel, as in 0.5,0.5,0.5")
    return replace(preprocessing, **changes)


def _numbers(flag: str, text: str, separator: str, kind: Callable[[str], Any], form: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(word) for word in text.split(separator))
    except ValueError as error:
        raise UsageError(f"expected {flag} {form}; got {text!r}") from error
