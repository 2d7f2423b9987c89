"""Operations that are not linear, carried through time.

In a two-phase network such an operation f is applied once, to the means of its inputs over their window. In a
streaming network its output at step t is the change of its accumulated result,

    y[t] = t f(S[t] / t) - (t - 1) f(S[t-1] / (t - 1)),   S[t] = x[1] + ... + x[t]

so that the outputs add up to T f(mean of x): exact in total. For max-pooling, where t f(S / t) = f(S), this is the
difference of running maxima.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx

from ..graph.signals import operation_of


def apply(node: fx.Node, read: Callable[[fx.Node], Any]) -> Any:
    """Return ``node``'s function of what ``read`` returns for the nodes among its arguments."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), read)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def accumulated(node: fx.Node, steps: int, total: Callable[[fx.Node], Any], constant: set[fx.Node]) -> Tensor:
    """Return t f(S / t) for the sums S of ``steps`` t inputs.

    Args:
        total: gives S for each signal among the arguments, and the values of those in ``constant``.
        constant: the weights.
    """
    operation = operation_of(node)
    if operation is not None and operation.homogeneous:
        result: Tensor = apply(node, total)
        return result
    scaled: Tensor = apply(node, lambda n: total(n) if n in constant else total(n) / steps) * steps
    return scaled
