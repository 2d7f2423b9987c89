"""Where the images, and where the channels, lie in each tensor of a canonical graph.

Three entries of ``node.meta``:

- ``shape``: the shape for one image, the batch dimension included.
- ``batch``: the dimension that follows the number of images, or None where there is no such. One image may have
  several rows there (windows of attention); images come one after the other.
- ``axis``: the dimension of the channels, for which thresholds may differ.
"""

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from ..errors import ModelRefused
from .on_shapes import OnShapes
from .operations import LAYOUT, SYNAPSES
from .signals import constants, nodes_in
from .sites import site_of
from .specialise import run_shapes

Shape = tuple[int, ...]

_FAULT = "does it change the type of a tensor on the way? if not, this is a fault of snnconvert: please report it"

_CHANNELS_SECOND = frozenset({*SYNAPSES.values(), F.group_norm, F.instance_norm}) - {F.linear}
_CHANNELS_LAST = frozenset({F.linear, F.layer_norm, F.rms_norm, F.scaled_dot_product_attention, torch.matmul})


def record_shapes(module: fx.GraphModule, shapes: tuple[Shape, ...], dtype: torch.dtype, on_shapes: OnShapes) -> None:
    """Store in each node's ``meta`` what the module's docstring says, and one image's shape in each site.

    Args:
        shapes: of one image of each input.

    Raises:
        ModelRefused: the graph fails on images of these shapes.
    """
    try:
        two, three = run_shapes(module, shapes, dtype, on_shapes).values()
    except ModelRefused as error:
        raise ModelRefused(f"the model runs, but its rewritten graph does not: {error.message}", _FAULT) from error
    fixed = constants(module.graph)
    for node in module.graph.nodes:
        if node in fixed or node.op == "output":
            node.meta["shape"] = tuple(getattr(two.get(node), "shape", ()))
            node.meta["batch"] = None
            continue
        batch, shape = _layout(two[node], three[node])
        node.meta["batch"], node.meta["shape"] = batch, shape
        axis = _channel_axis(node, shape, fixed)
        node.meta["axis"] = axis if axis != batch else len(shape) - 1  # a reshape may hide the channels among images
        site = site_of(node)
        if site is not None:
            site.shape, site.axis = shape[1:], node.meta["axis"]


def _layout(two: Any, three: Any) -> tuple[int | None, Shape]:
    """Return the batch dimension and the shape for one image, from the shapes for two and three images."""
    changing = [i for i, (a, b) in enumerate(zip(two, three, strict=False)) if a != b]
    if len(two) != len(three) or len(changing) != 1:
        return None, tuple(two)
    (dim,) = changing
    rows = three[dim] - two[dim]
    if rows < 1 or two[dim] != 2 * rows:
        return None, tuple(two)
    return dim, (*two[:dim], rows, *two[dim + 1 :])


def _channel_axis(node: fx.Node, shape: Shape, fixed: set[fx.Node]) -> int:
    rank = len(shape)
    sources = [n for n in nodes_in((node.args, node.kwargs)) if n not in fixed]
    if rank < 2 or node.target in _CHANNELS_LAST:
        return rank - 1
    customary = rank - 1 if rank == 3 else 1
    if node.target in _CHANNELS_SECOND or not sources:
        return 1 if sources else customary
    before: int = sources[0].meta["axis"]
    source_shape: Shape = sources[0].meta["shape"]
    args: tuple[Any, ...] = node.args
    if node.target is torch.permute:
        dims: Any = args[1] if len(args) > 1 else node.kwargs["dims"]
        return [d % rank for d in dims].index(before)
    if node.target is torch.transpose:
        pair: list[int] = [d % rank for d in (*args[1:3], *node.kwargs.values())]
        return pair[1 - pair.index(before)] if before in pair else before
    if len(source_shape) == rank and (node.target not in LAYOUT.values() or source_shape[before] == shape[before]):
        return before
    if node.target in (torch.reshape, torch.flatten):
        found = _reshaped_axis(source_shape, shape, before)
        return customary if found is None else found
    return customary


def _reshaped_axis(old: Shape, new: Shape, axis: int) -> int | None:
    """Return the dimension of ``new`` that holds the same steps through memory as ``axis`` of ``old``."""
    after = prod(old[axis + 1 :])
    return next((i for i in range(len(new)) if new[i] == old[axis] and prod(new[i + 1 :]) == after), None)


def rows_of(node: fx.Node) -> int:
    """Return how many rows of dimension ``meta["batch"]`` belong to one image."""
    rows: int = node.meta["shape"][node.meta["batch"]]
    return rows
