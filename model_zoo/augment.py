"""Augmentation of a batch of small images, each shifted and flipped on its own."""

import torch
from torch import Tensor


def augment(images: Tensor, generator: torch.Generator, *, fill: Tensor, shift: int = 2, flip: bool = True) -> Tensor:
    """Return the images shifted by up to ``shift`` pixels, and half of them mirrored if ``flip``.

    Args:
        images: [batch, channels, height, width].
        generator: draws shifts and flips, on the CPU.
        fill: the value of what is shifted in, for each channel [channels].
        shift: the largest shift, in pixels.
        flip: whether left and right mean the same.
    """
    count, channels, height, width = images.shape
    padded = fill.to(images)[:, None, None].repeat(count, 1, height + 2 * shift, width + 2 * shift)
    padded[:, :, shift : shift + height, shift : shift + width] = images
    moved = torch.randint(0, 2 * shift + 1, (2, count), generator=generator)
    rows = moved[0, :, None] + torch.arange(height)
    columns = moved[1, :, None] + torch.arange(width)
    if flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        columns[mirrored] = columns[mirrored].flip(1)
    rows, columns = rows.to(images.device), columns.to(images.device)
    places = torch.arange(count, device=images.device)[:, None, None, None]
    kinds = torch.arange(channels, device=images.device)[:, None, None]
    return padded[places, kinds, rows[:, None, :, None], columns[:, None, None, :]]
