"""`eval --beside`: one table of ANN, quantised ANN, converted and directly trained networks on the same images.

Commands import this module late, because it imports torch.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snnconvert.calibration import Calibration
from snnconvert.converter import processes
from snnconvert.converter.errors import Refused, UsageError
from snnconvert.converter.thresholds import alike, norms
from snnconvert.evaluation import (
    Operations,
    Row,
    ann_row,
    evaluate,
    operations,
    pairs,
    quantised,
    quantised_row,
    spiking_row,
)

from . import destination
from .comparison import documents, labels
from .measurement import Measurement, measure_subject
from .output import Output, Table
from .row_table import recognise_csv, table, write_csv
from .subject import Chosen, Conditions, Subject, open_subject

COUNTED = 500
"""Images, the first ones of the test, on which operations are counted."""


@dataclass(frozen=True)
class Network:
    """A spiking network, and what was measured of it."""

    label: str
    subject: Subject
    measured: Measurement
    counted: Operations


@dataclass(frozen=True)
class Comparison:
    """Spiking networks in the order in which they were named, the rows of all networks, and how these differ."""

    networks: list[Network]
    rows: list[Row]
    pairs: list[dict[str, Any]]

    @property
    def measured(self) -> list[Measurement]:
        """What was measured of each spiking network."""
        return [each.measured for each in self.networks]

    @property
    def title(self) -> str:
        """What was compared, and on what."""
        first = self.measured[0]
        more = f" and {len(self.networks) - 1} more" if len(self.networks) > 1 else ""
        data = f"{first.data}{first.split and f' ({first.split})'}"
        return f"{self.networks[0].label}{more} on {data}, {first.evaluation.images} images"

    def as_json(self) -> dict[str, Any]:
        """Return the evaluations, rows and pairs as the JSON document."""
        rows = [row.as_json() for row in self.rows]
        return {"evaluations": documents(self.measured), "rows": rows, "pairs": self.pairs}

    def table(self) -> Table:
        """Return the rows in words."""
        counted = self.networks[0].counted.images
        return table(f"{self.title}; operations and energy of one image, mean over the first {counted}", self.rows)


def compare(out: Output, chosen: Chosen, conditions: Conditions, expected: Calibration | None = None) -> Comparison:
    """Evaluate each artefact, count its operations, and compare them; errors are those of `measure_subject`.

    An average pool of spikes counts as part of the synapses behind it: a factor of their weights, no work of its own.

    Args:
        expected: a calibration to compare the images with, for the artefacts to evaluate and not for those beside them.
    """
    found = []
    for path in (*chosen.paths, *chosen.others):
        subject = open_subject(path, conditions)
        measured = measure_subject(out, subject, None if path in chosen.others else expected)
        few = min(COUNTED, measured.evaluation.images)
        counted = operations(subject.model, subject.batches(out, few, f"operations of {path.name}"), fold_pools=True)
        found.append((subject, measured, counted))
    names = labels([measured for _, measured, _ in found])
    networks = [Network(name, *each) for name, each in zip(names, found, strict=True)]
    rows = _rows(out, networks)
    return Comparison(networks, rows, pairs(rows))


def check_files(csv: Path | None, report: Path | None) -> None:
    """Check that the files can be written: that there is nothing yet, or what an earlier run wrote.

    Raises:
        UsageError: a folder is there, nothing can be written there, or both are one file.
        Refused: something else is there.
    """
    if csv is not None and report is not None and csv.resolve() == report.resolve():
        raise UsageError(f"--csv and --report are both {csv}", "name two files")
    if processes.rank():
        return
    if csv is not None:
        destination.writable(csv, force=True, recognise=recognise_csv, flag="--csv")
    if report is not None:
        destination.writable(report, force=True, recognise=_recognise_page, flag="--report")


def write_files(out: Output, found: Comparison, csv: Path | None, report: Path | None) -> None:
    """Write the rows, and the page; the first process does."""
    if processes.rank():
        return
    if csv is not None:
        write_csv(csv, found.rows)
        out.talk("rows", csv)
    if report is not None:
        from snnconvert.evaluation.report import write

        from .reporting import make_report

        write(report, make_report(found))
        out.talk("report", report)


def _recognise_page(path: Path) -> None:
    with path.open(errors="replace") as file:
        start = file.read(1000).lower()
    if not start.startswith("<!doctype html") or "snnconvert" not in start:
        raise Refused(f"{path} is not a report of snnconvert")


def _rows(out: Output, networks: list[Network]) -> list[Row]:
    """Return a row for each ANN, for each ANN with as many levels as the networks converted from it, and for each one.

    A quantised ANN has the thresholds of the first network of its T.
    """
    spiking = [
        spiking_row(each.label, each.subject.model, each.subject.about, each.measured.evaluation, each.counted)
        for each in networks
    ]
    return _distinct([*_ann_rows(networks), *_quantised_rows(out, networks), *spiking])


def _distinct(rows: list[Row]) -> list[Row]:
    """Number the rows that share a name, such as ANNs of one architecture with different weights."""
    shared = {name for name, count in Counter(row.name for row in rows).items() if count > 1}
    numbers: Counter[str] = Counter()
    found = []
    for row in rows:
        numbers[row.name] += 1
        found.append(replace(row, name=f"{row.name} #{numbers[row.name]}") if row.name in shared else row)
    return found


def _ann_rows(networks: list[Network]) -> list[Row]:
    """Return a row for each ANN that was compared with, with operations where its graph is at hand."""
    rows = {}
    for each in sorted(networks, key=lambda each: each.subject.direct):  # stable: converted ones know their ANN
        found, own = each.measured.evaluation, not each.subject.direct and each.subject.conditions.against is None
        if found.ann is not None and (key := (each.measured.ann, found.ann)) not in rows:
            graph = (each.subject.model, each.counted) if own else (None, None)
            rows[key] = ann_row(each.measured.ann, found, *graph)
    return list(rows.values())


def _quantised_rows(out: Output, networks: list[Network]) -> list[Row]:
    done: list[tuple[tuple[float, ...], int]] = []
    rows = []
    for each in networks:
        model, weights = each.subject.model, norms(each.subject.model.graph)
        if each.subject.direct or any(alike(weights, other) and model.steps == steps for other, steps in done):
            continue
        done.append((weights, model.steps))
        twin = quantised(model)
        name = f"{each.subject.about['model'].get('name')}, {twin.levels} levels"
        batches = each.subject.batches(out, each.subject.conditions.images, name)
        found = evaluate(twin, batches, alone=True)
        rows.append(quantised_row(name, f"thresholds of {each.label}", twin, found, each.counted))
    return rows
