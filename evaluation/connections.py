"""The connections of one operation: how many elements of its output each element of its input is part of."""

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from snnconvert.converter.graph.canonical import arguments_of
from snnconvert.converter.graph.operations import SYNAPSES
from snnconvert.converter.graph.signals import nodes_in
from snnconvert.converter.simulation.window import apply

ATTENTION = F.scaled_dot_product_attention
WEIGHTED = frozenset({*SYNAPSES.values(), torch.matmul, torch.einsum, ATTENTION})
_POOLS = {getattr(F, f"{kind}avg_pool{n}d"): n for kind in ("", "adaptive_") for n in (1, 2, 3)}
_SUMS = frozenset({torch.mean, torch.sum, torch.cumsum, F.fold, *_POOLS})
_PROBE = 2**22
"""Numbers in a batch of probes of a pool."""


def sums(node: fx.Node) -> bool:
    """Return whether a linear operation adds up elements of one tensor."""
    if node.target is F.interpolate:
        return not str(arguments_of(node, F.interpolate)["mode"]).startswith("nearest")
    return node.target in WEIGHTED or node.target in _SUMS


def degrees(node: fx.Node, source: fx.Node, constants: dict[fx.Node, Any]) -> Tensor:
    """Return the connections of each element of ``source`` for one image in the linear operation ``node``.

    The sum of its outputs, with ones in the place of weights, has them as its gradient. Pools, whose weights are no
    arguments, are probed along each dimension.

    Args:
        constants: the weights, of which the shapes count.
    """
    ones = torch.ones(source.meta["shape"], dtype=torch.float64)
    if node.target in (torch.mean, torch.sum):
        return ones
    if node.target in _POOLS or node.target is F.interpolate:
        return _separable(node, ones, _POOLS.get(node.target, ones.ndim - 2))
    return _slope(node, source, ones, {n: ones.new_ones(()).expand(w.shape) for n, w in constants.items()})


def _separable(node: fx.Node, ones: Tensor, dimensions: int) -> Tensor:
    """Return the connections of each element of a pool or interpolation: the product of those along each dimension."""
    plane = ones.shape[-dimensions:]
    degree = ones
    for d, size in enumerate(plane):
        reached = []
        for rows in torch.eye(size, dtype=ones.dtype).split(max(1, _PROBE // prod(plane))):
            probe = rows.view(-1, *(1,) * (d + 1), size, *(1,) * (dimensions - d - 1)).expand(-1, 1, *plane)
            found = apply(node, lambda n, probe=probe: probe).abs() > 1e-9  # type: ignore[misc]
            reached.append(found.movedim(d + 2, 1).flatten(2).any(2).sum(1))
        degree = degree * torch.cat(reached).view(size, *(1,) * (dimensions - d - 1))
    return degree


def _slope(node: fx.Node, source: fx.Node, at: Tensor, values: dict[fx.Node, Any]) -> Tensor:
    """Return the gradient of the sum of what ``node`` gives by what ``source`` gives."""
    x = at.clone().requires_grad_()
    (slope,) = torch.autograd.grad(apply(node, (values | {source: x}).__getitem__).sum(), x)
    return slope


def relayed(node: fx.Node, source: fx.Node, spikes: Tensor) -> Tensor:
    """Return ``spikes`` behind a pool that sends each to one output at most: added up, not averaged."""
    slope = _slope(node, source, torch.ones_like(spikes), {})
    found: Tensor = apply(node, lambda _: spikes / slope.where(slope != 0, torch.ones_like(slope)))
    return found


def macs_from_shapes(node: fx.Node) -> int:
    """Return the multiply-accumulates of a convolution or linear layer, those with padding too; 0 for others."""
    if node.target not in SYNAPSES.values():
        return 0
    x, weight = list(nodes_in((node.args, node.kwargs)))[:2]
    source = x if "transpose" in str(node.target) else node
    macs: int = prod(source.meta["shape"]) * prod(weight.meta["shape"][1:])
    return macs
