"""The spike count of two-phase neurons with the gradient of a clipped line.

    v = (z + b) K / theta,   a = h N / K,   N the spike count for v, of at most K
    d a / d z = (h / theta) [low < v < K],   d a / d b = the same,   d a / d theta = -(h / theta) [low < v < K] v / K
    d a / d h = N / K

With h = theta the two last add up to N / K - [low < v < K] v / K, the gradient of learned step sizes.

Sources: Bengio et al. 2013 (arXiv 1308.3432, the straight-through estimator), Esser et al. 2020 (arXiv 1902.08153).
One function with a gradient of its own instead of a chain of operations, because sites are bound by memory.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnconvert.converter.fused import Fused
from snnconvert.converter.neurons.tpp import interpolated
from snnconvert.converter.neurons.two_phase import rounded_count

Fire = Callable[[Tensor, tuple[Tensor, ...], int, int], Tensor]
"""From v, further tensors, K and the smallest count to the spike count."""


def rounded(v: Tensor, given: tuple[Tensor, ...], most: int, low: int) -> Tensor:
    """Return the count of two-phase neurons."""
    return rounded_count(v, most, low < 0)


def drawn(v: Tensor, given: tuple[Tensor, ...], most: int, low: int) -> Tensor:
    """Return a count of TPP neurons; ``given`` are uniform numbers and the table of the mean count."""
    uniform, table = given
    count = (interpolated(table, v.abs() if low < 0 else v, most) + uniform).floor().clamp(max=most)
    return count * v.sign() if low < 0 else count


def _forward(
    fire: Fire, z: Tensor, bias: Tensor, theta: Tensor, height: Tensor, given: tuple[Tensor, ...], most: int, low: int
) -> tuple[Tensor, Tensor]:
    count = fire((z.to(theta.dtype) + bias) * (most / theta), given, most, low)
    kept = count.to(torch.int8) if most < 128 else count
    return kept, (count * (height / most)).to(z.dtype)


def _backward(
    grad: Tensor, z: Tensor, bias: Tensor, theta: Tensor, height: Tensor, count: Tensor, most: int, low: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    v, grad = (z.to(theta.dtype) + bias) * (most / theta), grad.to(theta.dtype)
    through = grad * ((v > low) & (v < most)) * (height / theta)
    return (
        through.to(z.dtype),
        through.sum_to_size(bias.shape),
        -(through * v).sum_to_size(theta.shape) / most,
        (grad * count).sum_to_size(height.shape) / most,
    )


_fused_forward, _fused_backward = Fused(_forward), Fused(_backward, exact=False)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        bias: Tensor,
        theta: Tensor,
        height: Tensor,
        given: tuple[Tensor, ...],
        fire: Fire,
        most: int,
        low: int,
        fuse: bool,
    ) -> Tensor:
        count, out = (_fused_forward if fuse else _forward)(fire, z, bias, theta, height, given, most, low)
        ctx.save_for_backward(z, bias, theta, height, count)
        ctx.most, ctx.low, ctx.fuse = most, low, fuse
        result: Tensor = out
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        backward: Callable[..., Any] = _fused_backward if ctx.fuse else _backward
        gradients = backward(*grads, *ctx.saved_tensors, ctx.most, ctx.low)
        return *gradients, None, None, None, None, None


def straight_through(
    z: Tensor,
    bias: Tensor,
    theta: Tensor,
    height: Tensor,
    *given: Tensor,
    fire: Fire,
    most: int,
    low: int = 0,
    fuse: bool = False,
) -> Tensor:
    """Return the mean output of neurons over their window, with the gradients above.

    Args:
        z: mean input current, [batch, channels, ...], in units of the activation.
        bias: current added at every step, in a shape that broadcasts to ``z``.
        theta: threshold, in a shape that broadcasts to ``z``.
        height: what a spike is worth, in the shape of ``theta``.
        given: what ``fire`` needs besides v.
        fire: `rounded` or `drawn`.
        most: K, the largest count.
        low: the smallest count, 0 or -K.
        fuse: compile it, which takes seconds and pays from some hundred calls on.
    """
    result: Tensor = _StraightThrough.apply(  # type: ignore[no-untyped-call]
        z, bias, theta, height, given, fire, most, low, fuse
    )
    return result
