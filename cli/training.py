"""A course of training, from what the flags name to the file that holds what was learned.

Commands import this module late, because it imports torch.
"""

import json
import sys
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from snnconvert.converter import processes
from snnconvert.converter.artifact import load, save
from snnconvert.converter.errors import DataRefused, Refused, UsageError, choice
from snnconvert.converter.precision import computes_bfloat16
from snnconvert.converter.tensor_file import write_tensors
from snnconvert.converter.whole_file import written_whole
from snnconvert.model_zoo import ImageData, Preprocessing, find_architecture, open_dataset
from snnconvert.model_zoo.baselines import METHODS, Method
from snnconvert.model_zoo.baselines.inheritance import Heritage, inherit
from snnconvert.model_zoo.baselines.trainee import Trainee
from snnconvert.model_zoo.baselines.trainer import Images, Plan, Trainer

from . import destination, options
from .output import Output, Table
from .torchrun import in_turn

MOST_VALIDATION = 5000
_EXAMPLES = 4


@dataclass(frozen=True)
class Course:
    """All that a training needs."""

    trainee: Trainee
    model: nn.Module
    plan: Plan
    images: Images
    data: ImageData
    arch: str
    preprocessing: Preprocessing
    counts: tuple[int, int]
    """Images to train on, and to validate on."""


def method(name: str, settings: list[str], steps: int) -> Method:
    """Return the method called ``name`` with ``settings``, each NAME=VALUE.

    Raises:
        UsageError: an unknown method or setting, or a value of another kind.
    """
    kind = METHODS[choice("method", name, tuple(METHODS))]
    known = {field.name: field for field in fields(kind)}
    stated: dict[str, Any] = {}
    for text in settings:
        key, sign, value = text.partition("=")
        if not sign or key not in known:
            raise UsageError(
                f"expected --set NAME=VALUE with a setting of {name}, got {text!r}",
                f"it has {', '.join(f'{n}={f.default}' for n, f in known.items()) or 'none'}",
            )
        stated[key] = _value(key, value, type(known[key].default))
    found = kind(**stated)
    found.check(steps)
    return found


def _value(key: str, text: str, kind: type) -> Any:
    words = {"true": True, "false": False}
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        raise UsageError(f"expected --set {key}= a {kind.__name__}, got {text!r}") from error


