"""Random numbers that depend only on what they are for: seed, site, image, neuron and step.

No batch split, shard or number of workers can change a spike, because no generator state exists: each number is a
hash of its coordinates. The hash is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators"), int64 arithmetic that is bit-equal on every device.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def mix(x: Tensor) -> Tensor:
    """Return the SplitMix64 finaliser of each int64 in ``x``, a bijection: every input bit moves every output bit.

    x = (x ^ (x >>> 30)) * 0xBF58476D1CE4E5B9;  x = (x ^ (x >>> 27)) * 0x94D049BB133111EB;  x = x ^ (x >>> 31)
    """
    x = x.clone()
    for bits, factor in ((30, _FIRST), (27, _SECOND)):
        _xor_shift_(x, bits).mul_(factor)
    return _xor_shift_(x, 31)


def _xor_shift_(x: Tensor, bits: int) -> Tensor:
    logical = (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)  # >> keeps the sign; the mask makes the shift logical
    return x.bitwise_xor_(logical)


def stream(key: int | Tensor, index: Tensor) -> Tensor:
    """Return element ``index`` of the SplitMix64 sequence that starts at ``key`` (int64, broadcast)."""
    return mix(key + (index + 1) * _GOLDEN)


def bits_of(images: Tensor, key: int | Tensor, count: int) -> Tensor:
    """Return ``count`` uniform int64, as many for each of the hashes ``images``, by a ``key``: [batch, neurons]."""
    return mix(images[:, None] + stream(key, torch.arange(count // len(images), device=images.device)))


def uniform_of(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the uniform number in [0, 1) that the upper 24 of 64 ``bits`` stand for."""
    return ((bits >> 40) & 0xFFFFFF).to(dtype) * 2.0**-24


@lru_cache(maxsize=4096)
def key_of(site: int, step: int) -> int:
    """Return the hash of a site's number and a step, 64 bits with a sign."""
    return int(stream(stream(torch.tensor(site), torch.tensor(0)), torch.tensor(step)))


@dataclass(frozen=True)
class Noise:
    """The random numbers of one forward pass.

    Args:
        seed: any integer.
        index: the position of each image in its data set, int64 [batch].
    """

    seed: int
    index: Tensor

    @cached_property
    def images(self) -> Tensor:
        """The hash of the seed and each image, int64 [batch]."""
        return stream(mix(torch.tensor(self.seed, device=self.index.device)), self.index)

    def bits(self, site: int, shape: torch.Size | tuple[int, ...], step: int) -> Tensor:
        """Return uniform int64 of ``shape`` [batch, ...] for step ``step`` of site number ``site``.

        An image may have several rows in dimension 0, one after the other.
        The hash of (site, step, neuron) and that of (seed, image) are joined by one more round.
        """
        key = torch.tensor(key_of(site, step), device=self.index.device)
        return bits_of(self.images, key, torch.Size(shape).numel()).reshape(shape)

    def uniform(self, site: int, shape: torch.Size | tuple[int, ...], step: int, dtype: torch.dtype) -> Tensor:
        """Return uniform numbers in [0, 1) with 24 random bits, of ``shape`` [batch, ...]."""
        return uniform_of(self.bits(site, shape, step), dtype)
