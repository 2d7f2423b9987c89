"""The trainer of every baseline: gradient descent with momentum, a cosine schedule, checkpoints.

All random choices of an epoch follow from the seed and its number, so a run that goes on after a kill ends with the
weights of one that was left alone.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter import processes
from snnconvert.converter.errors import DataRefused, ModelRefused, SnnconvertError, UsageError
from snnconvert.converter.simulation import SpikingModel, channels_last

from ..augment import augment
from .checkpoint import difference, read_checkpoint, under, write_checkpoint
from .method import Epoch
from .trainee import Trainee

MOMENTUM = 0.9
WARM_UP = 0.05
"""The share of the steps in which the learning rate rises."""

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Plan:
    """How to train.

    Args:
        epochs: passes over the training images.
        rate: the highest learning rate.
        decay: of weights, not of biases, norms and thresholds.
        seed: chooses orders, shifts and flips.
        shift: pixels by which images are shifted at most.
        flip: whether images are mirrored.
        fill: the value of black, for each channel.
        mixed: run convolutions in bfloat16; neurons and the loss stay in float32.
        inherited: what the network learned before, as `inheritance` tells; "" for nothing.
        inherited_epochs: the passes over the training images that this took.
        inherited_seconds: their time.
    """

    epochs: int = 15
    rate: float = 0.1
    decay: float = 5e-4
    seed: int = 0
    shift: int = 2
    flip: bool = True
    fill: tuple[float, ...] = (0.0,)
    mixed: bool = False
    inherited: str = ""
    inherited_epochs: int = 0
    inherited_seconds: float = 0.0

    def check(self) -> None:
        """Check every number.

        Raises:
            UsageError: one that is out of range.
        """
        if self.epochs < 1 or not 0 < self.rate < math.inf or not 0 <= self.decay < math.inf or self.shift < 0:
            raise UsageError(f"expected at least one epoch, a rate above 0, decay and shift of at least 0, got {self}")


@dataclass(frozen=True)
class Images:
    """What to train and to validate on.

    Args:
        training: the number of an epoch -> its batches (images, labels, positions).
        batches: how many there are in an epoch.
        validation: the batches of the validation split.
        name: tells them from others, so that a checkpoint is not used on images that it was not made with.
    """

    training: Callable[[int], Iterator[Batch]]
    batches: int
    validation: Callable[[], Iterable[Batch]]
    name: str = ""


class Trainer:
    """Trains one network; several processes share each batch.

    Args:
        trainee: on the device to train on.
        plan: how.
        images: on what.
        checkpoint: file that keeps the state after each epoch, and from which training goes on.
    """

    def __init__(self, trainee: Trainee, plan: Plan, images: Images, checkpoint: Path | None = None) -> None:
        plan.check()
        self.trainee, self.plan, self.images, self.checkpoint = trainee, plan, images, checkpoint
        self.device = next(trainee.parameters()).device
        weights = [p for p in trainee.parameters() if p.ndim > 1]
        others = [p for p in trainee.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": plan.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.SGD(groups, lr=plan.rate, momentum=MOMENTUM, nesterov=True)
        self.history: list[dict[str, Any]] = []

    def run(self, told: Callable[[dict[str, Any]], None] = lambda record: None) -> list[dict[str, Any]]:
        """Train what is left to train, and return a record of every epoch; ``told`` gets each when it is over.

        Raises:
            DataRefused: the loss or a weight is no number any more.
            ArtefactRefused, UsageError: the checkpoint cannot be read or written, or is of another training.
        """
        self._resume()
        for epoch in range(len(self.history), self.plan.epochs):
            started = time.perf_counter()
            loss = self._epoch(epoch)
            record = {"epoch": epoch + 1, "epochs": self.plan.epochs, "loss": loss} | self._validate(epoch, loss)
            self.history.append(record | {"seconds": round(time.perf_counter() - started, 1)})
            self._keep()
            told(self.history[-1])
        return self.history

    def _rate(self, step: int) -> float:
        steps = self.plan.epochs * self.images.batches
        warm = min(1.0, (step + 1) / (steps * WARM_UP))
        return self.plan.rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))

    def _epoch(self, epoch: int) -> float:
        self.trainee.train()
        generator = torch.Generator().manual_seed(self.plan.seed * 1_000_003 + epoch)
        torch.manual_seed(self.plan.seed * 1_000_003 + epoch)
        total = torch.zeros((), device=self.device)
        fill = torch.tensor(self.plan.fill)
        for number, (images, labels, _) in enumerate(self.images.training(epoch)):
            for group in self.optimiser.param_groups:
                group["lr"] = self._rate(epoch * self.images.batches + number)
            images = augment(images, generator, fill=fill, shift=self.plan.shift, flip=self.plan.flip)
            total += self._step(images[processes.rank() :: processes.count()], labels, len(images))
        self._same_statistics()
        kept = [*self.trainee.parameters(), *self._statistics()]  # which overflow before weights do
        if not math.isfinite(float(total)) or not all(bool(x.isfinite().all()) for x in kept):
            raise DataRefused(
                f"epoch {epoch + 1}: the loss is {float(total)}, or some weights are no numbers any more",
                "train with a smaller --rate",
            )
        return float(total) / self.images.batches

    def _step(self, images: Tensor, labels: Tensor, count: int) -> Tensor:
        (images,) = channels_last((images.to(self.device),))
        labels = labels[processes.rank() :: processes.count()].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.mixed):
            logits = self.trainee(images)
        loss = F.cross_entropy(logits.float(), labels, reduction="sum") / count
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        processes.add([p.grad for p in self.trainee.parameters() if p.grad is not None])
        self.trainee.rule.after_backward()
        self.optimiser.step()
        self.trainee.rule.after_step()
        found = loss.detach()
        processes.add([found])
        return found

    def _statistics(self) -> list[Tensor]:
        """Return those of batch norms."""
        return [b for name, b in self.trainee.named_buffers() if name.endswith(("running_mean", "running_var"))]

    def _same_statistics(self) -> None:
        """Give all processes the mean of their batch norms' statistics."""
        norms = self._statistics()
        processes.add(norms)
        for norm in norms:
            norm.div_(processes.count())

    def _validate(self, epoch: int, loss: float) -> dict[str, Any]:
        """Return the accuracy on the validation split, by the executors if spikes come out, and what the rule did."""
        self.trainee.eval()
        network: SpikingModel | nn.Module = self.trainee
        if self.trainee.method.spikes:
            try:
                network = self.trainee.spiking().to(self.device)
            except ModelRefused as error:  # of numbers only: the architecture was prepared before
                raise DataRefused(f"epoch {epoch + 1}: {error.message}", "train with a smaller --rate") from error
        right = count = 0
        some: Tensor | None = None
        with torch.no_grad():
            for images, labels, _ in self.images.validation():
                images = images.to(self.device)
                some = images if some is None else some
                right += int((network(images).argmax(1).cpu() == labels.cpu()).sum())
                count += len(labels)
        found: dict[str, Any] = {"validation_images": count, "validation_top1": 100 * right / max(1, count)}
        if isinstance(network, SpikingModel) and some is not None:
            outcome = Epoch((epoch + 1) / self.plan.epochs, loss, found["validation_top1"])
            found |= self.trainee.rule.after_epoch(outcome, network, some)
        return found

    def _about(self) -> dict[str, Any]:
        method = self.trainee.method
        return {
            "method": method.name,
            "settings": asdict(method),
            "steps": self.trainee.steps,
            "plan": asdict(self.plan) | {"fill": list(self.plan.fill)},
            "images": self.images.name,
            "batches": self.images.batches,
        }

    def _keep(self) -> None:
        if self.checkpoint is None or processes.rank():
            return
        state = {f"network.{name}": tensor for name, tensor in self.trainee.state_dict().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            state[f"momentum.{number}"] = moments["momentum_buffer"]
        write_checkpoint(self.checkpoint, state, {"training": self._about(), "history": self.history})

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        tensors, document = read_checkpoint(self.checkpoint)
        if document["training"] != self._about():
            raise UsageError(
                f"{self.checkpoint} is of another training: {difference(document['training'], self._about())}",
                "remove it to begin anew, or name another output with -o",
            )
        try:
            self.trainee.load_state_dict(under("network.", tensors))
            momentum = {int(n): {"momentum_buffer": t} for n, t in under("momentum.", tensors).items()}
            self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": momentum})
        except (RuntimeError, ValueError) as error:
            raise SnnconvertError(
                f"{self.checkpoint} does not fit this network: {error}", "remove it to begin anew"
            ) from error
        self.history = document["history"]
