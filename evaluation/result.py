"""What an evaluation found, in the shape that is printed and kept."""

from dataclasses import asdict, dataclass, field
from typing import Any

from .marks import NO_MARKS, Marks
from .statistics import Interval


@dataclass(frozen=True)
class Reference:
    """The ANN's accuracy in percent; ``top5`` is None below six classes."""

    top1: float
    top5: float | None


@dataclass(frozen=True)
class Difference:
    """SNN minus ANN in points, paired over the images, with its 95 % interval."""

    points: float
    ci95: Interval


@dataclass(frozen=True)
class Spiking:
    """The SNN's accuracy in percent, the mean over seeds.

    ``top1_std`` is the sample deviation over seeds (0 for a deterministic network, None for a single seed);
    ``ci95`` the Wilson interval of ``top1`` over images; ``agreement`` the share of images that get the ANN's class.
    Without an ANN there is neither ``agreement`` nor ``difference``.
    """

    top1: float
    top5: float | None
    top1_std: float | None
    ci95: Interval
    agreement: float | None
    difference: Difference | None


@dataclass(frozen=True)
class Evaluation:
    """What was measured and everything needed to compare it; percents are 0-100.

    ``by_t`` is top-1 after 1..T steps for a streaming network, None where an answer exists only after the window;
    ``end_to_end_steps`` the steps to the first answer and ``interval`` those between answers when pipelined;
    ``seconds`` those of this run alone, so few where it went on from shards, and the slowest process's of several;
    ``ann`` is None where there was no ANN to compare with. ``marks`` are the answers to each image, in the order of the
    batches, and no part of the JSON form.
    """

    ann: Reference | None
    snn: Spiking
    by_t: list[float] | None
    neuron: str
    steps: int
    end_to_end_steps: int
    interval: int
    levels: int
    spike_type: str
    executor: str
    seeds: int
    images: int
    seconds: float
    marks: Marks = field(default=NO_MARKS, repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Return the same as nested dictionaries that json.dumps takes."""
        document = asdict(self)
        del document["marks"]
        return document
