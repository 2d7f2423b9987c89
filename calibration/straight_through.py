"""The spike count of two-phase or streaming neurons with the gradient of a clipped line.

    v = (z + b) T / theta,   a = h N / T,   N the spike count for v
    d a / d z = (h / theta) [low < v < T],   d a / d b = the same,   d a / d theta = -(h / theta) [low < v < T] v / T
    d a / d h = N / T

With h = theta the two last add up to N / T - [low < v < T] v / T, the gradient of learned step sizes.

Sources: Bengio et al. 2013 (arXiv 1308.3432, the straight-through estimator), Esser et al. 2020 (arXiv 1902.08153).
One function with a gradient of its own instead of a chain of operations, because sites are bound by memory.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, bias: Tensor, theta: Tensor, height: Tensor, fire: Any, low: int, steps: int
    ) -> Tensor:
        v = (z + bias).mul_(steps / theta)
        count: Tensor = fire(v)
        ctx.save_for_backward(v, count, theta, height)
        ctx.low, ctx.steps, ctx.bias_shape = low, steps, bias.shape
        return count * (height / steps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        v, count, theta, height = ctx.saved_tensors
        through = grad * ((v > ctx.low) & (v < ctx.steps))
        ratio = height / theta
        grad_theta = -((through * v).sum_to_size(theta.shape) * ratio / ctx.steps)
        grad_height = (grad * count).sum_to_size(height.shape) / ctx.steps
        grad_z = through if bool((ratio == 1).all()) else through * ratio
        return grad_z, grad_z.sum_to_size(ctx.bias_shape), grad_theta, grad_height, None, None, None


def straight_through(
    z: Tensor, bias: Tensor, theta: Tensor, height: Tensor, *, fire: Callable[[Tensor], Tensor], low: int, steps: int
) -> Tensor:
    """Return the mean output of neurons over their window, with the gradients above.

    Args:
        z: mean input current, [batch, channels, ...], in units of the activation.
        bias: current added at every step, in a shape that broadcasts to ``z``.
        theta: threshold, in a shape that broadcasts to ``z``.
        height: what a spike is worth, in the shape of ``theta``.
        fire: from v, in thresholds a window, to the spike count.
        low: the smallest count, 0 or -T.
        steps: T.
    """
    result: Tensor = _StraightThrough.apply(z, bias, theta, height, fire, low, steps)  # type: ignore[no-untyped-call]
    return result
