"""Convolutions of spike counts in whole numbers: a processor multiplies bytes four times as fast as floats.

What a convolution does to spikes worth theta_c, of which neuron i fired N_i, is

    sum_i W_oi theta_c N_i = sigma_o sum_i Q_oi N_i,   Q_oi = 65536 A_oi + 256 B_oi + C_oi

with sigma_o the step of a grid of 24 bits up to the largest weight of output channel o, and A, B, C signed bytes. The
three convolutions of N with A, B and C are exact, in int32, and cost less than one in floating point. What is lost is
the rounding of weights to the grid, 2^-24 of the largest, as float32 loses it in the largest weight and in a sum: where
no weight is far above the others the result is as near the exact one as float32's. The bits are not its own.

Runs where the processor has instructions for it (AVX-512 VNNI) and oneDNN gives exact sums, which is tried once.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

BYTE = 256
PARTS = 3
"""Bytes of a weight."""

MOST = 2**16
"""Inputs of a neuron up to which its sum stays in int32, with counts of at most 255."""

SPREAD = 256
"""How far the largest weight may be above the median."""

TOP = 127 * (BYTE**2 + BYTE + 1)
"""The largest Q of which all three bytes are at most 127."""


def bytes_of(weight: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return C, B, A, int8 as ``weight`` [out, ...], and sigma, float64 [out], with W = sigma (65536 A + 256 B + C).

    |W - sigma Q| <= sigma / 2,  sigma_o = max_i |W_oi| / TOP, which is no number where a weight is none.
    """
    exact = weight.double()
    largest = exact.flatten(1).abs().amax(1)
    sigma = torch.where(largest == 0, 1.0, largest) / TOP
    rest = (exact / sigma.view(-1, *[1] * (weight.ndim - 1))).round().nan_to_num(0).long()
    found = []
    for _ in range(PARTS):
        low = (rest + BYTE // 2) % BYTE - BYTE // 2
        found.append(low.to(torch.int8))
        rest = (rest - low) // BYTE
    return found, sigma


def of_spikes(weight: Tensor, worth: Tensor) -> Tensor:
    """Return W_oc theta_c in float64, ``worth`` being theta_c, or one for all."""
    each: Tensor = weight.double() * worth.double().flatten().expand(weight.shape[1]).view(-1, 1, 1)
    return each


def fits(weight: Tensor, worth: Tensor) -> bool:
    """Return whether the grid holds all weights well: the largest is at most `SPREAD` times the median of its output.

    Arguments are those of `IntegerConvolution`; weights of zero do not count.
    """
    sizes = of_spikes(weight, worth).flatten(1).abs()
    medians = sizes.masked_fill(sizes == 0, torch.nan).nanmedian(1).values
    return bool((sizes.amax(1) <= SPREAD * medians.nan_to_num(1)).all())


class IntegerConvolution:
    """A convolution of the counts of one site, with the worth of its spikes in the weights.

    Args:
        weight: W [out, in, height, width].
        worth: theta_c, or one for all, in any shape of that many numbers.
        stride, padding, dilation: as for `torch.conv2d`.
    """

    def __init__(
        self, weight: Tensor, worth: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
    ) -> None:
        out, channels = weight.shape[:2]
        parts, sigma = bytes_of(of_spikes(weight, worth))
        self.how = list(stride), list(padding), list(dilation), 1
        self.none = torch.zeros(out, dtype=torch.int32)
        pack, ones, shape = torch.ops.onednn.qconv_prepack, torch.ones(out), [1, channels, 32, 32]
        self.parts = [
            (pack(part, ones, 1.0, 0, *self.how, shape), (sigma * BYTE**power).float())
            for power, part in enumerate(parts)
        ]

    def __call__(self, counts: Tensor, bias: Tensor | None) -> Tensor:
        """Return the currents, float32 [batch, out, ...], of ``counts``, uint8 [batch, in, ...]."""
        (weight, scale), *more = self.parts
        how, end = self.how, (1.0, 0, torch.float32)
        run, add = torch.ops.onednn.qconv2d_pointwise.default, torch.ops.onednn.qconv2d_pointwise.binary
        total: Tensor = run(counts, 1.0, 0, weight, scale, self.none, None, *how, *end, "none", [], "")
        for power, (weight, scale) in enumerate(more, 1):
            last = bias if power == len(more) else None
            given = counts, 1.0, 0, weight, scale, self.none, total, last
            total = add(*given, *how, *end, 1.0, 0, "sum", 1.0, None, [], "")
        return total


@functools.cache
def available() -> bool:
    """Return whether this machine multiplies bytes fast, and its sums are exact."""
    if not (torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()):
        return False
    draw = torch.Generator().manual_seed(0)
    counts = torch.randint(0, BYTE, (2, 32, 9, 9), generator=draw, dtype=torch.uint8)
    counts = counts.contiguous(memory_format=torch.channels_last)
    weight = torch.randint(-TOP, TOP, (16, 32, 3, 3), generator=draw).double()
    weight[:, 0, 0, 0] = TOP
    try:
        found = IntegerConvolution(weight, torch.ones(1), (1, 1), (1, 1), (1, 1))(counts, None)
    except (AttributeError, RuntimeError):
        return False
    wanted = torch.conv2d(counts.double(), weight, None, 1, 1)
    return bool(((found - wanted).abs() <= 2**-22 * wanted.abs().max()).all())
