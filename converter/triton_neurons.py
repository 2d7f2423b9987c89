"""Neurons in one pass over memory on a GPU: Triton kernels that are compiled when they are first needed.

What `native` does in C on a CPU, `triton_kernels` does on a GPU, with the same bits. Each function here gives None
where its kernel cannot run, and then the caller computes: no triton, other numbers than float32, or a tensor with gaps.
The caller sees to it that the tensors are on a GPU; in Triton's interpreter they may be anywhere.
"""

import functools
from collections.abc import Hashable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .population import Population, Rows, alike, rows_of, train_like

_TILE = 1024
"""Elements of a program, a power of two: 8 for each of its 128 threads."""
_MOST_NUMBERS = 2**31 - _TILE
"""Rows, or neurons of an image, that 32 bits number."""
_MOST_TILES = 2**16 - 1
"""What fits in the second dimension of a grid."""


class Kernels(NamedTuple):
    """The module of the kernels, or the reason why there is none."""

    module: ModuleType | None
    reason: str


@functools.cache
def kernels() -> Kernels:
    """Return `triton_kernels`, if triton can be imported."""
    try:
        import triton

        from . import triton_kernels
    except Exception as error:  # whatever a triton that is missing, old or broken says
        return Kernels(None, f"triton cannot be imported: {error}")
    return Kernels(triton_kernels, f"triton {triton.__version__}")


class Launch(NamedTuple):
    """A kernel and all that it is given.

    Args:
        kernel: its name.
        grid: the number of programs.
        args: its arguments, in their order.
        constants: those that are compiled into it.
        answer: what it writes, for the caller.
    """

    kernel: str
    grid: tuple[int, int]
    args: tuple[Any, ...]
    constants: dict[str, int]
    answer: Any

    @property
    def kind(self) -> Hashable:
        """What decides which code Triton compiles, or a little more."""
        return self.args[0].device, *map(_kind, self.args), *self.constants.values()

    def run(self) -> Any:
        """Return the answer of the kernel."""
        with torch.cuda.device_of(self.args[0]):
            getattr(kernels().module, self.kernel)[self.grid](*self.args, **self.constants, enable_fp_fusion=False)
        return self.answer


def _kind(argument: Any) -> Hashable:
    if isinstance(argument, Tensor):
        return argument.data_ptr() % 16
    if isinstance(argument, int):
        return argument == 1, argument % 16 == 0, argument >> 31 in (0, -1)
    return argument is None


class _Site(NamedTuple):
    """How the inputs ``x`` of a population lie in memory, and the parameters as kernels take them."""

    rows: Rows
    args: tuple[Any, ...]

    @classmethod
    def of(cls, x: Tensor, neurons: Population, images: int) -> "_Site | None":
        """Return those of ``x``, the inputs of ``neurons``; None where no kernel must be launched."""
        rows = rows_of(x, neurons, images)
        if rows is None or kernels().module is None:
            return None
        count = rows.images * rows.per_image
        if max(count, rows.per_image * rows.length) > _MOST_NUMBERS or rows.length > _MOST_TILES * _TILE:
            return None
        given: list[Any] = []
        for p in (neurons.theta, neurons.offset, neurons.worth):
            given += (None, 0) if p is None else (p.reshape(-1), int(p.numel() > 1))
        return cls(rows, (*given, count, rows.length, rows.channels))

    def launch(self, kernel: str, args: tuple[Any, ...], answer: Any, **constants: int) -> Launch:
        """Return the launch of ``kernel`` with a program for each tile."""
        columns = min(_TILE, 1 << (self.rows.length - 1).bit_length())
        tile = _TILE // columns, columns
        sides = self.rows.images * self.rows.per_image, self.rows.length
        grid = -(-sides[0] // tile[0]), -(-sides[1] // tile[1])
        constants |= {"SPREAD": self.rows.spread, "ROWS": tile[0], "COLUMNS": tile[1]}
        return Launch(kernel, grid, args, constants, answer)


def two_phase(x: Tensor, neurons: Population) -> Launch | None:
    """Return what gives N worth for the mean input ``x`` [batch, ...] of a window, None where that cannot be done here.

    N = clip(floor((x T + offset) / theta + 1/2), low, most)
    """
    site = _Site.of(x, neurons, len(x))
    if site is None:
        return None
    out = torch.empty_like(x)
    limits = map(float, (neurons.steps, neurons.low, neurons.most))
    return site.launch("two_phase", (x, out, *site.args, *limits), out)


def tpp(x: Tensor, neurons: Population, table: Tensor, grid: int, key: int, images: Tensor) -> Launch | None:
    """Return what gives N worth for the mean input ``x`` [batch, ...] of a window, None where that cannot be done here.

    N = floor(E[N] + u), with u the random number of each neuron

    Args:
        table: E[N] at intervals of theta / ``grid`` and its rise over the interval, float32 [entries, 2].
        key, images: the hash of site and step, and that of each image, int64; as in `noise`.
    """
    site = _Site.of(x, neurons, len(images))
    if site is None or (table.dtype, table.device, images.device) != (x.dtype, x.device, x.device):
        return None
    out, rows = torch.empty_like(x), site.rows
    numbers = *map(float, (neurons.steps, neurons.most)), table, *map(float, (grid, len(table) - 1))
    random = key, images, rows.per_image, rows.position, rows.channel
    return site.launch("tpp", (x, out, *site.args, *numbers, *random), out, SIGNED=neurons.low < 0)


def integrate_and_fire(potential: Tensor, currents: Tensor, neurons: Population) -> Launch | None:
    """Return what gives the train s worth [steps, batch, ...] and v after it, or None where that cannot be done here.

    v <- v + I + offset;  s = 1[v >= theta];  v <- v - theta s

    Args:
        potential: v [batch, ...]; it is not changed.
        currents: I [steps, batch, ...], in memory like ``potential`` at each step.
    """
    site = _Site.of(potential, neurons, len(potential))
    if site is None or not alike(currents, potential):
        return None
    train, after = train_like(currents, potential), torch.empty_like(potential)
    values = potential, after, currents, currents.stride(0), train, train.stride(0)
    return site.launch("integrate_and_fire", (*values, *site.args, len(currents)), (train, after))
