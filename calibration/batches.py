"""Batches of images as the steps of a calibration take them."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from snnconvert.converter.graph import PreparedGraph

Batches = Iterable[Tensor | tuple[Tensor, ...] | list[Tensor]]


def first(batches: Batches, count: int) -> Iterator[Any]:
    """Yield ``batches`` until ``count`` images have come; the last batch is cut."""
    for batch in batches:
        parts = (batch,) if isinstance(batch, Tensor) else tuple(batch)
        yield tuple(part[:count] for part in parts)
        count -= len(parts[0])
        if count <= 0:
            return


def first_inputs(graph: PreparedGraph, batch: Tensor | tuple[Tensor, ...] | list[Tensor]) -> tuple[Tensor, ...]:
    """Return the tensors of ``batch`` that ``graph`` takes, one for each input.

    Raises:
        DataRefused: images of another shape, number or type than the network takes.
    """
    inputs = (batch,) if isinstance(batch, Tensor) else tuple(batch)[: len(graph.input_shapes)]
    graph.check_inputs(inputs)
    return inputs
