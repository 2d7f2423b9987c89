"""One table of an ANN, its quantised twin, the networks converted from it and directly trained ones."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from snnconvert.converter.simulation import SpikingModel

from .energy import ENERGY_MODELS, energy, weight_bits
from .operations import Operations
from .result import Evaluation
from .statistics import Interval, agreement, mcnemar, wilson

Kind = Literal["ann", "quantised", "converted", "direct"]


@dataclass(frozen=True)
class Row:
    """One network on the same images as the others of its table; None is what it does not have or nobody knows.

    Args:
        method: the neuron model, how the network was trained, or where a quantised one has its thresholds from.
        steps: T; of a quantised ANN, the T that has as many levels.
        end_to_end_steps: from an image to its answer after whole windows, which ``top1`` is that of.
        first_answer: steps to the first answer of any quality: 1 where the network answers at every step.
        interval: steps between answers when images follow each other.
        levels_per_step: the values that a neuron can send in one step; of a quantised ANN, those of its activations.
        answers: classes [images], those of the first seed of a stochastic network.
        labels: the right ones [images].
        top1: percent, the mean over ``seeds``; ``top1_std`` its sample deviation, ``ci95`` its Wilson interval.
        spikes_per_neuron: fired in a window, mean per image; as ``synaptic_operations`` and ``macs``, multiply-
            accumulates on values that are no spikes, on the first ``operations_images`` images.
        weight_bits: of weights and biases at 32 bits each, binarised weights at one; a file may hold them in fewer.
        energy: picojoules an image by the name of the model.
        cost: of making it: "kind", which is "training" or "calibration", "seconds", "images" and "epochs".
    """

    name: str
    kind: Kind
    method: str
    top1: float
    ci95: Interval
    images: int
    answers: NDArray[np.int64] = field(repr=False, compare=False)
    labels: NDArray[np.int64] = field(repr=False, compare=False)
    top1_std: float | None = None
    seeds: int | None = None
    steps: int | None = None
    end_to_end_steps: int | None = None
    first_answer: int | None = None
    interval: int | None = None
    levels_per_step: int | None = None
    spike_type: str | None = None
    neurons: int | None = None
    spikes_per_neuron: float | None = None
    synaptic_operations: float | None = None
    macs: int | None = None
    operations_images: int | None = None
    weight_bits: int | None = None
    energy: dict[str, float] = field(default_factory=dict)
    cost: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the same, but for the answers, as dictionaries that json.dumps takes."""
        document = asdict(self) | {"ci95": list(self.ci95)}
        del document["answers"], document["labels"]
        return document


def spiking_row(name: str, model: SpikingModel, about: dict[str, Any], found: Evaluation, counted: Operations) -> Row:
    """Return the row of a spiking network, converted or directly trained.

    Args:
        about: what its artefact says of how it was made, "training" or "calibration".
        counted: its operations on some of the images.
    """
    training = about.get("training")
    neurons = sum(site.neurons for site in counted.sites)
    return Row(
        name=name,
        kind="converted" if training is None else "direct",
        method=model.neuron if training is None else str(training.get("method", model.neuron)),
        top1=found.snn.top1,
        top1_std=found.snn.top1_std,
        ci95=found.snn.ci95,
        seeds=found.seeds,
        images=found.images,
        steps=model.steps,
        end_to_end_steps=model.end_to_end_steps,
        first_answer=1 if model.answers_every_step else model.end_to_end_steps,
        interval=model.interval,
        levels_per_step=_levels_per_step(model),
        spike_type=model.spike_type,
        neurons=neurons,
        spikes_per_neuron=counted.spikes / neurons if neurons else None,
        synaptic_operations=counted.synaptic_operations,
        macs=counted.macs(),
        operations_images=counted.images,
        weight_bits=weight_bits(model).weights,
        energy={name: energy(counted, name).snn.picojoules for name in ENERGY_MODELS},
        cost=_cost(about),
        answers=found.marks.answers,
        labels=found.marks.labels,
    )


def ann_row(name: str, found: Evaluation, model: SpikingModel | None, counted: Operations | None) -> Row:
    """Return the row of the ANN that an evaluation compared with.

    Args:
        found: an evaluation that has marks of the ANN.
        model: the network that was converted from it; None for another ANN, of which the graph says nothing.
        counted: the operations of ``model``.

    Raises:
        ValueError: the evaluation has no ANN.
    """
    marks = found.marks
    if marks.ann is None:
        raise ValueError("expected an evaluation next to an ANN")
    row = _analog_row(name, "ann", "", marks.ann, marks.labels)
    if model is None or counted is None:
        return row
    prices = {name: energy(counted, name).ann.picojoules for name in ENERGY_MODELS}
    return replace(row, macs=counted.ann_macs, weight_bits=weight_bits(model).weights, energy=prices)


def quantised(model: SpikingModel) -> SpikingModel:
    """Return the ANN of ``model`` with activations of T + 1 levels (2 T + 1 where signed), as a network of counts.

    It has the thresholds of ``model``, but no other correction and the ANN's weights: a -> theta / T N,
    N = clip(floor(a T / theta + 1/2), 0, T), is what a deterministic two-phase neuron says in its window.
    """
    plain = replace(model.thresholds, corrections={}, weights={}, bursts={}, neuron=None)
    return SpikingModel(model.graph, plain, neuron="two-phase", steps=model.steps)


def quantised_row(name: str, method: str, twin: SpikingModel, found: Evaluation, counted: Operations) -> Row:
    """Return the row of a `quantised` ANN; it has no energy, as `ENERGY_MODELS` price 32-bit activations.

    Args:
        method: where its thresholds are from.
        found: the evaluation of ``twin``.
        counted: the operations of the network whose twin it is.
    """
    row = _analog_row(name, "quantised", method, found.marks.answers, found.marks.labels)
    bits = weight_bits(twin).weights
    return replace(row, steps=twin.steps, levels_per_step=twin.levels, macs=counted.ann_macs, weight_bits=bits)


def pairs(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return how every two networks differ, image by image; stochastic ones with their first seed.

    Returns:
        dictionaries: "first", "second": names; "agreement": percent of the images that get the same class; and
        `McNemar`'s fields.

    Raises:
        ValueError: the rows are of different images.
    """
    return [_pair(first, second) for first, second in combinations(rows, 2)]


def _pair(first: Row, second: Row) -> dict[str, Any]:
    if not np.array_equal(first.labels, second.labels):
        raise ValueError(f"{first.name} and {second.name} were evaluated on different images")
    test = mcnemar(first.answers == first.labels, second.answers == second.labels)
    alike = 100 * agreement(first.answers, second.answers)
    return {"first": first.name, "second": second.name, "agreement": alike, **asdict(test)}


def _analog_row(name: str, kind: Kind, method: str, answers: NDArray[np.int64], labels: NDArray[np.int64]) -> Row:
    right = int((answers == labels).sum())
    low, high = wilson(right, labels.size)
    top1 = 100 * right / labels.size
    return Row(name, kind, method, top1, (100 * low, 100 * high), labels.size, answers, labels)


def _levels_per_step(model: SpikingModel) -> int:
    bursts = model.thresholds.bursts
    spikes = ((1 + (site.spikes == "ternary")) * bursts.get(site.name, 1) for site in model.graph.sites)
    return 1 + max(spikes, default=0)


def _cost(about: dict[str, Any]) -> dict[str, Any] | None:
    kind = "calibration" if about.get("training") is None else "training"
    made = about.get(kind) or {}
    known = {name: made.get(name) for name in ("seconds", "images", "epochs")}
    return {"kind": kind, **known} if any(value is not None for value in known.values()) else None
