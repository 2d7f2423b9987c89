"""Surrogate derivatives: what stands for the derivative of the number of spikes by the membrane potential.

A neuron with m thresholds theta, 2 theta, ..., m theta fires s(u) = clip(floor(u / theta), 0, m), a staircase whose
derivative is zero almost everywhere. Each function here is a density around its steps, and its integral over u is m.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Surrogate = Callable[[Tensor, float, int], Tensor]

RECTANGLE = 0.5
"""The width of a rectangle in units of theta."""

GAUSSIAN = 0.25
"""The variance of a Gaussian in units of theta squared."""

ARCTANGENT = 2.0


def mt_ste(u: Tensor, theta: float, most: int) -> Tensor:
    """Return 1 / theta for theta / 2 <= u <= (m + 1/2) theta, and 0 elsewhere: one window over the whole staircase.

    Args:
        u: membrane potentials, of any shape.
        theta: the threshold.
        most: m, the number of thresholds.
    """
    return ((u >= 0.5 * theta) & (u <= (most + 0.5) * theta)).to(u.dtype) / theta


def mt_rect(u: Tensor, theta: float, most: int) -> Tensor:
    """Return sum over j = 1..m of 1[|u - j theta| < a / 2] / a with a = theta / 2; arguments as for `mt_ste`."""
    width = RECTANGLE * theta
    nearest = (u / theta + 0.5).floor().clamp(1, most) * theta
    return ((u - nearest).abs() < width / 2).to(u.dtype) / width


def mt_gauss(u: Tensor, theta: float, most: int) -> Tensor:
    """Return sum over j = 1..m of exp(-(u - j theta)^2 / 2a) / sqrt(2 pi a) with a = theta^2 / 4; see `mt_ste`."""
    variance = GAUSSIAN * theta**2
    total = torch.zeros_like(u)
    for j in range(1, most + 1):
        total = total + torch.exp(-(u - j * theta).square() / (2 * variance))
    return total / math.sqrt(2 * math.pi * variance)


def arctangent(u: Tensor, theta: float, most: int) -> Tensor:
    """Return sum over j = 1..m of (a / 2 theta) / (1 + (pi a (u / theta - j) / 2)^2) with a = 2; see `mt_ste`.

    Source: Fang et al. 2021 (arXiv 2007.05785), the usual choice for one threshold.
    """
    total = torch.zeros_like(u)
    for j in range(1, most + 1):
        total = total + 1 / (1 + (math.pi / 2 * ARCTANGENT * (u / theta - j)).square())
    return total * (ARCTANGENT / 2 / theta)


SURROGATES: dict[str, Surrogate] = {
    "mt-ste": mt_ste,
    "mt-rect": mt_rect,
    "mt-gauss": mt_gauss,
    "arctangent": arctangent,
}
"""The surrogate derivatives, by name. Xu, Liu and Yang 2021 speak of three; which, their abstract does not say."""
