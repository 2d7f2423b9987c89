"""A function with a faster way to the same answer, which is given up when it fails or says something else.

Compilers err: torch 2.13 compiles a product of int64 tensors to something else where the processor has AVX-512. So each
kind of arguments is run both ways when it first comes.
"""

import functools
import logging
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

Plan = tuple[Hashable, Callable[[tuple[Any, ...]], Any]]


class Checked:
    """A function that is run in a faster way where that gives the same.

    Args:
        function: it gives tensors.
        exact: whether the faster way must give the same bits, but for the sign of zeros; sums in another order do not.
    """

    def __init__(self, function: Callable[..., Any], *, exact: bool = True) -> None:
        functools.update_wrapper(self, function)
        self.function, self.exact = function, exact
        self.compiled: Callable[..., Any] | None = None
        self.failure: str | None = None
        self.compared: set[Hashable] = set()

    def __call__(self, *args: Any) -> Any:
        """Return the function of ``args``, or what stands for it where there is no faster way."""
        if self.failure is None and self.compiled is None:
            self._compile()
        if self.failure is not None or self.compiled is None:
            return self._otherwise(args)
        plan = self._plan(args)
        if plan is None:
            return self._otherwise(args)
        kind, run = plan
        if kind not in self.compared:
            return self._compare(args, kind, run)
        try:
            return run(args)
        except Exception as error:  # compiling for other sizes may fail too, before anything ran
            self._give_up(error)
            return self._otherwise(args)

    def _compile(self) -> None:
        """Set ``compiled``, or ``failure`` where there is nothing faster."""
        raise NotImplementedError

    def _plan(self, args: tuple[Any, ...]) -> Plan | None:
        """Return what decides which code runs for ``args``, and what runs it; None where that must not be tried."""
        raise NotImplementedError

    def _otherwise(self, args: tuple[Any, ...]) -> Any:
        return self.function(*args)

    def _copies(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return what the faster way is given when it is compared: ``args``, or copies where it writes to them."""
        return args

    def _compare(self, args: tuple[Any, ...], kind: Hashable, run: Callable[[tuple[Any, ...]], Any]) -> Any:
        """Return the function of ``args`` itself, after a look at whether the faster way says the same."""
        copies = self._copies(args)
        result = self.function(*args)  # what it refuses itself is no failure to compile
        try:
            again = run(copies)
        except Exception as error:
            self._give_up(error)
            return result
        pairs = zip(tree_leaves((result, args)), tree_leaves((again, copies)), strict=True)
        if all(self._same(one, other) for one, other in pairs if one is not other):
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
        logging.getLogger(type(self).__module__).info("not compiled: %s", self.failure)
