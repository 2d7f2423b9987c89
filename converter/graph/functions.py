"""Functions of the operation table that torch has as tensor methods only, or not at all."""

import torch
import torch.nn.functional as F
from torch import Tensor


def expand(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ``x`` repeated along its dimensions of size 1; -1 keeps a size."""
    return x.expand(shape)


def repeat(x: Tensor, times: tuple[int, ...]) -> Tensor:
    """Return ``x`` repeated ``times`` along each dimension."""
    return x.repeat(times)


def windows(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Return all windows of ``size`` along ``dimension``, every ``step``, in a new last dimension (`Tensor.unfold`)."""
    return x.unfold(dimension, size, step)


def pad_lowest(x: Tensor, pad: tuple[int, ...]) -> Tensor:
    """Return ``x`` padded with the lowest number, which no maximum sees; ``pad`` is that of `F.pad`.

    Models pad with minus infinity, whose changes over time are no numbers.
    """
    return F.pad(x, pad, value=torch.finfo(x.dtype).min)


def to_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``x`` in another type of number, such as a comparison's result as zeros and ones."""
    return x.to(dtype)


def assign(x: Tensor, index: object, value: Tensor | float) -> Tensor:
    """Return ``x`` with ``value`` at ``index``: what ``x[index] = value`` makes of it."""
    result = x.clone()
    result[index] = value  # type: ignore[index]
    return result


def per_image(constant: Tensor, images: Tensor) -> Tensor:
    """Return ``constant`` [rows, ...] once for each of ``images`` [batch, ...]: [batch rows, ...]."""
    return repeat_rows(constant, len(images))


def repeat_rows(rows: Tensor, times: int) -> Tensor:
    """Return ``rows`` [rows, ...] one set after the other: [times rows, ...]."""
    return rows.repeat(times, *[1] * (rows.ndim - 1))
