"""What stands for a tensor while a model's code is traced."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from . import functions


class SizedProxy(fx.Proxy):
    """A proxy that knows the sizes that do not follow the batch.

    On it ``y += x`` changes y for all that hold it, as on a tensor; torch's proxy makes a new one.
    """

    is_nested = False  # torch's transformer layers ask

    @property
    def shape(self) -> Any:
        """The shape as a tuple: numbers, and a proxy for each size that follows the batch."""
        symbolic: Any = fx.proxy.Attribute(self, "shape")
        known = self.tracer.sizes.known(self.node)  # type: ignore[attr-defined]
        if known is None:
            return symbolic
        sizes = tuple(symbolic[i] if size is None else size for i, size in enumerate(known))
        return sizes if None in known else torch.Size(sizes)

    @property
    def ndim(self) -> Any:
        """The number of dimensions."""
        known = self.tracer.sizes.known(self.node)  # type: ignore[attr-defined]
        return fx.proxy.Attribute(self, "ndim") if known is None else len(known)

    def dim(self) -> Any:
        """Return the number of dimensions."""
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or one size of it."""
        return self.shape if dim is None else self.shape[dim]

    @property
    def device(self) -> Any:
        """The device of the example."""
        return self.tracer.sizes.device  # type: ignore[attr-defined]

    @property
    def dtype(self) -> Any:
        """The type of number."""
        found = self.tracer.sizes.value(self.node)  # type: ignore[attr-defined]
        return found.dtype if isinstance(found, Tensor) else fx.proxy.Attribute(self, "dtype")

    def __len__(self) -> int:
        """Return the number of results, or the first size, where it is known."""
        found = self.tracer.sizes.value(self.node)  # type: ignore[attr-defined]
        known = self.tracer.sizes.known(self.node)  # type: ignore[attr-defined]
        if known is None and not isinstance(found, tuple | list):
            return super().__len__()
        return len(found) if known is None else known[0]

    def __iter__(self) -> Any:
        """Return the results, or the rows, where their number is known."""
        found = self.tracer.sizes.value(self.node)  # type: ignore[attr-defined]
        known = self.tracer.sizes.known(self.node)  # type: ignore[attr-defined]
        if isinstance(found, tuple | list) or (known and known[0] is not None):
            return iter([operator.getitem(self, i) for i in range(len(self))])
        return super().__iter__()

    @property
    def mT(self) -> Any:  # noqa: N802
        """The tensor with its last two dimensions exchanged."""
        return self.transpose(-2, -1)

    @property
    def T(self) -> Any:  # noqa: N802
        """The tensor with its dimensions in reverse order."""
        return self.permute(tuple(reversed(range(self.ndim))))

    def __setitem__(self, index: Any, value: Any) -> None:
        """Overwrite a part: ``y[index] = value``."""
        self.tracer.create_proxy("call_function", functions.assign, (self, index, value), {})

    def _overwrite(self, function: Callable[..., Any], other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def __iadd__(self, other: Any) -> Any:
        """Overwrite: ``y += other``."""
        return self._overwrite(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        """Overwrite: ``y -= other``."""
        return self._overwrite(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        """Overwrite: ``y *= other``."""
        return self._overwrite(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        """Overwrite: ``y /= other``."""
        return self._overwrite(operator.itruediv, other)

    def __ipow__(self, other: Any) -> Any:
        """Overwrite: ``y **= other``."""
        return self._overwrite(operator.ipow, other)


class Pair(NamedTuple):
    """What a maximum along a dimension returns."""

    values: Any
    indices: Any
