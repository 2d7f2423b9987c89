"""Reconstruction: learn thresholds, biases and weights so that the spiking network says what its ANN says.

The teacher is the ANN, on unlabelled images; the student is the spiking network with gradients (`student`). What the
loss looks at decides what is learned together. ``layer``: each site alone imitates the activation, on what the spiking
sites before it send. ``block``: the same for the parts between places where one tensor carries all. ``network``: the
output alone, by distillation (Hinton et al. 2015). Li et al. 2021 (arXiv 2106.06984) learn the weights of one layer
after the other; here all layers learn at the same time, the first two kinds with gradients cut in between.

Several processes take every other row of each batch, and add their gradients up, so that all step alike. That is what
one process does, but for rounding, where the loss is a mean over rows; the errors of sites, and of outputs that are no
scores, are in units of their mean square over the rows that a process takes at once.

Rates that suit one network may ruin another. Where the loss grows far above the one it began with, or ends above it,
learning begins anew with rates a quarter as large; what no rate improved stays as it was, with a warning.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnconvert.converter import processes
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ArtefactRefused, CalibrationRefused
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.neurons import NEURONS
from snnconvert.converter.tensor_file import read_tensors, write_tensors
from snnconvert.converter.thresholds import Thresholds

from .batches import first_inputs
from .settings import Settings
from .streaming_student import StreamingStudent
from .student import Student

DEFAULT = Settings()

_KEY = "snnconvert.reconstruction"
_FORMAT = 4
_SAVE_EVERY = 60.0
_ATTEMPTS = 3
_SLOWER = 4
_FAR_WORSE, _WORSE = 10.0, 1.25
"""Times the first loss above which learning is given up on the way, and after its last step, where it is an average."""
_APART = 1_000_003


@dataclass(frozen=True)
class Progress:
    """How far a reconstruction is: steps done and in all, the loss (a moving average), and the seconds left."""

    done: int
    total: int
    loss: float
    seconds_left: float


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
    student = kind(graph, thresholds, neuron, settings, options, seed + _APART * processes.rank())
    optimiser = torch.optim.Adam(student.groups(), betas=(0.9, 0.99))
    run = _Run(student, optimiser, settings, batches, seed, None if checkpoint is None else Path(checkpoint))
    started = time.perf_counter()
    for number, inputs in enumerate(run.inputs(), 1):
        run.step(inputs)
        left = (time.perf_counter() - started) / number * (settings.iterations - run.done)
        report(Progress(run.done, settings.iterations, run.loss, left))
    about = {"name": "reconstruction", "images": run.images, "loss": run.loss, "seed": seed, **asdict(settings)}
    about |= {"learn": list(settings.learn), "slower": run.slower}
    if run.checkpoint is not None and processes.rank() == 0:
        run.checkpoint.unlink(missing_ok=True)
    found = student.thresholds() if run.slower < _ATTEMPTS else thresholds
    corrections = [*thresholds.source.get("corrections", []), about]
    source = thresholds.source | {"corrections": corrections}
    return replace(found, source=source, warnings=(*thresholds.warnings, *run.warnings()))


class _Run:
    """The state of a reconstruction: the student, the optimiser, and where among the batches it is."""

    def __init__(
        self,
        student: Student,
        optimiser: torch.optim.Optimizer,
        settings: Settings,
        batches: Callable[[int], Iterable[Any]],
        seed: int,
        checkpoint: Path | None,
    ) -> None:
        self.student, self.optimiser, self.settings, self.checkpoint = student, optimiser, settings, checkpoint
        self.batches, self.seed = batches, seed
        self.rates = [group["lr"] for group in optimiser.param_groups]
        self.done, self.epoch, self.position, self.images, self.loss = 0, 0, 0, 0, math.nan
        self.slower, self.begin, self.start = 0, math.nan, [p.detach().clone() for p in self._parameters()]
        self.saved = time.perf_counter()
        self.identity: dict[str, Any] = {}
        places = processes.gather(lambda: 0 if checkpoint is None else self._resume(checkpoint))
        if len(set(places)) > 1:
            raise ArtefactRefused(
                f"{checkpoint} differs between processes, which are after {places} steps",
                "put the output into a folder that all machines share",
            )
        with torch.no_grad():
            processes.align(self._parameters())  # other machines may have rounded differently on the way here

    def inputs(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the inputs of each step that is left."""
        while self.done < self.settings.iterations and self.slower < _ATTEMPTS:
            seen, attempt = 0, self.slower
            for number, batch in enumerate(self.batches(self.epoch)):
                inputs = first_inputs(self.student.prepared, batch)
                seen += len(inputs[0])
                self.images = max(self.images, seen)
                if number < self.position:
                    continue
                self.position = number + 1
                yield inputs
                if self.done == self.settings.iterations or self.slower > attempt:
                    break
            if not seen:
                raise CalibrationRefused("the calibration data hold no image", "give at least one batch")
            if self.done < self.settings.iterations and self.slower == attempt:
                self.epoch, self.position = self.epoch + 1, 0

    def step(self, inputs: tuple[Tensor, ...]) -> None:
        """Learn from one batch."""
        factor = (1 + math.cos(math.pi * self.done / self.settings.iterations)) / 2
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor / _SLOWER**self.slower
        found = processes.gather(lambda: (self._backward(inputs), self._save_is_due()))
        value, due = sum(loss for loss, _ in found), found[0][1]
        if not math.isfinite(value) and not self.done:
            raise CalibrationRefused(f"the loss is {value} before the first step", "check the images and the weights")
        processes.add([p.grad for p in self._parameters() if p.grad is not None])
        self.optimiser.step()
        self.student.keep_caps()
        self.begin = self.begin if self.done else value
        self.done += 1
        self.loss = 0.98 * self.loss + 0.02 * value if self.done > 1 else value
        if not self.loss <= self.begin * (_FAR_WORSE if self.done < self.settings.iterations else _WORSE):
            self._begin_anew()
        if self.checkpoint is not None and due and self.optimiser.state:
            self.save(self.checkpoint)

    def _begin_anew(self) -> None:
        """Go back to the start, with smaller rates."""
        self.slower += 1
        self.optimiser.state.clear()
        with torch.no_grad():
            for p, start in zip(self._parameters(), self.start, strict=True):
                p.copy_(start)
        if self.slower < _ATTEMPTS:
            self.done = self.epoch = self.position = 0

    def warnings(self) -> tuple[str, ...]:
        """Return what the user should know of the rates."""
        if not self.slower:
            return ()
        if self.slower < _ATTEMPTS:
            return (f"the recipe's rates made the loss grow; learned with 1/{_SLOWER**self.slower} of them",)
        least = _SLOWER ** (_ATTEMPTS - 1)
        return (f"learning made the loss grow, even with 1/{least} of the recipe's rates; nothing of it is kept",)

    def _backward(self, inputs: tuple[Tensor, ...]) -> float:
        """Leave the gradients of this process's rows, weighted by their share of the batch; return their loss, too.

        They go through in parts that fit in memory.
        """
        self.optimiser.zero_grad()
        rows = tuple(x[processes.rank() :: processes.count()] for x in inputs)
        if processes.count() > 1:
            for p in self._parameters():
                p.grad = torch.zeros_like(p)
        total, size = 0.0, self.student.at_once
        for start in range(0, len(rows[0]), size):
            part = tuple(x[start : start + size] for x in rows)
            loss = self.student.loss(part) * (len(part[0]) / len(inputs[0]))
            loss.backward()
            total += float(loss.detach())
        return total

    def _save_is_due(self) -> bool:
        return time.perf_counter() - self.saved > _SAVE_EVERY

    def save(self, path: Path) -> None:
        """Write the state, in the first of all processes."""
        self.saved = time.perf_counter()
        generators = processes.gather(self.student.generator.get_state)
        if processes.rank():
            return
        tensors = {f"parameter.{i}": p for i, p in enumerate(self._parameters())}
        for i, p in enumerate(self._parameters()):
            tensors |= {f"{name}.{i}": value for name, value in self.optimiser.state[p].items()}
        tensors |= {f"generator.{number}": state for number, state in enumerate(generators)}
        write_tensors(path, tensors, _KEY, {**self.identity, **self._place()})

    def _resume(self, path: Path) -> int:
        """Go on from the state in ``path``, if it exists; return how many steps are done."""
        self.identity = self._identity()
        if not path.exists():
            return 0
        another = "delete it, or name another file"
        try:
            tensors, document = read_tensors(path, _KEY, _FORMAT, "checkpoint")
        except ArtefactRefused as error:
            raise ArtefactRefused(error.message, another) from error
        if any(document.get(name) != value for name, value in self.identity.items()):
            raise ArtefactRefused(f"{path} is the checkpoint of another reconstruction", another)
        with torch.no_grad():
            for i, p in enumerate(self._parameters()):
                p.copy_(tensors[f"parameter.{i}"])
                self.optimiser.state[p] = {
                    name: tensors[f"{name}.{i}"].to(p) for name in ("step", "exp_avg", "exp_avg_sq")
                }
        state = tensors.get(f"generator.{processes.rank()}")  # of a process that was not there, the seed says enough
        if state is not None:
            self.student.generator.set_state(state)
        self.done, self.epoch, self.position = (int(document[name]) for name in ("done", "epoch", "position"))
        self.images, self.slower = int(document["images"]), int(document["slower"])
        self.loss, self.begin = float(document["loss"]), float(document["begin"])
        return self.done

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def _identity(self) -> dict[str, Any]:
        """Return what tells this reconstruction from another, before its first step."""
        student, start = self.student, hashlib.sha256()
        before = student.before
        corrections = [value for correction in before.corrections.values() for value in correction if value is not None]
        seen = next(iter(self.batches(0)), None)  # it tells data, order, batch size and augmentation
        images = () if seen is None else first_inputs(student.prepared, seen)
        constants = student.module.buffers()
        for tensor in (*before.values.values(), *corrections, *before.weights.values(), *constants, *images):
            start.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return {
            "format": _FORMAT,
            "settings": asdict(self.settings) | {"learn": list(self.settings.learn)},
            "neuron": student.neuron,
            "options": student.options,
            "steps": student.steps,
            "bursts": before.bursts,
            "seed": self.seed,
            "shapes": [list(p.shape) for p in self._parameters()],
            "start": start.hexdigest(),
        }

    def _place(self) -> dict[str, Any]:
        return {
            name: getattr(self, name) for name in ("done", "epoch", "position", "images", "loss", "begin", "slower")
        }
