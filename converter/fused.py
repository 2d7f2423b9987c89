"""Fused elementwise functions: one pass over memory where a compiler is at hand, plain torch elsewhere.

Sites are bound by memory, not by arithmetic: what a compiler puts into one loop runs several times faster than a chain
of operations. The answer must be the same, and compilers err: torch 2.13 compiles a product of int64 tensors to
something else where the processor has AVX-512. So each kind of arguments is run both ways when it first comes, and a
compiled function that says something else is not used.
"""

import functools
import logging
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

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


class Fused:
    """A function of tensors that is compiled when it is first called, for any shape, if that is possible.

    Args:
        function: elementwise, or a reduction of such; it may write to tensors that it is given.
        exact: whether the compiled one must answer with the same bits; sums in another order do not.
    """

    def __init__(self, function: Callable[..., Any], *, exact: bool = True) -> None:
        functools.update_wrapper(self, function)
        self.function, self.exact = function, exact
        self.compiled: Callable[..., Any] | None = None
        self.failure: str | None = None
        self.compared: set[tuple[Any, ...]] = set()

    def __call__(self, *args: Any) -> Any:
        """Return the function of ``args``."""
        if self.failure is None and self.compiled is None:
            self._compile()
        if self.failure is not None or self.compiled is None:
            return self.function(*args)
        kind = _kind(args)
        if kind not in self.compared:
            return self._compare(args, kind)
        try:
            return self._run(args)
        except Exception as error:  # compiling for other sizes may fail too, before anything ran
            self._give_up(error)
            return self.function(*args)

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

    def _compare(self, args: tuple[Any, ...], kind: tuple[Any, ...]) -> Any:
        """Return the function of ``args`` itself, after a look at whether the compiled one says the same."""
        copies = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, args)
        result = self.function(*args)  # what it refuses itself is no failure to compile
        try:
            again = self._run(copies)
        except Exception as error:
            self._give_up(error)
            return result
        pairs = zip(tree_leaves((result, args)), tree_leaves((again, copies)), strict=True)
        if all(self._same(one, other) for one, other in pairs):
            self.compared.add(kind)
        else:
            self._give_up(ArithmeticError("compiled, it gives other numbers"))
        return result

    def _same(self, one: Any, other: Any) -> bool:
        if not isinstance(one, Tensor):
            return True
        if self.exact or not one.is_floating_point():
            return torch.equal(one.nan_to_num(), other.nan_to_num()) and bool((one.isnan() == other.isnan()).all())
        scale = float(one.abs().nan_to_num(posinf=0).sum() / max(1, one.numel()))
        return torch.allclose(one, other, rtol=1e-3, atol=1e-3 * scale, equal_nan=True)

    def _give_up(self, error: Exception) -> None:
        self.failure, self.compiled = f"{type(error).__name__}: {str(error)[:200]}", None
        logging.getLogger(__name__).info("not compiled: %s", self.failure)


def _kind(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what decides which loop a compiler writes for ``args``, as far as it is known from outside."""
    return tuple(
        (x.dtype, x.ndim, x.is_contiguous(), x.stride(0) < x.stride(-1) if x.ndim else False, x.numel() >= _LARGE)
        if isinstance(x, Tensor)
        else x
        if callable(x)
        else None
        for x in tree_leaves(args)
    )
