"""Which architecture a bare state_dict belongs to, found in the index and never by building the candidates."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from snnconvert.converter.errors import ModelRefused, listed

from .fingerprint import Head, Shapes, class_count, hash_keys, hash_shapes, shapes_of
from .index import Entry
from .nearest import describe_nearest


@dataclass(frozen=True)
class Recognition:
    """The architecture of a state_dict.

    Args:
        name: full name, ``library:name``.
        classes: number of classes, read from the shapes of the head.
        why: what the choice rests on, for people.
    """

    name: str
    classes: int
    why: str


def recognise(state: Mapping[str, Tensor], stem: str, entries: tuple[Entry, ...]) -> Recognition:
    """Return the architecture whose tensors have the names and shapes of ``state``.

    Candidates that compute the same function count as one; the file name decides among them, if it names one.

    Args:
        state: tensors by name.
        stem: file name without suffix, such as "tf_efficientnet_lite0" or "resnet50-0676ba61".
        entries: the index.

    Raises:
        ModelRefused: no architecture fits (the closest is named, with what differs), or several do.
    """
    shapes = shapes_of(state)
    candidates = _candidates(shapes, entries)
    if not candidates:
        raise ModelRefused(
            f"{len(state)} tensors whose names and shapes fit no known architecture{describe_nearest(shapes, entries)}",
            "name the code with --arch package.module:factory, or an architecture with --arch NAME",
        )
    named = _named(candidates, stem)
    chosen = _only_function(named or candidates)
    if chosen is None:
        functions = dict.fromkeys(entry.same_as for entry in candidates)
        raise ModelRefused(
            f"{len(functions)} architectures that differ have exactly these tensors: {', '.join(functions)}",
            f"choose one, for example --arch {(named or candidates)[0].name}",
        )
    return Recognition(chosen.name, _classes(shapes, chosen.head), _reason(chosen, candidates))


def _classes(shapes: Shapes, head: Head) -> int:
    count = class_count(shapes, head)
    if count is None:
        raise ModelRefused(f"the tensors {', '.join(key for key, _ in head)} disagree about the number of classes")
    return count


def _candidates(shapes: Shapes, entries: tuple[Entry, ...]) -> list[Entry]:
    keys = hash_keys(shapes)
    return [entry for entry in entries if entry.keys == keys and _fits(shapes, entry)]


def _fits(shapes: Shapes, entry: Entry) -> bool:
    return all(dim < len(shapes[key]) for key, dim in entry.head) and hash_shapes(shapes, entry.head) == entry.shapes


def _only_function(candidates: list[Entry]) -> Entry | None:
    return candidates[0] if len({entry.same_as for entry in candidates}) == 1 else None


def _named(candidates: list[Entry], stem: str) -> list[Entry]:
    """Return the candidates whose name stands in the file name as a whole word, the longest names only."""
    words = {}
    for entry in candidates:
        bare = entry.name.partition(":")[2]
        if re.search(rf"(?<![a-z0-9]){re.escape(bare)}(?![a-z0-9])", stem.lower()):
            words[entry.name] = bare
    longest = [bare for bare in words.values() if not any(bare != other and bare in other for other in words.values())]
    return [entry for entry in candidates if words.get(entry.name) in longest]


def _reason(chosen: Entry, candidates: list[Entry]) -> str:
    if len(candidates) == 1:
        return "the only architecture with these tensors"
    others = [entry for entry in candidates if entry is not chosen]
    different = [entry.name for entry in others if entry.same_as != chosen.same_as]
    if different:
        return f"named by the file; the same tensors fit {listed(different)} with another function"
    return f"{listed([entry.name for entry in others])} {'computes' if len(others) == 1 else 'compute'} the same"