def open_course(
    out: Output,
    chosen: Method,
    plan: Plan,
    *,
    arch: str,
    steps: int,
    data: str,
    root: Path | None,
    images: int | None,
    validation: int | None,
    batch_size: int,
    workers: int | None,
    mixed: bool,
    device: torch.device,
    inherited: Path | None = None,
) -> Course:
    """Open the data, build the network, and say what was chosen.

    Raises:
        UsageError, DataRefused, ModelRefused: a name that does not exist, data that cannot be read, too few images, or
            a network that the method cannot train.
    """
    known = find_architecture(arch)
    preprocessing = known.preprocessing
    dataset = in_turn(lambda: open_dataset(data, split="train", preprocessing=preprocessing, root=root))
    total = min(images or dataset.count, dataset.count)
    if images is not None and images > dataset.count:
        out.warn(f"asked for {images} images, got {dataset.count}")
    held = min(MOST_VALIDATION, total // 10) if validation is None else validation
    if not 0 < held < total:
        raise DataRefused(
            f"{held} images for validation leave {total - held} of {total} to train on", "change --validation"
        )
    if 2 * plan.shift >= min(preprocessing.size[1:]):
        size = "x".join(map(str, preprocessing.size[1:]))
        raise UsageError(f"--shift {plan.shift} moves images of {size} out of sight", "state fewer pixels")
    black = tuple(-m / s for m, s in zip(preprocessing.mean, preprocessing.std, strict=True))
    plan = replace(plan, mixed=mixed and computes_bfloat16(device), fill=black)
    torch.manual_seed(plan.seed)
    model = known.build(dataset.classes)
    example = next(dataset.batches(_EXAMPLES, limit=_EXAMPLES))[0]
    with redirect_stdout(sys.stderr):
        trainee = Trainee(model, example, chosen, steps)
    heritage = Heritage() if inherited is None else inherit(trainee, inherited)
    plan = replace(plan, inherited=heritage.text, inherited_epochs=heritage.epochs, inherited_seconds=heritage.seconds)
    trainee.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ahead = options.worker_count(workers, files=dataset.files)

    def read(first: int, count: int, epoch: int) -> Any:
        return dataset.batches(
            batch_size, limit=count, seed=plan.seed, first=first, epoch=epoch, device=device, workers=ahead
        )

    batches = -(-(total - held) // batch_size)
    name = f"{dataset.name}, {total - held} and {held} for {known.name}, {batch_size} in a batch"
    given = Images(lambda epoch: read(held, total - held, epoch), batches, lambda: read(0, held, 0), name)
    out.talk("method", f"{chosen.name}: {chosen.about}")
    out.talk("network", f"{known.name}, {sum(p.numel() for p in model.parameters()):,} parameters, T={steps}")
    if inherited is not None:
        out.talk("inherited", f"{heritage.text}: {heritage.epochs} epochs, {heritage.seconds:.0f} s")
    out.talk("data", f"{total - held} images of {dataset.name} (train) to learn from, {held} to validate on")
    return Course(trainee, model, plan, given, dataset, known.name, preprocessing, (total - held, held))


def destination_of(output: Path | None, chosen: Method, arch: str, steps: int, force: bool) -> Path:
    """Return the file to write: a .snn artefact, or the weights of an ANN."""
    name = f"-{chosen.name}-T{steps}.snn" if chosen.spikes else "-ann.safetensors"
    path = output or destination.beside(arch, name)
    if path.suffix != Path(name).suffix:
        raise UsageError(f"{chosen.name} writes a {Path(name).suffix} file, got -o {path}")
    if processes.rank() == 0:
        destination.writable(path, force=force, recognise=load if chosen.spikes else _weights)
    return path


def checkpoint_of(path: Path) -> Path:
    """Return the file that keeps the state of the training that writes ``path``."""
    return path.with_name(path.name + ".checkpoint")


def check_heritage(inherited: Path | None, path: Path) -> None:
    """Check that the checkpoint to inherit is not the one that goes with the output ``path``.

    Raises:
        UsageError: it is.
    """
    if inherited is not None and inherited.resolve() == checkpoint_of(path).resolve():
        raise UsageError(f"--inherit {inherited} is the checkpoint of {path} itself", "name another output with -o")


def _weights(path: Path) -> None:
    try:
        load_file(path)
    except Exception as error:
        raise Refused(f"{path} holds no weights") from error


def train(out: Output, course: Course, path: Path, command: str, *, keep: bool = False) -> tuple[dict[str, Any], Table]:
    """Train, write the network to ``path``, and return what was done as a document and a table.

    Args:
        command: the words that train the same network, which the file keeps.
        keep: leave the checkpoint beside it.
    """
    checkpoint, log = checkpoint_of(path), path.with_name(path.name + ".jsonl")
    if checkpoint.exists():
        out.talk("goes on", f"from {checkpoint}")
    trainer = Trainer(course.trainee, course.plan, course.images, checkpoint)
    started = time.monotonic()
    history = trainer.run(_Report(out, trainer, log))
    about = _about(course, history, command)
    if processes.rank() == 0:
        if course.trainee.method.spikes:
            save(path, course.trainee.spiking(), about)
        else:
            learned = course.trainee.body.state_dict()  # on a GPU the model's own norms were left behind
            tensors = {name: learned.get(name, t) for name, t in course.model.state_dict().items()}
            write_tensors(path, tensors, "training", about["training"])
        if not keep:
            checkpoint.unlink(missing_ok=True)
    training = about["training"]
    inherited = f" after {course.plan.inherited_epochs} inherited" if course.plan.inherited else ""
    rows = [
        ("method", training["method"]),
        ("validation", f"{training['validation']['top1']:.2f} % of {training['validation']['images']} images"),
        ("epochs", f"{len(history)}{inherited}, {training['seconds']:.0f} s"),
        ("log", str(log)),
        ("written", str(path)),
    ]
    document = {"artefact": str(path), "log": str(log), **about, "wall_seconds": time.monotonic() - started}
    return document, Table("", ("trained network", ""), rows, words=2)


class _Report:
    """Says what came of an epoch, and keeps the log."""

    def __init__(self, out: Output, trainer: Trainer, log: Path) -> None:
        self.out, self.trainer, self.log = out, trainer, log

    def __call__(self, record: dict[str, Any]) -> None:
        """Say it, and write all records so far."""
        if processes.rank():
            return
        with written_whole(self.log) as part:
            part.write_text("".join(json.dumps(one) + "\n" for one in self.trainer.history))
        left = record["seconds"] * (record["epochs"] - record["epoch"])
        self.out.talk(
            f"epoch {record['epoch']}/{record['epochs']}",
            f"loss {record['loss']:.4f}, validation {record['validation_top1']:.2f} %, {left / 60:.0f} min left",
        )


def _about(course: Course, history: list[dict[str, Any]], command: str) -> dict[str, Any]:
    chosen = course.trainee.method
    return {
        "model": {"name": course.arch, "source": f"trained by {chosen.name}", "classes": course.data.classes},
        "preprocessing": course.preprocessing.to_json(),
        "training": {
            "method": chosen.name,
            "settings": asdict(chosen),
            "command": command,
            "data": course.data.name,
            "split": course.data.split,
            "digest": course.data.digest(),
            "images": course.counts[0],
            "validation": {"images": course.counts[1], "top1": history[-1]["validation_top1"]},
            "processes": processes.count(),
            **asdict(course.plan),
            "epochs": course.plan.inherited_epochs + len(history),
            "seconds": round(course.plan.inherited_seconds + sum(record["seconds"] for record in history), 1),
        },
        "versions": {"snnconvert": version("snnconvert"), "torch": torch.__version__},
    }
