"""The neurons of a site and how their values lie in memory, as functions in C and Triton kernels take them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Population(NamedTuple):
    """The neurons of a site.

    Args:
        axis: the dimension of the channels.
        theta: threshold, in units of the activation, one number or one for each channel.
        offset: what is added to the input of the window, or of the step, likewise; None for nothing.
        worth: by what spikes are multiplied, likewise; None for 1.
        steps: T.
        low, most: the fewest and the most spikes of a window.
        by_step: whether there is an offset for each step, in dimension 0.
    """

    axis: int
    theta: Tensor
    offset: Tensor | None
    worth: Tensor | None
    steps: int
    low: int
    most: int
    by_step: bool = False


class Rows(NamedTuple):
    """How values lie in memory: rows of ``length``, ``per_image`` of them for each image, one after the other.

    Args:
        images: there may be several rows in dimension 0 for each.
        per_image: rows of an image.
        length: elements of a row.
        channels: how many there are. Row number r has channel r mod ``channels``, or, where ``spread``, all of them.
        spread: whether a row goes through the channels.
        position, channel: how the neuron's number, its position in contiguous order, which selects its random number,
            grows from row to row, and along a row.
    """

    images: int
    per_image: int
    length: int
    channels: int
    spread: bool
    position: int
    channel: int


def rows_of(x: Tensor, neurons: Population, images: int) -> Rows | None:
    """Return how the inputs ``x`` of ``neurons`` lie in memory, None where compiled functions must not run.

    They take float32 numbers that have no gradient, that torch does not watch, without gaps, in contiguous order or
    channels last, and parameters that are one number or one for each channel, not one for each step.
    """
    if x.dtype != torch.float32 or x.requires_grad or not x.numel() or len(x) % images or _watched(x):
        return None
    if neurons.by_step:
        return None
    rows = _layout(x, neurons.axis, images)
    given = [p for p in (neurons.theta, neurons.offset, neurons.worth) if p is not None]
    if rows is None or any((p.dtype, p.device) != (x.dtype, x.device) for p in given):
        return None
    return rows if all(p.numel() in (1, rows.channels) for p in given) else None  # None for one of each neuron


def _watched(x: Tensor) -> bool:
    """Return whether torch traces, wraps or fakes ``x``, and would not see what a compiled function writes."""
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(x)
    return (
        type(x) is not Tensor or wrapped or torch._C._get_tracing_state() is not None or torch.compiler.is_compiling()
    )


def _layout(x: Tensor, axis: int, images: int) -> Rows | None:
    """Return the rows of ``x``, None where it has gaps or an order of its own."""
    channels, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])  # the stride of one channel may be any number
    per_image = x.numel() // images
    if x.is_contiguous():
        if inner > 1:
            return Rows(images, per_image // inner, inner, channels, False, inner, 1)
        return Rows(images, per_image // channels, channels, channels, True, channels, 1)
    if axis == 1 and len(x) == images and x.movedim(1, -1).is_contiguous():  # channels last
        positions = per_image // channels
        return Rows(images, positions, channels, channels, True, 1, positions)
    return None


def lie_alike(x: Tensor, y: Tensor) -> bool:
    """Return whether ``x`` is like ``y``, and its numbers lie in memory in the order of those of ``y``."""
    sides = zip(y.shape, x.stride(), y.stride(), strict=False)
    return x.device == y.device and x.shape == y.shape and all(size == 1 or one == other for size, one, other in sides)


def alike(currents: Tensor, potential: Tensor) -> bool:
    """Return whether each step of ``currents`` [steps, ...] is like ``potential`` and lies in memory as it does."""
    if currents.dtype != potential.dtype or currents.requires_grad:
        return False
    return not len(currents) or lie_alike(currents[0], potential)


def train_like(currents: Tensor, potential: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return an empty train in the shape of ``currents`` [steps, batch, ...], each step in memory as ``potential``."""
    numbers, strides = potential.numel(), potential.stride()
    if not potential.movedim(1, -1).is_contiguous():
        return torch.empty_like(currents, memory_format=torch.contiguous_format, dtype=dtype)
    return potential.new_empty(len(currents) * numbers, dtype=dtype).as_strided(currents.shape, (numbers, *strides))
