"""How often a spiking model is right, next to its ANN, on the same images."""

import time
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snnconvert.converter import processes
from snnconvert.converter.errors import DataRefused, ModelRefused, UsageError
from snnconvert.converter.shares import shared
from snnconvert.converter.simulation import SpikingModel, channels_last

from .marks import Marks
from .result import Difference, Evaluation, Reference, Spiking
from .shards import Shards
from .statistics import Interval, agreement, mean_and_deviation, paired_difference, wilson

Batch = tuple[Tensor, Tensor, Tensor]


def evaluate(
    model: SpikingModel,
    batches: Iterable[Batch],
    *,
    against: nn.Module | None = None,
    seeds: int = 1,
    executor: str | None = None,
    shards: Shards | None = None,
) -> Evaluation:
    """Run ``model`` and its ANN over ``batches`` once, every seed on every batch.

    Several processes share the batches (see `shared`), and each returns what one process would have found.

    Args:
        model: the spiking network; its own seed is the first one and is restored afterwards.
        batches: normalised images [B, C, H, W], labels [B] and positions in the data set [B].
        against: another ANN in eval mode to compare with; by default the network that ``model`` was made from.
        seeds: how many random seeds a stochastic network runs with; a deterministic one runs once.
        executor: the executor to use, by default the model's best; naming one gives no ``by_t``.
        shards: the batches that are finished and need not be run again; those that are run are added.

    Raises:
        UsageError: fewer than one seed, or ``against`` in training mode.
        DataRefused: no image, images or labels that do not fit the network, or logits that are not finite.
        ModelRefused: ``against`` has another number of classes.
    """
    if seeds < 1:
        raise UsageError(f"expected at least one seed, got {seeds}")
    if against is not None and against.training:
        raise UsageError("the ANN to compare with is in training mode", "call .eval() on it first")
    ann = model.ann if against is None else against
    repeats = seeds if model.stochastic else 1
    first_seed, started = model.seed, time.perf_counter()
    finished = {} if shards is None else shards.finished

    def run() -> dict[int, Marks]:
        found = {}
        with torch.no_grad():
            for number, batch in shared(batches, finished):
                found[number] = _mark(model, ann, batch, range(first_seed, first_seed + repeats), executor)
                if shards is not None:
                    shards.keep(number, found[number])
        return found

    try:
        parts = processes.gather(run)
    finally:
        model.seed = first_seed
    by_number = dict(chain(finished.items(), *(part.items() for part in parts)))
    marks = [by_number[number] for number in sorted(by_number)]
    images = sum(part.labels.size for part in marks)
    if not images:
        raise DataRefused("expected images to evaluate on, got none")
    reference, spiking, by_t = _summary(marks, model.stochastic)
    return Evaluation(
        ann=reference,
        snn=spiking,
        by_t=by_t if model.answers_every_step and executor is None else None,
        neuron=model.neuron,
        steps=model.steps,
        end_to_end_steps=model.end_to_end_steps,
        interval=model.interval,
        levels=model.levels,
        spike_type=model.spike_type,
        executor=executor or model.executors[0],
        seeds=repeats,
        images=images,
        seconds=time.perf_counter() - started,
    )


def _mark(model: SpikingModel, ann: nn.Module, batch: Batch, seeds: range, executor: str | None) -> Marks:
    weight = model.graph.weight
    (images,), labels, index = channels_last((batch[0].to(weight),)), batch[1].to(weight.device), batch[2]
    outputs = []
    for seed in seeds:
        model.seed = seed
        if model.answers_every_step and executor is None:
            outputs.append(_tensor(model.by_t(images, index=index), "the spiking network"))
        else:
            outputs.append(_tensor(model(images, index=index, executor=executor), "the spiking network")[None])
        _check_logits(outputs[-1][-1], labels, "the spiking network")
    expected = _tensor(ann(images), "the ANN")
    _check_logits(expected, labels, "the ANN")
    logits = torch.stack(outputs)  # [seeds, T or 1, batch, classes]
    if logits.shape[-1] != expected.shape[-1]:
        raise ModelRefused(
            f"the spiking network has {logits.shape[-1]} classes, the network to compare with {expected.shape[-1]}"
        )
    return Marks(
        labels.cpu().numpy(),
        expected.argmax(-1).cpu().numpy(),
        logits.argmax(-1).cpu().numpy(),
        _top5(expected, labels),
        _top5(logits[:, -1], labels),
    )


def _tensor(output: Any, what: str) -> Tensor:
    if not isinstance(output, Tensor):
        raise ModelRefused(
            f"accuracy is one of logits [batch, classes], but {what} returns a {type(output).__name__}",
            "convert the part of the model that classifies, or score the outputs in Python",
        )
    return output


def _summary(marks: list[Marks], stochastic: bool) -> tuple[Reference, Spiking, list[float]]:
    labels, ann, snn = (
        np.concatenate([getattr(part, name) for part in marks], -1) for name in ("labels", "ann", "snn")
    )
    right, ann_right = snn == labels, (ann == labels).astype(np.float64)
    top1, deviation = mean_and_deviation([100 * float(share) for share in right[:, -1].mean(-1)])
    by_image = right[:, -1].mean(0)
    difference, interval = paired_difference(by_image, ann_right)
    spiking = Spiking(
        top1=top1,
        top5=_percent([part.snn_top5 for part in marks]),
        top1_std=deviation if stochastic else 0.0,
        ci95=_percents(wilson(float(by_image.sum()), by_image.size)),
        agreement=100 * agreement(snn[:, -1], ann),
        difference=Difference(100 * difference, _percents(interval)),
    )
    reference = Reference(100 * float(ann_right.mean()), _percent([part.ann_top5 for part in marks]))
    return reference, spiking, [100 * float(share) for share in right.mean((0, 2))]


def _top5(logits: Tensor, labels: Tensor) -> NDArray[np.bool_] | None:
    """Say whether the label is among the five largest of ``logits`` [..., batch, classes]: [..., batch]."""
    if logits.shape[-1] < 6:
        return None
    hits: NDArray[np.bool_] = (logits.topk(5).indices == labels[:, None]).any(-1).cpu().numpy()
    return hits


def _percent(hits: list[NDArray[np.bool_] | None]) -> float | None:
    known = [part for part in hits if part is not None]
    return 100 * float(np.concatenate(known, -1).mean()) if known else None


def _percents(interval: Interval) -> Interval:
    return 100 * interval[0], 100 * interval[1]


def _check_logits(logits: Tensor, labels: Tensor, whose: str) -> None:
    if logits.dim() != 2:
        raise ModelRefused(f"expected logits [batch, classes] of {whose}, got shape {list(logits.shape)}")
    if not logits.isfinite().all():
        raise DataRefused(
            f"the logits of {whose} are not all finite", "check the images for NaN and the weights for overflow"
        )
    if labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < logits.shape[-1]):
        raise DataRefused(
            f"expected labels from 0 to {logits.shape[-1] - 1}, the classes of {whose},"
            f" got {int(labels.min())} to {int(labels.max())}",
            "evaluate on the data set that the network was trained on",
        )
