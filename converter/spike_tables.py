"""Convolutions of binary spikes by look-up in tables, two to three times as fast as by multiplication.

At one step a neuron fires or does not, so that four of them send one of sixteen sums to the neuron that reads them:

    sum_i W_oi theta_c s_i = sum_g table_og[k_g],   k_g = sum_j 2^j s_4g+j,   table_og[k] = sum_j k_j W_o,4g+j theta_c

with j = 0..3 and k_j the bits of k. A register of AVX-512 holds the sixteen sums of one table, and one instruction
looks them up for sixteen positions at once: 64 synapses, where a multiplication has 16 (`tables.c`). Sums are floats;
like those of any other order, they differ from `torch.conv2d`'s by rounding. A weight that is no number does nothing
where no spike comes.
"""

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import native
from .integer_synapses import of_spikes

BITS = 8
"""Channels come in multiples of it: spikes are packed in bytes."""


class _Convolution(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "images",
            "height",
            "width",
            "channels",
            "out",
            "kernel_height",
            "kernel_width",
            "stride_height",
            "stride_width",
            "pad_height",
            "pad_width",
            "dilation_height",
            "dilation_width",
            "out_height",
            "out_width",
            "threads",
        )
    ]


class TableConvolution:
    """A convolution of the binary spikes of one site, with their worth in the weights.

    Args:
        weight: W [out, in, height, width], with in a multiple of `BITS`.
        worth: theta_c, or one for all, in any shape of that many numbers.
        stride, padding, dilation: as for `torch.conv2d`.
    """

    def __init__(
        self, weight: Tensor, worth: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
    ) -> None:
        self.out, _, *self.kernel = weight.shape
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = of_spikes(weight, worth).float().permute(0, 2, 3, 1).contiguous()

    def __call__(self, spikes: Tensor, bias: Tensor | None) -> Tensor:
        """Return the currents, float32 [batch, out, ...], of ``spikes``, 0 or 1 in bytes, [batch, in, ...].

        Raises:
            MemoryError: there is none for the spikes in bits.
        """
        spikes = spikes.contiguous(memory_format=torch.channels_last)
        images, channels, *size = spikes.shape
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        sides = zip(size, self.padding, reach, self.stride, strict=True)
        height, width = ((n + 2 * pad - whole) // step + 1 for n, pad, whole, step in sides)
        exact: dict[str, Any] = {"dtype": torch.float32, "device": spikes.device}
        out = torch.empty(images, self.out, height, width, memory_format=torch.channels_last, **exact)
        how = *self.stride, *self.padding, *self.dilation
        shape = _Convolution(
            images, *size, channels, self.out, *self.kernel, *how, height, width, torch.get_num_threads()
        )
        bias = None if bias is None else bias.float().contiguous()
        functions = native.library().functions
        assert functions is not None
        if functions.table_convolution(ctypes.byref(shape), *map(native.at, (spikes, self.weight, bias, out))):
            raise MemoryError("not enough memory for a convolution of spikes")
        return out


@functools.cache
def available() -> bool:
    """Return whether this machine has the instructions and a compiler, and what it compiled adds up."""
    functions = native.library().functions
    if functions is None or not functions.has_tables():
        return False
    draw = torch.Generator().manual_seed(0)
    spikes = torch.randint(0, 2, (3, 24, 9, 9), generator=draw, dtype=torch.uint8, device="cpu")
    exact: dict[str, Any] = {"generator": draw, "dtype": torch.float32, "device": "cpu"}
    weight, bias = torch.randn(21, 24, 3, 3, **exact), torch.randn(21, **exact)
    found = TableConvolution(weight, weight.new_ones(1), (2, 1), (1, 1), (1, 1))(spikes, bias)
    wanted = torch.conv2d(spikes.double(), weight.double(), bias.double(), (2, 1), 1)
    return bool(((found - wanted).abs() <= 1e-5 * wanted.abs().max()).all())
