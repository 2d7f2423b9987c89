"""Fused elementwise functions: one pass over memory where a compiler is at hand, plain torch elsewhere.

Sites are bound by memory, not by arithmetic: what a compiler puts into one loop runs several times faster than a chain
of operations.
"""

import functools
import shutil
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from .checked import Checked, Plan

_VARIANTS = 256
_LARGE = 4096
"""Elements from which on a compiled loop surely takes its vectorised path."""


@functools.cache
def compiler() -> str | None:
    """Return the C++ compiler that torch would use on a CPU, None where there is none."""
    from torch._inductor import config

    names = config.cpp.cxx
    for name in (names,) if isinstance(names, str) else names:
        if name is not None and (path := shutil.which(name)) is not None:
            return path
    return None


class Fused(Checked):
    """A function of tensors that is compiled when it is first called, for any shape, if that is possible.

    It is elementwise, or a reduction of such; it may write to tensors that it is given.
    """

    def _compile(self) -> None:
        if compiler() is None:
            self.failure = "no C++ compiler was found"
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.compiled = torch.compile(self.function, dynamic=True)
            except Exception as error:  # whatever a compiler says, the function itself is the answer
                self._give_up(error)

    def _run(self, args: tuple[Any, ...]) -> Any:
        assert self.compiled is not None
        with warnings.catch_warnings(), torch._dynamo.config.patch(recompile_limit=_VARIANTS):
            warnings.simplefilter("ignore")
            return self.compiled(*args)

    def _copies(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        copies: tuple[Any, ...] = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, args)
        return copies

    def _plan(self, args: tuple[Any, ...]) -> Plan:
        """Return what decides which loop a compiler writes for ``args``, as far as it is known from outside."""
        kind = tuple(
            (x.dtype, x.ndim, x.is_contiguous(), x.stride(0) < x.stride(-1) if x.ndim else False, x.numel() >= _LARGE)
            if isinstance(x, Tensor)
            else x
            if callable(x) or isinstance(x, int)
            else None
            for x in tree_leaves(args)
        )
        return kind, self._run
