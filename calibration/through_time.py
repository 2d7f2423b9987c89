"""The spike train of streaming neurons with gradients through time.

    u[t] = v[t-1] + (I[t] + b[t]) / w,   s[t] = clip(floor(u[t]), 0, m),   v[t] = u[t] - s[t],   a[t] = h s[t]

in units of w, what a spike takes from the membrane: theta / m with bursts of m. The gradients go backwards over the
same steps, and through the reset too, with a window in the place of the derivative of the staircase:

    d s / d u = 1[1/2 < u < m + 1/2],   d L / d u[t] = g_v + (h g_a[t] - g_v) d s / d u,   g_v = d L / d u[t+1]

Sources: Neftci et al. 2019 (arXiv 1901.09948, surrogate gradients), the window of Xu, Liu and Yang 2021 ("MT-STE").
Between the window's ends, what a current adds leaves with the next spike, and what comes after does not feel it;
outside of it the current waits in the membrane, and its gradient comes from later steps.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnconvert.converter.fused import Fused

_AT_ONCE = 8
"""Steps in one compiled function, which is unrolled."""


def _fired(u: Tensor, most: int) -> Tensor:
    return u.floor().clamp(0, most)


def _forward(
    current: Tensor, bias: Tensor, worth: Tensor, height: Tensor, start: Tensor, most: int, steps: int
) -> tuple[Tensor, Tensor]:
    potential, train = start, []
    for step in range(steps):
        u = potential + (current[step].to(worth.dtype) + bias[step]) / worth
        spikes = _fired(u, most)
        train.append((spikes * height).to(current.dtype))
        potential = u - spikes
    return torch.stack(train), potential


def _backward(
    grad: Tensor,
    of_end: Tensor,
    current: Tensor,
    bias: Tensor,
    worth: Tensor,
    height: Tensor,
    start: Tensor,
    most: int,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    potential, seen = start, []
    for step in range(steps):
        drive = (current[step].to(worth.dtype) + bias[step]) / worth
        u = potential + drive
        spikes = _fired(u, most)
        seen.append((drive, u, spikes))
        potential = u - spikes
    of_u, of_drive = of_end, []
    of_worth = of_height = torch.zeros_like(of_end)
    for step, (drive, u, spikes) in reversed(list(enumerate(seen))):
        slope = grad[step].to(worth.dtype)
        of_height = of_height + slope * spikes
        of_u = of_u + (slope * height - of_u) * ((u > 0.5) & (u < most + 0.5))
        of_worth = of_worth - of_u * drive / worth
        of_drive.append(of_u / worth)
    found = torch.stack(of_drive[::-1])
    return (
        found.to(current.dtype),
        found.sum_to_size(bias.shape),
        of_worth.sum_to_size(worth.shape),
        of_height.sum_to_size(height.shape),
        of_u.sum_to_size(start.shape),
    )


_fused_forward, _fused_backward = Fused(_forward), Fused(_backward, exact=False)


class _ThroughTime(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, bias: Tensor, worth: Tensor, height: Tensor, start: Tensor, most: int, fuse: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(current, bias, worth, height, start)
        ctx.most, ctx.fuse = most, fuse
        forward: Callable[..., Any] = _fused_forward if fuse else _forward
        train, end = forward(current, bias, worth, height, start, most, len(current))
        return train, end

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        backward: Callable[..., Any] = _fused_backward if ctx.fuse else _backward
        gradients = backward(*grads, *ctx.saved_tensors, ctx.most, len(ctx.saved_tensors[0]))
        return *gradients, None, None


def through_time(
    current: Tensor,
    bias: Tensor,
    worth: Tensor,
    height: Tensor,
    start: Tensor,
    *,
    most: int = 1,
    fuse: bool = False,
) -> Tensor:
    """Return the output train of soft-reset integrate-and-fire neurons, with the gradients above.

    Args:
        current: input current of each step, [steps, batch, channels, ...], in units of the activation.
        bias: current added at each step, [steps, ...], in a shape that broadcasts to ``current``.
        worth: w, what a spike takes from the membrane, in a shape that broadcasts to one step of ``current``.
        height: h, what a spike is worth on its wire, in the shape of ``worth``.
        start: the membrane potential before the first step, in units of ``worth``.
        most: m, the most spikes of a step.
        fuse: compile it, which takes seconds and pays from some hundred calls on.
    """
    trains, potential = [], start
    for some, added in zip(current.split(_AT_ONCE), bias.split(_AT_ONCE), strict=True):
        train, potential = _ThroughTime.apply(some, added, worth, height, potential, most, fuse)  # type: ignore[no-untyped-call]
        trains.append(train)
    return trains[0] if len(trains) == 1 else torch.cat(trains)
