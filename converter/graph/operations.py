"""Every operation that a canonical graph may hold, and what it does to time.

A canonical graph calls functions only. What a T-step simulation may do with an operation follows from one property:

- ``LINEAR``: affine in its signals, so it maps the mean over time of its input to the mean of its output, and may be
  applied step by step, to a whole train, or once to the mean.
- ``WINDOW``: not linear, but exact when it is applied once to the mean of a window (max-pooling, a final activation).

An activation that becomes a population of spiking neurons is no function but a `Site`, see `sites`.

A *signal* is a tensor that depends on the model's input; weights are constants. ``signals`` says which arguments may be
signals for the property to hold: the first only (a convolution), all of them (an add), or any single one (a product).

To support another operation, add one line to the table below; `tests/converter/graph/test_operations.py` then tests
it against its claim. Artefacts name operations by ``Operation.name``, so a name, once released, stays.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
import torch.nn.functional as F

Function = Callable[..., Any]


class Kind(StrEnum):
    """What an operation does to time; see the module's docstring."""

    LINEAR = "linear"
    WINDOW = "exact in the window"


class Signals(StrEnum):
    """Which arguments of an operation may be signals."""

    FIRST = "first"
    ALL = "all"
    ONE = "one"


@dataclass(frozen=True)
class Operation:
    """One line of the table.

    Args:
        name: the name in artefacts.
        function: what a canonical graph calls.
        kind: what it does to time.
        signals: which arguments may be signals.
        homogeneous: f(a x) = a f(x) for a > 0, so a window operation may be applied to the sum instead of the mean.
    """

    name: str
    function: Function
    kind: Kind
    signals: Signals = Signals.FIRST
    homogeneous: bool = False


def _lines(kind: Kind, signals: Signals, functions: dict[str, Function], homogeneous: bool = False) -> list[Operation]:
    return [Operation(name, function, kind, signals, homogeneous) for name, function in functions.items()]


_TABLE = [
    *_lines(
        Kind.LINEAR,
        Signals.FIRST,
        {
            "conv1d": F.conv1d,
            "conv2d": F.conv2d,
            "conv3d": F.conv3d,
            "conv_transpose1d": F.conv_transpose1d,
            "conv_transpose2d": F.conv_transpose2d,
            "conv_transpose3d": F.conv_transpose3d,
            "linear": F.linear,
            "avg_pool1d": F.avg_pool1d,
            "avg_pool2d": F.avg_pool2d,
            "avg_pool3d": F.avg_pool3d,
            "adaptive_avg_pool1d": F.adaptive_avg_pool1d,
            "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
            "adaptive_avg_pool3d": F.adaptive_avg_pool3d,
            "mean": torch.mean,
            "sum": torch.sum,
            "neg": torch.neg,
            "div": torch.div,
            "pad": F.pad,
            "interpolate": F.interpolate,
            "pixel_shuffle": F.pixel_shuffle,
            "pixel_unshuffle": F.pixel_unshuffle,
            "channel_shuffle": F.channel_shuffle,
            "reshape": torch.reshape,
            "flatten": torch.flatten,
            "permute": torch.permute,
            "transpose": torch.transpose,
            "squeeze": torch.squeeze,
            "unsqueeze": torch.unsqueeze,
            "flip": torch.flip,
            "getitem": operator.getitem,
            "chunk": torch.chunk,
            "split": torch.split,
        },
    ),
    *_lines(
        Kind.LINEAR,
        Signals.ALL,
        {"add": torch.add, "sub": torch.sub, "cat": torch.cat, "stack": torch.stack},
    ),
    *_lines(Kind.LINEAR, Signals.ONE, {"mul": torch.mul, "matmul": torch.matmul}),
    *_lines(
        Kind.WINDOW,
        Signals.FIRST,
        {
            "max_pool1d": F.max_pool1d,
            "max_pool2d": F.max_pool2d,
            "max_pool3d": F.max_pool3d,
            "adaptive_max_pool1d": F.adaptive_max_pool1d,
            "adaptive_max_pool2d": F.adaptive_max_pool2d,
            "adaptive_max_pool3d": F.adaptive_max_pool3d,
            "relu": torch.relu,
        },
        homogeneous=True,
    ),
    Operation("clamp", torch.clamp, Kind.WINDOW),
]

OPERATIONS: dict[Function, Operation] = {operation.function: operation for operation in _TABLE}
"""The table, by function."""

BY_NAME: dict[str, Operation] = {operation.name: operation for operation in _TABLE}
"""The table, by the name that artefacts use."""

MAX_POOLS: frozenset[Function] = frozenset(
    operation.function for operation in _TABLE if operation.name.startswith(("max_pool", "adaptive_max_pool"))
)

SYNONYMS: dict[Function | str, Function] = {
    operator.add: torch.add,
    operator.iadd: torch.add,
    operator.sub: torch.sub,
    operator.isub: torch.sub,
    operator.mul: torch.mul,
    operator.imul: torch.mul,
    torch.multiply: torch.mul,
    operator.truediv: torch.div,
    operator.itruediv: torch.div,
    torch.true_divide: torch.div,
    torch.divide: torch.div,
    operator.neg: torch.neg,
    operator.matmul: torch.matmul,
    torch.concat: torch.cat,
    torch.concatenate: torch.cat,
    torch.swapaxes: torch.transpose,
    torch.max_pool1d: F.max_pool1d,
    torch.max_pool2d: F.max_pool2d,
    torch.max_pool3d: F.max_pool3d,
    "add": torch.add,
    "add_": torch.add,
    "sub": torch.sub,
    "sub_": torch.sub,
    "mul": torch.mul,
    "mul_": torch.mul,
    "div": torch.div,
    "div_": torch.div,
    "neg": torch.neg,
    "matmul": torch.matmul,
    "mean": torch.mean,
    "sum": torch.sum,
    "view": torch.reshape,
    "reshape": torch.reshape,
    "flatten": torch.flatten,
    "permute": torch.permute,
    "transpose": torch.transpose,
    "squeeze": torch.squeeze,
    "unsqueeze": torch.unsqueeze,
    "flip": torch.flip,
    "chunk": torch.chunk,
    "split": torch.split,
}
"""Other spellings of the table's functions; a string is a tensor method."""

SPREAD_ARGUMENTS: frozenset[Function] = frozenset({torch.reshape, torch.permute, torch.flip})
"""Functions whose method takes its tuple argument spread out: ``x.view(2, 3)``."""

IDENTITIES: frozenset[Function | str] = frozenset(
    {
        F.dropout,
        F.dropout1d,
        F.dropout2d,
        F.dropout3d,
        F.alpha_dropout,
        F.feature_alpha_dropout,
        torch.dropout,
        torch.clone,
        torch.detach,
        "contiguous",
        "clone",
        "detach",
        "float",
        "to",
    }
)
"""Functions and methods that do nothing to a network's result at inference."""

ASSERTIONS: frozenset[Function] = frozenset({torch._assert})
"""Calls without a result that only check, at tracing time, what holds for the example."""

IN_PLACE: frozenset[Function] = frozenset({operator.iadd, operator.isub, operator.imul, operator.itruediv})
"""Functions that overwrite their first argument without saying so in their name: ``y += x``."""

STRUCTURE: frozenset[Function | str] = frozenset({getattr, len, "size", "dim", "numel", "ndimension"})
"""Functions and methods that read a tensor's shape or type; their results become numbers in the canonical graph."""
