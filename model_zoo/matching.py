"""How the tensors of a file differ from those a network has, in words."""

from snnconvert.converter.errors import listed

from .fingerprint import Shapes


def mismatches(expected: Shapes, given: Shapes) -> tuple[str, ...]:
    """Return one phrase for each kind of difference: missing, unexpected and mis-shaped tensors, the first few named.

    Args:
        expected: shapes by name of the network.
        given: shapes by name of the file.
    """
    shapes = [
        f"{key} (expected {list(expected[key])}, got {list(given[key])})"
        for key in expected
        if key in given and given[key] != expected[key]
    ]
    kinds = {
        "missing": [key for key in expected if key not in given],
        "unexpected": [key for key in given if key not in expected],
        "of another shape": shapes,
    }
    return tuple(f"{len(found)} {kind}: {listed(found)}" for kind, found in kinds.items() if found)
