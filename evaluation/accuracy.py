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
    alone: bool = False,
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
        alone: run no ANN; for a network that was trained as a spiking one, whose weights are no ANN's.
        seeds: how many random seeds a stochastic network runs with; a deterministic one runs once.
        executor: the executor to use, by default the model's best; naming one gives no ``by_t``.
        shards: the batches that are finished and need not be run again; those that are run are added.

    Raises:
        UsageError: fewer than one seed, ``against`` in training mode, or an ANN to compare with beside ``alone``.
        DataRefused: no image, images or labels that do not fit the network, or logits that are not finite.
        ModelRefused: ``against`` has another number of classes.
    """
    if seeds < 1:
        raise UsageError(f"expected at least one seed, got {seeds}")
    if against is not None and against.training:
        raise UsageError("the ANN to compare with is in training mode", "call .eval() on it first")
    if alone and against is not None:
        raise UsageError("an ANN to compare with was given, and none is to be run", "leave out one of the two")
    ann = None if alone else model.ann if against is None else against
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
    if not any(part.labels.size for part in by_number.values()):
        raise DataRefused("expected images to evaluate on, got none")
    marks = Marks.joined([by_number[number] for number in sorted(by_number)])
    return Evaluation(
        ann=_reference(marks),
        snn=_spiking(marks, model.stochastic),
        by_t=_by_t(marks) if model.answers_every_step and executor is None else None,
        neuron=model.neuron,
        steps=model.steps,
        end_to_end_steps=model.end_to_end_steps,
        interval=model.interval,
        levels=model.levels,
        spike_type=model.spike_type,
        executor=executor or model.executors[0],
        seeds=repeats,
        images=marks.labels.size,
        seconds=time.perf_counter() - started,
        marks=marks,
    )


def _mark(model: SpikingModel, ann: nn.Module | None, batch: Batch, seeds: range, executor: str | None) -> Marks:
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
    logits = torch.stack(outputs)  # [seeds, T or 1, batch, classes]
    expected = None if ann is None else _tensor(ann(images), "the ANN")
    if expected is not None:
        _check_logits(expected, labels, "the ANN")
        if logits.shape[-1] != expected.shape[-1]:
            raise ModelRefused(
                f"the spiking network has {logits.shape[-1]} classes, the network to compare with {expected.shape[-1]}"
            )
    return Marks(
        labels.cpu().numpy(),
        None if expected is None else expected.argmax(-1).cpu().numpy(),
        logits.argmax(-1).cpu().numpy(),
        None if expected is None else _top5(expected, labels),
        _top5(logits[:, -1], labels),
    )


def _tensor(output: Any, what: str) -> Tensor:
    if not isinstance(output, Tensor):
        raise ModelRefused(
            f"accuracy is one of logits [batch, classes], but {what} returns a {type(output).__name__}",
            "convert the part of the model that classifies, or score the outputs in Python",
        )
    return output


def _reference(marks: Marks) -> Reference | None:
    if marks.ann is None:
        return None
    return Reference(100 * float((marks.ann == marks.labels).mean()), _percent(marks.ann_top5))


def _spiking(marks: Marks, stochastic: bool) -> Spiking:
    right = (marks.snn[:, -1] == marks.labels).astype(np.float64)  # [seeds, images]
    top1, deviation = mean_and_deviation([100 * float(share) for share in right.mean(-1)])
    by_image = right.mean(0)
    return Spiking(
        top1=top1,
        top5=_percent(marks.snn_top5),
        top1_std=deviation if stochastic else 0.0,
        ci95=_percents(wilson(float(by_image.sum()), by_image.size)),
        agreement=None if marks.ann is None else 100 * agreement(marks.snn[:, -1], marks.ann),
        difference=None if marks.ann is None else _difference(by_image, marks.ann == marks.labels),
    )


def _difference(by_image: NDArray[np.float64], ann_right: NDArray[np.bool_]) -> Difference:
    difference, interval = paired_difference(by_image, ann_right.astype(np.float64))
    return Difference(100 * difference, _percents(interval))


def _by_t(marks: Marks) -> list[float]:
    return [100 * float(share) for share in (marks.snn == marks.labels).mean((0, 2))]


def _top5(logits: Tensor, labels: Tensor) -> NDArray[np.bool_] | None:
    """Say whether the label is among the five largest of ``logits`` [..., batch, classes]: [..., batch]."""
    if logits.shape[-1] < 6:
        return None
    hits: NDArray[np.bool_] = (logits.topk(5).indices == labels[:, None]).any(-1).cpu().numpy()
    return hits


def _percent(hits: NDArray[np.bool_] | None) -> float | None:
    return None if hits is None else 100 * float(hits.mean())


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
