"""A checked model as a JSON document, as tables, and as a refusal.

Commands import this module late, because it imports torch.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import redirect_stdout
from typing import Any

import torch

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import Audit, Entry, Role, check
from snnconvert.model_zoo import LoadedModel

from .output import Table


def inspect(loaded: LoadedModel) -> Audit:
    """Return what each operation of a model would become."""
    with redirect_stdout(sys.stderr):  # a model may print
        return check(loaded.model, torch.empty(2, *loaded.preprocessing.size, device="meta"))


def describe(loaded: LoadedModel, found: Audit) -> tuple[dict[str, Any], list[Table]]:
    """Return a check as a JSON document and as tables."""
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    size = "x".join(map(str, loaded.preprocessing.size))
    document = {"model": loaded.name, "parameters": parameters, "input": size, **found.to_json()}
    rows = [(entry.role, entry.name, entry.path or "(top level)", entry.source) for entry in found.operations]
    operations = Table("operations", ("class", "operation", "module", "source"), rows, words=4)
    tables = [operations if rows else None, _advice(found), _summary(loaded, parameters, size, found)]
    return document, [table for table in tables if table is not None]


def _advice(found: Audit) -> Table | None:
    given = Counter((entry.role, entry.name, entry.advice) for entry in found.operations if entry.advice)
    rows = [(role, f"{name} ({count})", advice) for (role, name, advice), count in given.items()]
    return Table("what to know, and to do", ("class", "operation", "advice"), rows, words=3) if rows else None


def _summary(loaded: LoadedModel, parameters: int, size: str, found: Audit) -> Table:
    neurons = [
        (name, reason or f"yes, by {', '.join(found.executors[name])}") for name, reason in found.neurons.items()
    ]
    rows = [
        ("model", f"{loaded.name}, {parameters / 1e6:.1f} million parameters, input {size}"),
        ("audit", found.verdict),
        *(neurons if found.convertible else []),
    ]
    return Table("summary", ("what", "value"), rows, words=2)


def refusal(found: Audit, *, strict: bool) -> tuple[str, str | None] | None:
    """Return message and hint where the model cannot be converted, or not to spikes alone if that is asked for."""
    if not found.convertible:
        if len(found.reasons) == 1:
            return found.reasons[0], None
        return f"{len(found.reasons)} reasons against a conversion:\n{_lines(found.reasons)}", None
    analog = found.of(Role.ANALOG)
    if strict and analog:
        count = "1 operation is" if len(analog) == 1 else f"{len(analog)} operations are"
        return f"{count} not spiking:\n{_lines(map(_place, analog))}", "leave out --strict"
    return None


def require_spiking(found: Audit) -> None:
    """Raise ModelRefused, with every analog operation by name, unless there is none."""
    refused = refusal(found, strict=True)
    if refused is not None:
        raise ModelRefused(*refused)


def _place(entry: Entry) -> str:
    return f"{entry.path or '(top level)'}: {entry.name}" + (f" at {entry.source}" if entry.source else "")


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(f"  {text}" for text in texts)
