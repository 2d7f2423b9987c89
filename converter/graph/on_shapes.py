"""Call a function on shapes alone, and remember what came out: networks repeat their blocks."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


class OnShapes:
    """Calls functions on tensors of torch's meta device, each once for equal arguments."""

    def __init__(self) -> None:
        self.results: dict[Any, Any] = {}

    def __call__(self, function: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what ``function``, or the method of that name of the first argument, returns."""
        call = (lambda x, *rest, **named: getattr(x, function)(*rest, **named)) if isinstance(function, str) else function
        key = (function, _key(args), _key(kwargs))
        try:
            if key not in self.results:
                self.results[key] = call(*args, **kwargs)
        except TypeError as error:
            if "unhashable" not in str(error):
                raise
            return call(*args, **kwargs)
        return self.results[key]


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


def to_meta(value: Any) -> Any:
    """Return a tensor's shape and type as a tensor without data, and anything else as it is."""
    return value.to("meta") if isinstance(value, Tensor) and not value.is_meta else value
