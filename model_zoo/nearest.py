"""What to say of tensors that fit no architecture: the closest one, and where it differs."""

from .architectures import find_architecture
from .fingerprint import Shapes, class_count, resemblance, sketch
from .index import Entry
from .matching import mismatches

SHORTLIST = 5
ALIKE = 0.25  # share of common names and shapes below which a suggestion would mislead


def describe_nearest(shapes: Shapes, entries: tuple[Entry, ...]) -> str:
    """Return "; the closest is NAME: ..." with the tensors that differ, or "" where nothing is close.

    The sketches of the index give a short list; only these are built, without memory, and compared tensor by tensor.
    """
    sampled = sketch(shapes)
    scores = {entry: resemblance(sampled, entry.sketch) for entry in _distinct(entries)}
    close = sorted((entry for entry in scores if scores[entry] >= ALIKE), key=lambda entry: -scores[entry])
    differences = {entry.name: _differences(shapes, entry) for entry in close[:SHORTLIST]}
    if not differences:
        return ""
    best = min(differences, key=lambda name: differences[name][0])
    return f"; the closest is {best}: {'; '.join(mismatches(differences[best][1], shapes))}"


def _distinct(entries: tuple[Entry, ...]) -> list[Entry]:
    return list({entry.shapes: entry for entry in reversed(entries)}.values())[::-1]


def _differences(given: Shapes, entry: Entry) -> tuple[int, Shapes]:
    architecture = find_architecture(entry.name)
    expected = architecture.shapes(class_count(given, entry.head) or architecture.classes)
    return sum(given.get(key) != expected.get(key) for key in given.keys() | expected.keys()), expected
