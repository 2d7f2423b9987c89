"""Call a function on shapes alone, and remember what came out: networks repeat their blocks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map


class OnShapes:
    """Calls functions on tensors of torch's meta device, each once for equal arguments."""

    def __init__(self) -> None:
        self.results: dict[Any, Any] = {}

    def __call__(self, function: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what ``function``, or the method of that name of the first argument, returns."""
        args, kwargs = tree_map(_on_meta_device, (args, kwargs))  # x.to(y.device), which has data
        key = (function, _key(args), _key(kwargs))
        try:
            if key not in self.results:
                self.results[key] = _call(function, args, kwargs)
        except TypeError as error:
            if "unhashable" not in str(error):
                raise
            return _call(function, args, kwargs)
        return self.results[key]


def _call(function: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if isinstance(function, str):
        return getattr(args[0], function)(*args[1:], **kwargs)
    return function(*args, **kwargs)


def _key(value: Any) -> Any:
    match value:
        case Tensor():
            return value.shape, value.stride(), value.dtype, value.is_meta
        case list() | tuple():
            return (type(value).__name__, *map(_key, value))
        case dict():
            return tuple((name, _key(each)) for name, each in value.items())
        case slice():
            return ("slice", value.start, value.stop, value.step)
    return (type(value).__name__, value)


def _on_meta_device(value: Any) -> Any:
    return torch.device("meta") if isinstance(value, torch.device) else value


def to_meta(value: Any) -> Any:
    """Return a tensor's shape and type as a tensor without data, and anything else as it is."""
    return value.to("meta") if isinstance(value, Tensor) and not value.is_meta else value
