"""The checkpoint of a training: weights, statistics, thresholds and momenta as tensors, and what came of each epoch."""

from pathlib import Path
from typing import Any

from torch import Tensor

from snnconvert.converter.errors import ArtefactRefused
from snnconvert.converter.tensor_file import read_tensors, write_tensors

_KEY, _FORMAT = "snnconvert-training", 1


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the document that `write_checkpoint` wrote.

    Raises:
        ArtefactRefused: the file cannot be read, or is something else.
    """
    try:
        return read_tensors(path, _KEY, _FORMAT, "checkpoint")
    except ArtefactRefused as error:
        hint = "`train --keep` leaves a checkpoint; remove a damaged one to begin anew"
        raise ArtefactRefused(error.message, hint) from error


def write_checkpoint(path: Path, tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
    """Write ``tensors`` and a ``document`` that JSON can hold.

    Raises:
        UsageError: the file cannot be written.
    """
    write_tensors(path, tensors, _KEY, {"format": _FORMAT, **document})


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Return in words which entries of nested dictionaries differ."""
    parts = []
    for key in (key for key in other if one.get(key) != other[key]):
        was, now = one.get(key), other[key]
        nested = isinstance(was, dict) and isinstance(now, dict)
        parts.append(difference(was, now) if nested else f"{key} was {was}, is {now}")  # type: ignore[arg-type]
    return ", ".join(parts)
