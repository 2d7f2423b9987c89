"""Names to architectures: the zoo's own, torchvision's and timm's."""

import difflib
from dataclasses import dataclass

from snnconvert.converter.errors import UsageError

from . import timm_models, torchvision_models
from .architecture import Architecture
from .index import index
from .zoo_models import ZOO

LIBRARIES = ("zoo", "torchvision", "timm")  # in the order of preference


@dataclass(frozen=True)
class KnownArchitecture:
    """A line of the list of architectures.

    Args:
        name: full name, ``library:name``.
        same_as: full name of the first architecture that computes the same function; ``name`` where it is the first.
        weights: "embedded", "library" (downloaded by torchvision or timm) or "none".
    """

    name: str
    same_as: str
    weights: str


def known_architectures() -> tuple[KnownArchitecture, ...]:
    """Return every architecture of the index, without importing torchvision or timm."""
    return tuple(
        KnownArchitecture(
            entry.name,
            entry.same_as,
            "none" if not entry.pretrained else "embedded" if entry.name.startswith("zoo:") else "library",
        )
        for entry in index()
    )


def find_architecture(name: str, stem: str = "") -> Architecture:
    """Return the architecture called ``name``: "zoo:resnet20", "torchvision:resnet18", "timm:resnet18" or bare.

    A bare name is looked for in the zoo, then in torchvision and timm; where both have it and it does not compute the
    same in both, the library has to be stated.

    Args:
        name: the name, with or without the library before a colon.
        stem: name without suffix of the file that holds the weights, if any.

    Raises:
        UsageError: no library has the name, or two have it for different networks.
    """
    library, _, bare = name.rpartition(":")
    if library and library not in LIBRARIES:
        raise UsageError(f"unknown library {library!r} in {name!r}: expected one of {', '.join(LIBRARIES)}")
    found = _find_in(library, bare, stem) if library else _find_anywhere(bare, stem)
    if found is None:
        raise UsageError(f"unknown architecture {name!r}", _suggestion(bare))
    return found


def _find_in(library: str, name: str, stem: str) -> Architecture | None:
    if library == "zoo":
        return ZOO.get(name)
    return torchvision_models.find(name, stem) if library == "torchvision" else timm_models.find(name)


def _find_anywhere(name: str, stem: str) -> Architecture | None:
    same_as = {entry.name: entry.same_as for entry in index()}
    homes = [library for library in LIBRARIES if f"{library}:{name}" in same_as]
    if "zoo" not in homes and len({same_as[f"{library}:{name}"] for library in homes}) > 1:
        names = " or ".join(f"{library}:{name}" for library in homes)
        raise UsageError(f"{name!r} names different networks in {' and '.join(homes)}", f"write {names}")
    candidates = (_find_in(library, name, stem) for library in homes or LIBRARIES)
    return next((found for found in candidates if found), None)


def _suggestion(name: str) -> str:
    known = [entry.name for entry in index()]
    bare = {full.partition(":")[2]: full for full in reversed(known)}
    close = [bare[match] for match in difflib.get_close_matches(name.lower(), bare, 3, 0.5)]
    listed = "`snnconvert zoo` lists the known ones"
    return f"did you mean {' or '.join(close)}? {listed}" if close else listed
