"""Measurements of several artefacts as one JSON document, or one table with the ANN in its first row."""

from typing import Any

from snnconvert.evaluation.result import Difference, Reference

from .measurement import Measurement
from .output import Table

Interval = tuple[float, float]


def document(measured: list[Measurement]) -> dict[str, Any]:
    """Return the JSON document: the evaluation itself for one artefact, a list of them for several."""
    found = documents(measured)
    return found[0] if len(found) == 1 else {"evaluations": found}


def documents(measured: list[Measurement]) -> list[dict[str, Any]]:
    """Return each evaluation with what it was made of, JSON-able."""
    return [
        {
            "artefact": str(each.path),
            "data": {"name": each.data, "split": each.split},
            "calibration": each.calibration,
            **({} if each.training is None else {"training": each.training}),
            **({} if each.drift is None else {"drift": each.drift.to_json()}),
            **({} if each.caution is None else {"caution": each.caution}),
            **each.evaluation.as_json(),
        }
        for each in measured
    ]


def tables(measured: list[Measurement]) -> list[Table]:
    """Return the table of accuracies, and one of top-1 after each step where networks stream."""
    first, names = measured[0], labels(measured)
    anns = {(each.ann, ann): _ann_row(each.ann, ann) for each in measured if (ann := each.evaluation.ann) is not None}
    accuracies = Table(
        f"{first.data}{first.split and f' ({first.split})'}, {first.evaluation.images} images",
        (
            *("network", "neuron", "spikes", "T", "end to end", "levels", "calibrated on", "seeds"),
            *("top-1", "95 % interval", "SNN - ANN (95 %)", "like ANN", "top-5"),
        ),
        [*anns.values(), *(_snn_row(label, each) for label, each in zip(names, measured, strict=True))],
        words=3,
    )
    streaming = [(label, by_t) for label, each in zip(names, measured, strict=True) if (by_t := each.evaluation.by_t)]
    return [accuracies, _by_t(dict(streaming))] if streaming else [accuracies]


def labels(measured: list[Measurement]) -> list[str]:
    """Return the artefacts' names, or their paths where two have one name."""
    stems = [each.path.stem for each in measured]
    return stems if len(set(stems)) == len(stems) else [str(each.path) for each in measured]


def _ann_row(name: str, ann: Reference) -> tuple[str, ...]:
    return (f"ANN {name}", *[""] * 7, f"{ann.top1:.2f}", "", "", "", _optional(ann.top5))


def _snn_row(label: str, each: Measurement) -> tuple[str, ...]:
    found, snn = each.evaluation, each.evaluation.snn
    return (
        label,
        found.neuron,
        found.spike_type,
        str(found.steps),
        str(found.end_to_end_steps),
        str(found.levels),
        _made_on(each),
        str(found.seeds),
        f"{snn.top1:.2f}" + (f" ± {snn.top1_std:.2f}" if snn.top1_std else ""),
        _interval(snn.ci95),
        _difference(snn.difference),
        "" if snn.agreement is None else f"{snn.agreement:.1f}",
        _optional(snn.top5),
    )


def _made_on(each: Measurement) -> str:
    if each.training is not None:
        return f"trained, {each.training.get('images', 'unknown')}"
    return str(each.calibration.get("images") or "no data")


def _difference(found: Difference | None) -> str:
    return "" if found is None else f"{round(found.points, 2) + 0.0:+.2f} {_interval(found.ci95, '+')}"


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
