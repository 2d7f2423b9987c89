"""How a student learns: step by step, resumable, with rates that become smaller where they ruin it.

Rates that suit one network may ruin another. Where the loss grows far above the one it began with, or ends above it on
the same batches, learning begins anew with rates a quarter as large; what no rate improved stays as it was, with a
warning.
"""

import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnconvert.converter import processes
from snnconvert.converter.errors import ArtefactRefused, CalibrationRefused
from snnconvert.converter.tensor_file import read_tensors, write_tensors

from .batches import first_inputs
from .settings import Settings
from .student import Student

_KEY = "snnconvert.reconstruction"
_FORMAT = 5
_SAVE_EVERY = 60.0
_ATTEMPTS = 3
_SLOWER = 4
_FAR_WORSE, _WORSE = 10.0, 1.0
"""Times the first loss above which learning is given up on its way, where loss is an average, and at its end."""

_COMPARED = 4
"""Batches on which the loss before and after learning is compared."""

_LONG = {"start": "images, thresholds or weights", "shapes": "number of parameters"}
"""What is told without its value."""

APART = 1_000_003
"""Between the seeds of processes."""


class Learning:
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
        self.done, self.epoch, self.position, self.images = 0, 0, 0, 0
        self.begin = self.loss = math.nan
        self.slower, self.start = 0, [p.detach().clone() for p in self._parameters()]
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
        if not self.done and not self.slower:
            self.begin = self.loss = self._compared()
            if not math.isfinite(self.begin):
                raise CalibrationRefused(
                    f"the loss is {self.begin} before the first step",
                    "check the images, the weights and the hint",
                )

    def inputs(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the inputs of each step that is left."""
        while self.done < self.settings.iterations and self.kept:
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
            group["lr"] = rate * factor * self.rate
        found = processes.gather(lambda: (self._backward(inputs), self._save_is_due()))
        value, due = sum(loss for loss, _ in found), found[0][1]
        processes.add([p.grad for p in self._parameters() if p.grad is not None])
        self.optimiser.step()
        self.student.keep_caps()
        self.done += 1
        self.loss = 0.98 * self.loss + 0.02 * value
        limit = self.begin * _FAR_WORSE
        if self.done == self.settings.iterations:
            self.loss, limit = self._compared(), self.begin * _WORSE
        if not self.loss <= limit:
            self._begin_anew()
        if self.checkpoint is not None and due and self.optimiser.state:
            self.save(self.checkpoint)

    @property
    def rate(self) -> float:
        """The rates of learning, in units of the recipe's."""
        return math.pow(_SLOWER, -min(self.slower, _ATTEMPTS - 1))

    @property
    def kept(self) -> bool:
        """Whether some rates have not made the loss grow."""
        return self.slower < _ATTEMPTS

    def warnings(self) -> tuple[str, ...]:
        """Return what the user should know of the rates."""
        words = f"with 1/{1 / self.rate:.0f} of them"
        if not self.kept:
            return (f"the recipe's rates of learning made the loss grow, even {words}: nothing learned is kept",)
        return (f"the recipe's rates of learning made the loss grow: learned {words}",) if self.slower else ()

    def _begin_anew(self) -> None:
        """Go back to the start, with smaller rates."""
        self.slower += 1
        self.optimiser.state.clear()
        with torch.no_grad():
            for p, start in zip(self._parameters(), self.start, strict=True):
                p.copy_(start)
        self.loss = self.begin
        if self.kept:
            self.done = self.epoch = self.position = 0

    def _compared(self) -> float:
        """Return the mean loss on the first batches, with the same random numbers each time."""
        generator, state = self.student.generator, self.student.generator.get_state()
        generator.manual_seed(self.seed + APART * processes.rank())
        losses: list[float] = []
        for batch in itertools.islice(self.batches(0), _COMPARED):
            parts = processes.gather(partial(self._loss, first_inputs(self.student.prepared, batch)))
            losses.append(sum(parts))
        generator.set_state(state)
        return sum(losses) / max(1, len(losses))

    def _loss(self, inputs: tuple[Tensor, ...]) -> float:
        return sum((float(loss.detach()) for loss in self._losses(inputs)), 0.0)

    def _backward(self, inputs: tuple[Tensor, ...]) -> float:
        """Leave the gradients of this process's rows, weighted by their share of the batch; return their loss, too."""
        self.optimiser.zero_grad()
        if processes.count() > 1:
            for p in self._parameters():
                p.grad = torch.zeros_like(p)
        total = 0.0
        for loss in self._losses(inputs):
            loss.backward()
            total += float(loss.detach())
        return total

    def _losses(self, inputs: tuple[Tensor, ...]) -> Iterator[Tensor]:
        """Yield the loss of this process's rows in parts that fit in memory, weighted by their share of the batch."""
        rows = tuple(x[processes.rank() :: processes.count()] for x in inputs)
        size = self.student.at_once
        for start in range(0, len(rows[0]), size):
            part = tuple(x[start : start + size] for x in rows)
            yield self.student.loss(part) * (len(part[0]) / len(inputs[0]))

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
        another = "repeat the command that began it, delete it, or name another file to write to"
        try:
            tensors, document = read_tensors(path, _KEY, _FORMAT, "checkpoint")
        except ArtefactRefused as error:
            raise ArtefactRefused(error.message, another) from error
        if others := _differing(self.identity, document):
            raise ArtefactRefused(f"{path} is the checkpoint of another reconstruction, by its {others}", another)
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


def _differing(wanted: dict[str, Any], found: dict[str, Any]) -> str:
    """Return what is not as ``wanted``, of settings and options each by its own, with what it is in both."""
    names = []
    for name, value in wanted.items():
        other = found.get(name)
        if name in ("settings", "options") and isinstance(other, dict):
            pairs = {inner: (other.get(inner), value.get(inner)) for inner in value | other}
        else:
            pairs = {name: (other, value)}
        for inner, (there, here) in pairs.items():
            if there != here:
                names.append(_LONG.get(inner, f"{inner} ({there!r} there, {here!r} here)"))
    return ", ".join(names)
