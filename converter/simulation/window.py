"""Operations that are not linear, carried through time.

In a two-phase network such an operation f is applied once, to the mean of its window. In a streaming network its
output at step t is the change of its accumulated result,

    y[t] = t f(S[t] / t) - (t - 1) f(S[t-1] / (t - 1)),   S[t] = x[1] + ... + x[t]

so that the outputs add up to T f(mean of x): exact in total. For max-pooling, where t f(S / t) = f(S), this is the
difference of running maxima.
"""

from typing import Any

from torch import Tensor, fx

from ..graph.operations import OPERATIONS


def apply(node: fx.Node, x: Any) -> Any:
    """Return ``node``'s function of ``x`` in the place of its first argument."""
    return node.target(x, *node.args[1:], **node.kwargs)  # type: ignore[operator]


def accumulated(node: fx.Node, total: Tensor, steps: int) -> Tensor:
    """Return t f(S / t) for the ``total`` S of ``steps`` t inputs."""
    if OPERATIONS[node.target].homogeneous:  # type: ignore[index]
        result: Tensor = apply(node, total)
        return result
    scaled: Tensor = apply(node, total / steps) * steps
    return scaled
