"""Make a function of one's own an activation, which becomes a population of spiking neurons."""

from collections.abc import Callable
from functools import wraps
from inspect import unwrap

from torch import Tensor, fx

from ..errors import UsageError
from .operations import BY_NAME, OPERATIONS, Kind, Operation, Range, Signals

Elementwise = Callable[..., Tensor]


def _code(function: Elementwise) -> object:
    """Return what tells a function from another one of the same name; reloading a module gives the same."""
    code = getattr(unwrap(function), "__code__", None)
    return function if code is None else (code.co_code, code.co_consts, code.co_names, function.__qualname__)


def activation(name: str, *, positive: bool = False) -> Callable[[Elementwise], Elementwise]:
    """Return a decorator that makes a function an activation: one site per call, instead of what it is made of.

        @snnconvert.activation("swish2")
        def swish2(x): return x * torch.sigmoid(2 * x)

    Its neurons fire the rounded value of f at the mean of what they accumulated, with signed counts. Opening an
    artefact that holds it needs the same registration first, because artefacts hold names instead of code.

    Args:
        name: in artefacts; letters, digits and underscores.
        positive: it is never negative, so its neurons fire binary spikes.

    Raises:
        UsageError: the name is no such word, or is taken by another function.
    """
    if not name.isidentifier():
        raise UsageError(f"an activation's name is letters, digits and underscores, got {name!r}")

    def register(function: Elementwise) -> Elementwise:
        known = BY_NAME.get(name)
        if known is not None and _code(known.function) != _code(function):
            raise UsageError(f"there is an operation {name!r} already", "choose another name")

        @wraps(function)
        def call(x: Tensor, *args: object, **kwargs: object) -> Tensor:
            if isinstance(x, fx.Proxy):
                proxy: Tensor = x.tracer.create_proxy("call_function", call, (x, *args), kwargs)
                return proxy
            return function(x, *args, **kwargs)

        sign = Range.POSITIVE if positive else Range.ANY
        operation = Operation(name, call, Kind.ACTIVATION, Signals.FIRST, range=sign)
        call.operation = operation  # type: ignore[attr-defined]
        BY_NAME[name] = OPERATIONS[call] = operation
        return call

    return register
