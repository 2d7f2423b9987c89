"""Fold batch norm into the operation before it, or leave it as one multiplication and one addition per channel.

At inference batch norm is y = gamma (x - mean) / sqrt(variance + eps) + beta. Trained to do so, y has mean beta and
deviation |gamma| over the training set; these are kept in ``meta["gaussian"]``, for thresholds without data.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from ..errors import ModelRefused
from .canonical import add_constant, arguments_of, attribute
from .signals import constants

_PARAMETERS = ("running_mean", "running_var", "weight", "bias")
_CONVOLUTIONS: frozenset[Any] = frozenset({F.conv1d, F.conv2d, F.conv3d})
_TRANSPOSED: frozenset[Any] = frozenset({F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d})


def fold_batch_norm(module: fx.GraphModule) -> list[str]:
    """Remove every batch norm from ``module``, in place, and say what was done.

    It folds into a convolution or linear layer that nothing else reads; one that a second operation reads, a concat,
    an add or a padding keeps its output, and the batch norm becomes a multiplication and an addition. Each call of a
    shared layer folds into weights of its own.

    Raises:
        ModelRefused: a batch norm uses the statistics of its batch, or its weights depend on the input.
    """
    fixed = constants(module.graph)
    folded = affine = 0
    for node in [n for n in module.graph.nodes if n.target is F.batch_norm]:
        call = arguments_of(node, F.batch_norm)
        where = f"{node.meta['path'] or '(top level)'}: the batch norm at {node.meta['source']}"
        if call["training"] or call["running_mean"] is None:
            raise ModelRefused(
                f"{where} uses the statistics of its batch, so images change each other",
                "put the model in evaluation mode, with running statistics",
            )
        if any(isinstance(call[n], fx.Node) and call[n] not in fixed for n in _PARAMETERS):
            raise ModelRefused(
                f"{where} has weights or statistics that depend on the input",
                "only a batch norm with fixed weights is an affine function of its input",
            )
        norm = _norm(module, call)
        before: fx.Node = call["input"]
        fused = _fused(module, before, norm) if len(before.users) == 1 else None
        if fused is not None:
            folded += 1
            result = _replace_weights(module, before, *fused)
        else:
            affine += 1
            result = _affine(module, node, before, norm)
        result.meta = dict(node.meta) | {"gaussian": (norm.beta.detach().clone(), norm.gamma.detach().abs())}
        node.replace_all_uses_with(result)
        module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    notes = []
    if folded:
        notes.append(f"{folded} batch norm{'s' * (folded > 1)} folded into the layer before")
    if affine:
        notes.append(f"{affine} batch norm{'s' * (affine > 1)} kept as a multiplication and an addition per channel")
    return notes


class _Norm(NamedTuple):
    mean: Tensor
    variance: Tensor
    eps: float
    gamma: Tensor
    beta: Tensor


def _norm(module: fx.GraphModule, call: dict[str, Any]) -> _Norm:
    def read(name: str, default: Tensor) -> Tensor:
        return default if call[name] is None else attribute(module, str(call[name].target))

    mean = attribute(module, str(call["running_mean"].target))
    variance = attribute(module, str(call["running_var"].target))
    gamma, beta = read("weight", torch.ones_like(mean)), read("bias", torch.zeros_like(mean))
    return _Norm(mean, variance, call["eps"], gamma, beta)


def _fused(module: fx.GraphModule, layer: fx.Node, norm: _Norm) -> tuple[Tensor, Tensor] | None:
    """Return the weight and bias of ``layer`` followed by the batch norm, or None where they cannot be joined."""
    constant = len(layer.args) > 1 and isinstance(layer.args[1], fx.Node) and layer.args[1].op == "get_attr"
    if not constant or layer.kwargs:
        return None
    weight = attribute(module, str(layer.args[1].target))  # type: ignore[union-attr]
    given = layer.args[2] if len(layer.args) > 2 else None
    bias = attribute(module, str(given.target)) if isinstance(given, fx.Node) else None
    if layer.target in _CONVOLUTIONS:
        return fuse_conv_bn_weights(weight, bias, *norm)
    groups = layer.args[6] if len(layer.args) > 6 else 1
    if layer.target in _TRANSPOSED and groups == 1:
        return fuse_conv_bn_weights(weight, bias, *norm, transpose=True)
    if layer.target is F.linear and len(layer.meta["shape"]) == 2:
        return fuse_linear_bn_weights(weight, bias, *norm)
    return None


def _replace_weights(module: fx.GraphModule, layer: fx.Node, weight: Tensor, bias: Tensor) -> fx.Node:
    with module.graph.inserting_before(layer):
        tensors = [
            add_constant(module, f"{layer.name}_weight", weight),
            add_constant(module, f"{layer.name}_bias", bias),
        ]
    layer.args = (layer.args[0], *tensors, *layer.args[3:])
    return layer


def _affine(module: fx.GraphModule, node: fx.Node, before: fx.Node, norm: _Norm) -> fx.Node:
    scale = norm.gamma / torch.sqrt(norm.variance + norm.eps)
    rank = len(node.meta["shape"])
    shift = (norm.beta - norm.mean * scale).reshape(-1, *[1] * (rank - 2))
    scale = scale.reshape(-1, *[1] * (rank - 2))
    with module.graph.inserting_before(node):
        product = module.graph.call_function(torch.mul, (before, add_constant(module, f"{node.name}_scale", scale)))
        product.meta = dict(node.meta)
        return module.graph.call_function(torch.add, (product, add_constant(module, f"{node.name}_shift", shift)))
