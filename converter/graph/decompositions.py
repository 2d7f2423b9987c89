"""Calls that the tracer replaces by what they are made of, in functions of the operation table."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelRefused


def _glu(input: Tensor, dim: int = -1) -> Tensor:
    value, gate = input.chunk(2, dim)
    return value * gate.sigmoid()


def _addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1.0) -> Tensor:
    product = tensor1 * tensor2
    return input + (product if value == 1 else product * value)


def _addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    product = torch.matmul(mat1, mat2)
    return (input if beta == 1 else input * beta) + (product if alpha == 1 else product * alpha)


def _lerp(input: Tensor, end: Tensor, weight: float | Tensor) -> Tensor:
    return input + weight * (end - input)


def _rsub(input: Tensor, other: float | Tensor) -> Tensor:
    return other - input


def _softmin(input: Tensor, dim: int, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Tensor:
    return F.softmax(-input, dim, dtype=dtype)


def _t(input: Tensor) -> Tensor:
    return input.transpose(0, 1)


def _movedim(input: Tensor, source: int | tuple[int, ...], destination: int | tuple[int, ...]) -> Tensor:
    moved = [d % input.ndim for d in ((source,) if isinstance(source, int) else source)]
    places = [d % input.ndim for d in ((destination,) if isinstance(destination, int) else destination)]
    order = [d for d in range(input.ndim) if d not in moved]
    for place, dimension in sorted(zip(places, moved, strict=True)):
        order.insert(place, dimension)
    return input.permute(order)


def _zeros_like(input: Tensor, **properties: object) -> Tensor:
    return input * 0.0


def _ones_like(input: Tensor, **properties: object) -> Tensor:
    return input * 0.0 + 1.0


def _new_zeros(input: Tensor, *size: Any, **properties: object) -> Tensor:
    return torch.zeros(*size, dtype=input.dtype, device=input.device)


def _new_ones(input: Tensor, *size: Any, **properties: object) -> Tensor:
    return torch.ones(*size, dtype=input.dtype, device=input.device)


DECOMPOSITIONS: dict[Callable[..., Any] | str, Callable[..., Any]] = {
    F.glu: _glu,
    F.softmin: _softmin,
    torch.addcmul: _addcmul,
    "addcmul": _addcmul,
    torch.addmm: _addmm,
    torch.baddbmm: _addmm,
    torch.lerp: _lerp,
    "lerp": _lerp,
    torch.rsub: _rsub,
    torch.t: _t,
    "t": _t,
    torch.movedim: _movedim,
    "movedim": _movedim,
    torch.zeros_like: _zeros_like,
    torch.ones_like: _ones_like,
    "new_zeros": _new_zeros,
    "new_ones": _new_ones,
}
"""A function or (a string) a tensor method, and what the tracer calls in its place."""


def attend(
    attention: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return what `nn.MultiheadAttention` returns.

    Raises:
        ModelRefused: a padding mask or an added bias of keys is asked for, or the weights of masked attention.
    """
    if key_padding_mask is not None or attention.bias_k is not None or attention.add_zero_attn:
        raise ModelRefused(
            "nn.MultiheadAttention with a padding mask or with added keys cannot be converted",
            "write it with F.scaled_dot_product_attention",
        )
    if attention.in_proj_weight is not None:
        weights = attention.in_proj_weight.chunk(3)
    else:
        weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
    biases = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
    heads = []
    for x, weight, bias in zip((query, key, value), weights, biases, strict=True):
        x = x if attention.batch_first else x.transpose(0, 1)
        heads.append(F.linear(x, weight, bias).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2))
    q, k, v = heads
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        attn_mask = ~attn_mask  # where the module's mask is true it hides, where the function's is it shows
    causal = is_causal and attn_mask is None  # with a mask it is but a hint
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, is_causal=causal)
    result = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    result = result if attention.batch_first else result.transpose(0, 1)
    if not need_weights or attn_mask is not None or is_causal:
        return result, None
    shares = F.softmax(torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(attention.head_dim), -1)
    return result, shares.mean(1) if average_attn_weights else shares


def normalise_instance(norm: nn.Module, x: Tensor) -> Tensor:
    """Return what an instance norm ``norm`` in evaluation mode returns."""
    weight, bias = norm.weight, norm.bias
    if norm.track_running_stats:
        return F.batch_norm(x, norm.running_mean, norm.running_var, weight, bias, False, 0.0, norm.eps)  # type: ignore[arg-type]
    return F.instance_norm(x, None, None, weight, bias, True, 0.0, norm.eps)  # type: ignore[arg-type]
