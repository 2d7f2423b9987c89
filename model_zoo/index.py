"""The generated index of architectures: which names and shapes of tensors belong to which network.

``data/architectures.json`` holds one line per architecture; ``python -m snnconvert.model_zoo.build_index`` writes it.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .fingerprint import Head

INDEX = Path(__file__).parent / "data" / "architectures.json"
COLUMNS = ("name", "keys", "shapes", "head", "same_as", "pretrained", "sketch")


@dataclass(frozen=True)
class Entry:
    """One architecture of the index.

    Args:
        name: full name, ``library:name``.
        keys: hash of the names of its tensors.
        shapes: hash of names and shapes, the dimensions in ``head`` left open.
        head: the (tensor, dimension) pairs that carry the number of classes.
        same_as: the first entry that computes the same function; its own name where it is the first.
        pretrained: whether its library, or the package, has weights for it.
        sketch: sample of its names and shapes, to find the closest architecture.
    """

    name: str
    keys: str
    shapes: str
    head: Head
    same_as: str
    pretrained: bool
    sketch: frozenset[str]


def read_index(path: Path) -> tuple[Entry, ...]:
    """Return the entries of the index in ``path``: the zoo's own first, then torchvision's, then timm's."""
    sketches: dict[str, frozenset[str]] = {}
    return tuple(_entry(line, sketches) for line in json.loads(path.read_text())["entries"])


@cache
def index() -> tuple[Entry, ...]:
    """Return the entries of the index that comes with the package."""
    return read_index(INDEX)


def write_index(path: Path, entries: list[Entry], versions: dict[str, str]) -> None:
    """Write ``entries`` as JSON, one a line, equal sketches once."""
    seen: set[str] = set()
    lines = []
    for entry in entries:
        lines.append(json.dumps(_line(entry, entry.shapes not in seen), separators=(",", ":")))
        seen.add(entry.shapes)
    head = f'"versions": {json.dumps(versions)},\n"columns": {json.dumps(COLUMNS)}'
    path.write_text("{\n" + head + ',\n"entries": [\n' + ",\n".join(lines) + "\n]\n}\n")


def _line(entry: Entry, with_sketch: bool) -> list[Any]:
    head = [f"{key}:{dimension}" for key, dimension in entry.head]
    same_as = "" if entry.same_as == entry.name else entry.same_as
    sampled = "".join(sorted(entry.sketch)) if with_sketch else ""
    return [entry.name, entry.keys, entry.shapes, head, same_as, int(entry.pretrained), sampled]


def _entry(line: list[Any], sketches: dict[str, frozenset[str]]) -> Entry:
    name, keys, shapes, head, same_as, pretrained, sampled = line
    if sampled:
        sketches[shapes] = frozenset(sampled[start : start + 5] for start in range(0, len(sampled), 5))
    pairs = tuple((key, int(dimension)) for key, _, dimension in (pair.rpartition(":") for pair in head))
    return Entry(name, keys, shapes, pairs, same_as or name, bool(pretrained), sketches[shapes])
