"""`snnconvert zoo`: the names of architectures, data sets, weights, spiking networks and ways to train them."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from snnconvert.converter.errors import choice

from . import options
from .output import Output, Table

Kind = Annotated[
    str | None,
    typer.Argument(metavar="[KIND]", help="architectures, datasets, weights, spiking or methods.", show_default="all"),
]
Filter = Annotated[str | None, options.run("--filter", metavar="GLOB", help="Only names like this: '*resnet18*'.")]
Entry = dict[str, str]

OWN = "zoo:*"
"""What is listed of the architectures unless more is asked for: torchvision and timm have well over a thousand."""


def zoo(kind: Kind = None, pattern: Filter = None, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the names that MODEL, ARTEFACT, METHOD and --data take."""
    out = Output(json=json, quiet=quiet)
    wanted = tuple(LISTS) if kind is None else (choice("list", kind, tuple(LISTS)),)
    found = {name: [entry for entry in LISTS[name]() if _matches(entry["name"], pattern)] for name in wanted}
    if kind is None and pattern is None:
        everything = len(found["architectures"])
        for name in ("architectures", "weights"):
            found[name] = [entry for entry in found[name] if _matches(entry["name"], OWN)]
        more = everything - len(found["architectures"])
        out.talk("more", f"{more} architectures of torchvision and timm: `snnconvert zoo architectures --filter GLOB`")
    out.result(dict(found), *(_table(name, entries) for name, entries in found.items()))


def _architectures() -> list[Entry]:
    from snnconvert.model_zoo import known_architectures

    return [{"name": each.name, "same as": each.same_as, "weights": each.weights} for each in known_architectures()]


def _datasets() -> list[Entry]:
    from snnconvert.model_zoo import DATASETS

    return [{"name": name, "description": text} for name, text in DATASETS.items()]


def _weights() -> list[Entry]:
    return [
        {"name": entry["name"], "weights": entry["weights"]} for entry in _architectures() if entry["weights"] != "none"
    ]


def _spiking() -> list[Entry]:
    from snnconvert.converter.artifact import load
    from snnconvert.model_zoo import shipped

    found = {f"zoo:{name}": load(path)[1]["training"] for name, path in shipped().items()}
    return [{"name": name, "trained with": training["command"]} for name, training in found.items()]


def _methods() -> list[Entry]:
    from dataclasses import fields

    from snnconvert.model_zoo.baselines import METHODS

    return [
        {
            "name": name,
            "description": method.about,
            "settings": ", ".join(f"{field.name}={field.default}" for field in fields(method)),
        }
        for name, method in METHODS.items()
    ]


LISTS: dict[str, Callable[[], list[Entry]]] = {
    "architectures": _architectures,
    "datasets": _datasets,
    "weights": _weights,
    "spiking": _spiking,
    "methods": _methods,
}


def _matches(name: str, pattern: str | None) -> bool:
    """Compare with the whole name and with the name less its library."""
    return pattern is None or fnmatchcase(name, pattern) or fnmatchcase(name.partition(":")[2], pattern)


def _table(title: str, entries: list[Entry]) -> Table:
    columns = tuple(entries[0]) if entries else ("name",)
    return Table(title, columns, [tuple(entry.values()) for entry in entries], words=len(columns))
