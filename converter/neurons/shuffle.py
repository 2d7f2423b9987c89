"""Spike shuffling, the temporal-misalignment experiment: re-order a site's spikes over time and keep their counts.

Source: Bojkovic, Wu and Gu 2025 (arXiv 2502.14487). Their text does not tell here whether one permutation is shared
by the neurons of a layer, or whether it is drawn anew for each image; both kinds are offered, drawn anew for each
image. The whole train must exist before it is re-ordered, so a shuffled site answers one window later.
"""

import torch
from torch import Tensor

from .noise import Noise

SHUFFLES = ("none", "shared", "per-neuron")
"""No shuffling; one permutation for all neurons of a site; one permutation for each neuron."""

_OFFSET = 1 << 20
"""Separates the random numbers of the permutation from those of the neuron's own steps."""


def shuffle(train: Tensor, kind: str, site: int, noise: Noise) -> Tensor:
    """Return ``train`` [steps, batch, ...] re-ordered along its first dimension, anew for each image.

    The spikes of a neuron are alike: all 1, or all -1.

    Args:
        kind: one of ``SHUFFLES``.
        site: the number of the site, which selects the permutation.
    """
    if kind == "shared":
        return shared_order(train, site, noise)
    return random_times(train, site, noise) if kind == "per-neuron" else train


def shared_order(train: Tensor, site: int, noise: Noise) -> Tensor:
    """Return ``train`` in one random order of its steps for each image, shared by its neurons."""
    images = noise.index.shape
    order = torch.stack([noise.bits(site, images, _OFFSET + step) for step in range(len(train))]).argsort(0)
    order = order.repeat_interleave(train.shape[1] // len(noise.index), 1)
    return train.gather(0, order.reshape(*order.shape, *[1] * (train.ndim - 2)).expand_as(train))


def random_times(train: Tensor, site: int, noise: Noise) -> Tensor:
    """Return ``train`` in a random order of steps for each neuron and image.

    Spikes are alike, so a random order of N spikes is a random choice of N of the T steps, drawn without replacement:
    a step is chosen with probability (spikes left) / (steps left). This is the TPP neuron at an integer potential.
    """
    total = train.sum(0)
    left, sign = total.abs(), total.sign()
    result = torch.empty_like(train)
    for step in range(len(train)):
        uniform = noise.uniform(site, left.shape, _OFFSET + step, train.dtype)
        result[step] = uniform.mul_(len(train) - step) < left
        left -= result[step]
    return result * sign
