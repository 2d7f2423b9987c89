"""Measurements of several artefacts as one JSON document, or one table with the ANN in its first row."""

from typing import Any

from .measurement import Measurement
from .output import Table

Interval = tuple[float, float]


def document(measured: list[Measurement]) -> dict[str, Any]:
    """Return the JSON document: the evaluation itself for one artefact, a list of them for several."""
    documents = [
        {
            "artefact": str(each.path),
            "data": {"name": each.data, "split": each.split},
            "calibration": each.calibration,
            **({} if each.drift is None else {"drift": each.drift.to_json()}),
            **each.evaluation.as_json(),
        }
        for each in measured
    ]
    return documents[0] if len(documents) == 1 else {"evaluations": documents}


def tables(measured: list[Measurement]) -> list[Table]:
    """Return the table of accuracies, and one of top-1 after each step where networks stream."""
    first, labels = measured[0], _labels(measured)
    anns = {(each.ann, each.evaluation.ann): _ann_row(each) for each in measured}
    accuracies = Table(
        f"{first.data}{first.split and f' ({first.split})'}, {first.evaluation.images} images",
        (
            *("network", "neuron", "spikes", "T", "end to end", "levels", "calibrated on", "seeds"),
            *("top-1", "95 % interval", "SNN - ANN (95 %)", "like ANN", "top-5"),
        ),
        [*anns.values(), *(_snn_row(label, each) for label, each in zip(labels, measured, strict=True))],
        words=3,
    )
    streaming = [(label, by_t) for label, each in zip(labels, measured, strict=True) if (by_t := each.evaluation.by_t)]
    return [accuracies, _by_t(dict(streaming))] if streaming else [accuracies]


def _labels(measured: list[Measurement]) -> list[str]:
    """Return the artefacts' names, or their paths where two have one name."""
    stems = [each.path.stem for each in measured]
    return stems if len(set(stems)) == len(stems) else [str(each.path) for each in measured]


def _ann_row(each: Measurement) -> tuple[str, ...]:
    ann = each.evaluation.ann
    return (f"ANN {each.ann}", *[""] * 7, f"{ann.top1:.2f}", "", "", "", _optional(ann.top5))


def _snn_row(label: str, each: Measurement) -> tuple[str, ...]:
    found, snn = each.evaluation, each.evaluation.snn
    return (
        label,
        found.neuron,
        found.spike_type,
        str(found.steps),
        str(found.end_to_end_steps),
        str(found.levels),
        str(each.calibration.get("images") or "no data"),
        str(found.seeds),
        f"{snn.top1:.2f}" + (f" ± {snn.top1_std:.2f}" if snn.top1_std else ""),
        _interval(snn.ci95),
        f"{round(snn.difference.points, 2) + 0.0:+.2f} {_interval(snn.difference.ci95, '+')}",
        f"{snn.agreement:.1f}",
        _optional(snn.top5),
    )


def _by_t(streaming: dict[str, list[float]]) -> Table:
    """Return top-1 after 1, 2, 4, ... and all steps; the JSON document has every step."""
    lengths = {len(by_t) for by_t in streaming.values()}
    times = sorted(lengths | {2**power for power in range(max(lengths).bit_length())})
    rows = [(str(t), *(f"{by_t[t - 1]:.2f}" if t <= len(by_t) else "" for by_t in streaming.values())) for t in times]
    return Table("top-1 after t steps", ("t", *streaming), rows)


def _interval(interval: Interval, sign: str = "") -> str:
    return f"[{interval[0]:{sign}.1f}, {interval[1]:{sign}.1f}]"


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
