"""Spell ``x[mask] = number`` as a function: a mask that depends on the image cannot be averaged over time."""

import operator
from typing import Any

import torch
from torch import fx

from ..errors import ModelRefused
from . import functions
from .signals import constants, nodes_in


def spell_masked_writes(module: fx.GraphModule) -> None:
    """Rewrite each ``x[mask] = number`` of ``module`` whose mask depends on the image as `torch.masked_fill`, in place.

    Args:
        module: a canonical graph whose nodes carry the ``shape`` and ``dtype`` of their results.

    Raises:
        ModelRefused: names all other writes to places that depend on the image.
    """
    fixed = constants(module.graph)
    faults = []
    for node in list(module.graph.nodes):
        if node.target is not functions.assign or all(n in fixed for n in nodes_in(node.args[1])):
            continue
        x, mask, value = node.args
        if not _is_mask(mask) or not _is_number(value, fixed):
            faults.append(f"  {node.meta['path'] or '(top level)'}: x[...] = ... at {node.meta['source']}")
            continue
        node.target, node.args = torch.masked_fill, (x, _as_wide_as(x, mask, node), value)
    if faults:
        raise ModelRefused(
            "expected a mask and a number, or places that are the same for all images, got these writes:\n"
            + "\n".join(faults),
            "write torch.where(mask, value, x)",
        )


def _is_mask(index: Any) -> bool:
    return isinstance(index, fx.Node) and index.meta["dtype"] is torch.bool


def _is_number(value: Any, fixed: set[fx.Node]) -> bool:
    return value in fixed and value.meta["shape"] == () if isinstance(value, fx.Node) else True


def _as_wide_as(x: fx.Node, mask: fx.Node, node: fx.Node) -> fx.Node:
    """Return ``mask``, which speaks of the first dimensions of ``x``, with as many dimensions."""
    missing = len(x.meta["shape"]) - len(mask.meta["shape"])
    if not missing:
        return mask
    index: Any = (..., *[None] * missing)
    with node.graph.inserting_before(node):
        wide = node.graph.call_function(operator.getitem, (mask, index))
    wide.meta = dict(node.meta)
    return wide
