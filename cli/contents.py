"""What is inside an artefact or a calibration, as a JSON document and as tables.

Commands import this module late, because it imports torch.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from snnconvert.calibration import Calibration
from snnconvert.converter.artifact import load

from .output import Table

Contents = tuple[dict[str, Any], list[Table]]


def of_artefact(path: Path) -> Contents:
    """Say how the spiking network in ``path`` was made and list its sites with their thresholds."""
    model, about = load(path)
    if "attribution" in about:
        ranked = sorted(about["attribution"]["sites"], key=lambda entry: -(entry["own"] or 0))
        about = about | {"attribution": about["attribution"] | {"sites": ranked}}
    audit, thresholds = model.describe(), model.thresholds
    sites = [site | {"threshold": _spread(thresholds.values[site["name"]])} for site in audit["sites"]]
    document = {
        "artefact": str(path),
        **audit,
        "sites": sites,
        "thresholds": {
            "rule": thresholds.rule,
            "per": thresholds.per,
            "source": thresholds.source,
            "warnings": list(thresholds.warnings),
        },
        "about": about,
    }
    rows = [(name, _words(value)) for name, value in audit.items() if value and name not in ("sites", "notes")]
    source = {name: value for name, value in thresholds.source.items() if name != "corrections"}
    origin = f", from {_words(source)}" if source else ""
    rows += [("thresholds", f"{thresholds.rule} per {thresholds.per}{origin}")]
    rows += [("corrected", _words(step)) for step in thresholds.source.get("corrections", [])]
    rows += [("weights", f"{len(thresholds.weights)} tensors changed")] * bool(thresholds.weights)
    elsewhere = ("calibration", "recipe", "search", "adequacy", "attribution")
    rows += [("adequacy", about["adequacy"]["verdict"])] if "adequacy" in about else []
    rows += [(name, _words(value)) for name, value in about.items() if name not in elsewhere]
    rows += [("note", note) for note in (*audit["notes"], *thresholds.warnings)]
    found = [Table(str(path), ("what", "value"), rows, words=2), _sites(sites)]
    if "attribution" in about:
        found.append(_errors(about["attribution"]))
    if "search" in about:
        found.append(search_table(about["search"]))
    return document, found


def of_calibration(path: Path) -> Contents:
    """Say what the calibration in ``path`` was made from."""
    found = Calibration.load(path)
    document = {
        "calibration": str(path),
        "images": found.images,
        "sha256": found.sha256,
        "about": found.about,
        "warnings": list(found.warnings),
    }
    rows = [(name, _words(value)) for name, value in document.items() if name not in ("calibration", "warnings")]
    rows += [("warning", warning) for warning in found.warnings]
    return document, [Table(str(path), ("what", "value"), rows, words=2)]


def _errors(attribution: dict[str, Any]) -> Table:
    parts = [name for name in attribution["sites"][0] if name not in ("site", "own", "total")]
    rows = [
        (entry["site"], *("" if entry[name] is None else f"{entry[name]:.3f}" for name in ("own", *parts, "total")))
        for entry in attribution["sites"]
    ]
    title = f"where the error comes from, in units of the activation's mean square, on {attribution['images']} images"
    return Table(title, ("site", "own", *parts, "total"), rows)


def search_table(search: dict[str, Any]) -> Table:
    """Return the curve of a search as a table."""
    title = (
        f"top-1 of the networks that were tried, on {search['validation_images']} held-out training images; "
        f"the ANN's is {search['ann']:.2f}"
    )
    rows = [(point["neuron"], str(point["steps"]), f"{point['score']:.2f}") for point in search["curve"]]
    return Table(title, ("neuron", "T", "top-1"), rows)


def _spread(threshold: Tensor) -> dict[str, float]:
    return {
        "min": float(threshold.min()),
        "median": float(threshold.median()),
        "max": float(threshold.max()),
        "count": threshold.numel(),
    }


def _sites(sites: list[dict[str, Any]]) -> Table:
    rows = [
        (
            site["name"],
            "x".join(map(str, site["shape"])),
            *(f"{site['threshold'][name]:.4g}" for name in ("min", "median", "max")),
            str(site["threshold"]["count"]),
            "" if site["cap"] is None else f"{site['cap']:g}",
            str(site["burst"]) if site["burst"] > 1 else "",
        )
        for site in sites
    ]
    columns = ("site", "shape", "theta min", "median", "max", "thresholds", "cap", "burst")
    return Table("sites", columns, rows)


def _words(value: object) -> str:
    """Return a JSON value in one line without its punctuation."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items() if each is not None)
    if isinstance(value, list):
        return " ".join(_words(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
