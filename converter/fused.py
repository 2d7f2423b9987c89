"""Fused elementwise functions: one pass over memory where a compiler is at hand, plain torch elsewhere.

Sites are bound by memory, not by arithmetic: what a compiler puts into one loop runs several times faster than a chain
of operations. Both give the same numbers; the compiler is told not to contract multiplications and additions.
"""

import functools
import logging
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch

_VARIANTS = 256


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
        function: elementwise, or a reduction of such; without side effects.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.compiled: Callable[..., Any] | None = None
        self.failure: str | None = None

    def __call__(self, *args: Any) -> Any:
        """Return the function of ``args``."""
        if self.failure is None:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    if self.compiled is None:
                        self._compile()
                    if self.compiled is not None:
                        with torch._dynamo.config.patch(recompile_limit=_VARIANTS):
                            return self.compiled(*args)
            except Exception as error:  # whatever a compiler says, the function itself is the answer
                result = self.function(*args)  # what it refuses itself is no failure to compile
                self.failure, self.compiled = f"{type(error).__name__}: {str(error)[:200]}", None
                logging.getLogger(__name__).info("not compiled: %s", self.failure)
                return result
        return self.function(*args)

    def _compile(self) -> None:
        if compiler() is None:
            self.failure = "no C++ compiler was found"
        else:
            self.compiled = torch.compile(self.function, dynamic=True)
