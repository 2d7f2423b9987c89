"""Build the index of architectures: ``python -m snnconvert.model_zoo.build_index``.

First every architecture is built twice on the meta device, with two numbers of classes, for its fingerprint. Then
those with equal fingerprints get equal random weights and are compared on one image. Both stages append to a log, so
that an interrupted run goes on where it stopped; a new version of a library needs ``--fresh``.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import timm_models, torchvision_models
from .architecture import Architecture
from .equivalence import SMALL_SIZE, TOLERANCE, difference, output, random_weights
from .fingerprint import hash_keys, hash_shapes, head_of, sketch
from .index import INDEX, Entry, write_index
from .libraries import timm, torchvision
from .zoo_models import ZOO

CLASSES = (1000, 1001)
LARGEST = 150_000_000  # parameters; above, two networks with the same tensors are taken for different ones


def architectures() -> Iterator[Architecture]:
    """Yield every architecture in the order of preference: the zoo's own, torchvision's, timm's."""
    yield from ZOO.values()
    for name in torchvision_models.names():
        yield _known(torchvision_models.find(name))
    for name in timm_models.names():
        yield _known(timm_models.find(name))


def fingerprint(architecture: Architecture) -> dict[str, Any]:
    """Return the name, hashes, head and parameter count of ``architecture`` as JSON types."""
    one, other = (architecture.shapes(classes) for classes in CLASSES)
    head = head_of(one, other)
    unexpected = [pair for pair in head if one[pair[0]][pair[1]] != CLASSES[0]]
    if unexpected:
        raise ValueError(f"{architecture.name}: {unexpected} change with the number of classes but are not equal to it")
    return {
        "name": architecture.name,
        "keys": hash_keys(one),
        "shapes": hash_shapes(one, head),
        "head": head,
        "pretrained": architecture.embedded is not None or architecture.fetch is not None,
        "sketch": sorted(sketch(one, head)),
        "parameters": sum(map(math.prod, one.values())),
    }


def compare(one: Architecture, other: Architecture) -> float:
    """Return the largest difference between two networks of equal tensors, on a small and on a customary image."""
    largest = 0.0
    weights = random_weights(one.build(10))
    for size in dict.fromkeys(((3, SMALL_SIZE, SMALL_SIZE), one.preprocessing.size)):
        results = [output(lambda each=each: each.build(10), weights, size) for each in (one, other)]  # type: ignore[misc]
        if results == [None, None] and size != one.preprocessing.size:
            continue
        largest = max(largest, difference(*results))
        if largest > TOLERANCE:
            break
    return largest


class Log:
    """JSON lines in a file that survive an interruption."""

    def __init__(self, path: Path) -> None:
        """Read the lines that are there."""
        self.path = path
        self.lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def append(self, line: dict[str, Any]) -> None:
        """Write ``line`` at once."""
        self.lines.append(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def take_fingerprints(log: Log) -> None:
    """Append the fingerprint of every architecture that ``log`` lacks."""
    done = {line["name"] for line in log.lines}
    for architecture in architectures():
        if architecture.name not in done:
            log.append(fingerprint(architecture))


def take_comparisons(fingerprints: list[dict[str, Any]], log: Log) -> dict[str, str]:
    """Return for every architecture the first one that computes the same function, comparing what ``log`` lacks."""
    done = {(line["one"], line["other"]): line["difference"] for line in log.lines}
    known = {architecture.name: architecture for architecture in architectures()}
    functions: dict[str, list[str]] = {}
    same_as = {}
    for line in fingerprints:
        name, group = line["name"], functions.setdefault(line["shapes"], [])
        for first in group if line["parameters"] <= LARGEST else []:
            if (first, name) not in done:
                started = time.perf_counter()
                done[first, name] = compare(known[first], known[name])
                seconds = round(time.perf_counter() - started, 1)
                log.append({"one": first, "other": name, "difference": done[first, name], "seconds": seconds})
            if done[first, name] <= TOLERANCE:
                same_as[name] = first
                break
        else:
            group.append(name)
    return same_as


def main() -> None:
    """Write the index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, default=Path("architectures-log"), help="folder of the unfinished work")
    parser.add_argument("--fresh", action="store_true", help="start again")
    parser.add_argument("-o", "--output", type=Path, default=INDEX)
    options = parser.parse_args()
    options.log.mkdir(parents=True, exist_ok=True)
    paths = [options.log / "fingerprints.jsonl", options.log / "comparisons.jsonl"]
    for path in paths if options.fresh else []:
        path.unlink(missing_ok=True)
    fingerprints, comparisons = map(Log, paths)
    take_fingerprints(fingerprints)
    same_as = take_comparisons(fingerprints.lines, comparisons)
    entries = [
        Entry(
            line["name"],
            line["keys"],
            line["shapes"],
            tuple((key, dimension) for key, dimension in line["head"]),
            same_as.get(line["name"], line["name"]),
            line["pretrained"],
            frozenset(line["sketch"]),
        )
        for line in fingerprints.lines
    ]
    versions = {"torchvision": torchvision().__version__, "timm": timm().__version__}
    write_index(options.output, entries, versions)
    print(f"{len(entries)} architectures, {len(set(same_as.values()))} of them under several names: {options.output}")


def _known(architecture: Architecture | None) -> Architecture:
    if architecture is None:
        raise ValueError("a library lists an architecture that it cannot find")
    return architecture


if __name__ == "__main__":
    main()
