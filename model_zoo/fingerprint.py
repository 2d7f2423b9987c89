"""What identifies an architecture in a bare state_dict: the names of its tensors, and their shapes.

The running count of batch norm (``num_batches_tracked``) is left out: old checkpoints lack it and no result depends
on it.
"""

import hashlib
from collections.abc import Iterable, Mapping

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
Head = tuple[tuple[str, int], ...]  # the (tensor, dimension) pairs that carry the number of classes
SKETCH_SIZE = 16


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of ``state`` but the counters of batch norm."""
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}


def hash_keys(shapes: Shapes) -> str:
    """Return 12 hexadecimal digits that identify the set of names."""
    return _digest("\n".join(sorted(shapes)))


def hash_shapes(shapes: Shapes, head: Head) -> str:
    """Return 12 hexadecimal digits that identify names and shapes, the dimensions in ``head`` left open."""
    return _digest("\n".join(_masked_lines(shapes, head)))


def sketch(shapes: Shapes, head: Head = ()) -> frozenset[str]:
    """Return the ``SKETCH_SIZE`` smallest hashes of names and of names with shapes: a bottom-k sketch (Broder 1997)."""
    return _bottom(_digest(text)[:5] for text in [*shapes, *_masked_lines(shapes, head)])


def resemblance(one: frozenset[str], other: frozenset[str]) -> float:
    """Estimate the Jaccard index of the two sets behind two sketches: the share of the joint sketch in both."""
    joint = _bottom(one | other)
    return len(joint & one & other) / max(1, len(joint))


def head_of(shapes: Shapes, other: Shapes) -> Head:
    """Return the (tensor, dimension) pairs in which two builds of one architecture with other class counts differ."""
    return tuple(
        (key, dimension)
        for key, shape in shapes.items()
        for dimension, (size, other_size) in enumerate(zip(shape, other[key], strict=True))
        if size != other_size
    )


def class_count(shapes: Shapes, head: Head) -> int | None:
    """Return the one size that all dimensions of ``head`` have in ``shapes``; None where they are absent or differ."""
    sizes = {shapes[key][dim] for key, dim in head if key in shapes and dim < len(shapes[key])}
    return sizes.pop() if len(sizes) == 1 else None


def _masked_lines(shapes: Shapes, head: Head) -> list[str]:
    open_dimensions = set(head)
    return [
        f"{key} {','.join('*' if (key, dim) in open_dimensions else str(size) for dim, size in enumerate(shapes[key]))}"
        for key in sorted(shapes)
    ]


def _bottom(hashes: Iterable[str]) -> frozenset[str]:
    return frozenset(sorted(set(hashes))[:SKETCH_SIZE])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
