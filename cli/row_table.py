"""Rows as a table of words, and as a file of comma-separated values."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snnconvert.converter.errors import Refused
from snnconvert.converter.whole_file import written_whole
from snnconvert.evaluation import ENERGY_MODELS, Row

from .output import Table

_PREFIXES = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12}
_PICO = 1e-12
_UNITS = {
    "top1": "percent",
    "top1_std": "points",
    "ci95_low": "percent",
    "ci95_high": "percent",
    "first_answer": "steps",
    "interval": "steps",
    **{f"energy_{name}": "picojoules" for name in ENERGY_MODELS},
}


def table(title: str, rows: Sequence[Row]) -> Table:
    """Return the rows in words; what does not apply or is not known is left empty."""
    columns = ("network", "kind", "method", "spikes", "T", "end to end", "levels/step", "top-1", "95 % interval")
    counted = ("spikes/neuron", "synaptic ops", "MACs", *ENERGY_MODELS, "weights", "made in")
    return Table(title, (*columns, *counted), [_words(row) for row in rows], words=4)


def _words(row: Row) -> tuple[str, ...]:
    return (
        *(row.name, row.kind, row.method, row.spike_type or ""),
        *(_optional(value) for value in (row.steps, row.end_to_end_steps, row.levels_per_step)),
        f"{row.top1:.2f}" + (f" ± {row.top1_std:.2f}" if row.top1_std else ""),
        f"[{row.ci95[0]:.1f}, {row.ci95[1]:.1f}]",
        _optional(row.spikes_per_neuron, ".3f"),
        *(engineering(value) for value in (row.synaptic_operations, row.macs)),
        *(engineering(_joules(row, name), "J") for name in ENERGY_MODELS),
        engineering(row.weight_bits, "bit"),
        engineering((row.cost or {}).get("seconds"), "s"),
    )


def _joules(row: Row, model: str) -> float | None:
    return row.energy[model] * _PICO if model in row.energy else None


def _optional(value: float | None, form: str = "") -> str:
    return "" if value is None else format(value, form)


def engineering(value: float | None, unit: str = "") -> str:
    """Return ``value`` with three or four digits, a prefix and its unit.

    >>> engineering(12345678, "bit"), engineering(4.2e-6, "J"), engineering(None)
    ('12.35 Mbit', '4.2 uJ', '')
    """
    if value is None:
        return ""
    prefix, size = next((found for found in _PREFIXES.items() if abs(value) >= found[1]), ("", 1.0))
    return f"{value / size:.4g} {prefix}{unit}".rstrip()


def flat(row: Row) -> dict[str, Any]:
    """Return the row as one line of a table: nested values apart, units in the names, None where nothing is known."""
    found = row.as_json()
    low, high = found.pop("ci95")
    energy, cost = found.pop("energy"), found.pop("cost") or {}
    found |= {"ci95_low": low, "ci95_high": high}
    found |= {f"energy_{name}": energy.get(name) for name in ENERGY_MODELS}
    found |= {f"cost_{name}": cost.get(name) for name in ("kind", "seconds", "images", "epochs")}
    return {f"{name}_{_UNITS[name]}" if name in _UNITS else name: value for name, value in found.items()}


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write one line for each row below a line of names, all or nothing.

    Raises:
        OSError: the file cannot be written.
    """
    lines = [flat(row) for row in rows]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    with written_whole(path) as part:
        part.write_text(text.getvalue(), newline="")


def recognise_csv(path: Path) -> None:
    """Do nothing if ``path`` holds rows.

    Raises:
        Refused: it is something else.
    """
    with path.open(newline="", errors="replace") as file:
        names = next(csv.reader(file), [])
    if names[:2] != ["name", "kind"]:
        raise Refused(f"{path} does not begin with the columns of a comparison")
