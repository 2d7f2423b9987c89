"""The fast ways to run a function of a site, whose truth is plain torch: C on a CPU, Triton or inductor on a GPU."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from . import native, triton_neurons
from .checked import Checked, Plan
from .fused import Fused


class Kernel(Checked):
    """A function of a site as a Triton kernel; it gives None where that does not run.

    Args:
        function: in plain torch; it takes inputs, a `Population` and whatever else the kernel takes.
        name: of the kernel in `triton_neurons`.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        super().__init__(function)
        self.name = name

    def _compile(self) -> None:
        module, reason = triton_neurons.kernels()
        if module is None:
            self.failure = reason
        else:
            self.compiled = getattr(triton_neurons, self.name)

    def _plan(self, args: tuple[Any, ...]) -> Plan | None:
        assert self.compiled is not None
        launch = self.compiled(*args)
        return None if launch is None else (launch.kind, lambda args: launch.run())

    def _otherwise(self, args: tuple[Any, ...]) -> None:
        return None


class Ways:
    """The ways to run one function of a site.

    Args:
        function: in plain torch; it takes inputs, a `Population` and whatever else the others take.
        name: that of the others in `native` and `triton_neurons`.
        fused: what inductor makes of it; by default of ``function`` as it is.
    """

    def __init__(self, function: Callable[..., Any], name: str, fused: Callable[..., Any] | None = None) -> None:
        self.name = name
        self.kernel, self.fused = Kernel(function, name), fused or Fused(function)

    def __call__(self, x: Tensor, *args: Any) -> Any:
        """Return the function of ``x`` and ``args``, None where it has no fast way for them."""
        if not x.is_cuda:
            return getattr(native, self.name)(x, *args)
        found = self.kernel(x, *args)
        return self.fused(x, *args) if found is None else found
