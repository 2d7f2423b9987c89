"""Every operation that a canonical graph may hold, and what it does to time.

A canonical graph calls functions only, and each gives one tensor. What a T-step simulation may do with a call follows
from its kind:

- ``LINEAR``: affine in its signals, so it maps the mean over time of its input to the mean of its output, and may be
  applied step by step, to a whole train, or once to the mean.
- ``WINDOW``: not linear, but exact when it is applied once to the mean of a window: max-pooling.
- ``ACTIVATION``: a nonlinear function of each number alone; a population of neurons can fire its value, see `spikes`.
- ``ANALOG``: any other function. It is applied once to the means of a window too, and no spikes compute it.

A ReLU that becomes a population of spiking neurons is no function but a `Site`, see `sites`.

A *signal* is a tensor that depends on the model's input; weights are constants. ``signals`` says which arguments of a
linear operation may be signals: the first only (a convolution), all of them (an add), or any single one (a product).
A call with more signals, such as the product of two, is analog; `signals.kind_of` tells the kind of a call.

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

from . import functions

Function = Callable[..., Any]


class Kind(StrEnum):
    """What an operation does to time; see the module's docstring."""

    LINEAR = "linear"
    WINDOW = "exact in the window"
    ACTIVATION = "activation"
    ANALOG = "analog"


class Signals(StrEnum):
    """Which arguments of a linear operation may be signals."""

    FIRST = "first"
    ALL = "all"
    ONE = "one"


class Range(StrEnum):
    """What is known of the sign of a result."""

    ANY = "any"
    POSITIVE = "never negative"
    KEPT = "never negative where no signal is"


@dataclass(frozen=True)
class Operation:
    """One line of the table.

    Args:
        name: the name in artefacts.
        function: what a canonical graph calls.
        kind: what it does to time.
        signals: which arguments may be signals, for it to be of that kind.
        homogeneous: f(a x) = a f(x) for a > 0, so it may be applied to sums instead of means.
        range: the sign of its result.
    """

    name: str
    function: Function
    kind: Kind
    signals: Signals = Signals.ALL
    homogeneous: bool = False
    range: Range = Range.ANY


SYNAPSES: dict[str, Function] = {
    "conv1d": F.conv1d,
    "conv2d": F.conv2d,
    "conv3d": F.conv3d,
    "conv_transpose1d": F.conv_transpose1d,
    "conv_transpose2d": F.conv_transpose2d,
    "conv_transpose3d": F.conv_transpose3d,
    "linear": F.linear,
}
"""Operations with weights: on a chip each number that enters one is spikes on a synapse."""

LAYOUT: dict[str, Function] = {
    "reshape": torch.reshape,
    "flatten": torch.flatten,
    "permute": torch.permute,
    "transpose": torch.transpose,
    "squeeze": torch.squeeze,
    "unsqueeze": torch.unsqueeze,
    "flip": torch.flip,
    "roll": torch.roll,
    "getitem": operator.getitem,
    "narrow": torch.narrow,
    "select": torch.select,
    "index_select": torch.index_select,
    "expand": functions.expand,
    "repeat": functions.repeat,
    "repeat_interleave": torch.repeat_interleave,
    "pixel_shuffle": F.pixel_shuffle,
    "pixel_unshuffle": F.pixel_unshuffle,
    "channel_shuffle": F.channel_shuffle,
    "windows": functions.windows,
    "unfold": F.unfold,
}
"""Operations that only move numbers."""

_AVERAGES: dict[str, Function] = {
    "avg_pool1d": F.avg_pool1d,
    "avg_pool2d": F.avg_pool2d,
    "avg_pool3d": F.avg_pool3d,
    "adaptive_avg_pool1d": F.adaptive_avg_pool1d,
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "adaptive_avg_pool3d": F.adaptive_avg_pool3d,
    "mean": torch.mean,
    "sum": torch.sum,
    "cumsum": torch.cumsum,
    "fold": F.fold,
}

_MAXIMA: dict[str, Function] = {
    "max_pool1d": F.max_pool1d,
    "max_pool2d": F.max_pool2d,
    "max_pool3d": F.max_pool3d,
    "adaptive_max_pool1d": F.adaptive_max_pool1d,
    "adaptive_max_pool2d": F.adaptive_max_pool2d,
    "adaptive_max_pool3d": F.adaptive_max_pool3d,
    "pad_lowest": functions.pad_lowest,
    "amax": torch.amax,
}

_ANY_SIGN: dict[str, Function] = {
    "leaky_relu": F.leaky_relu,
    "prelu": F.prelu,
    "rrelu": F.rrelu,
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "gelu": F.gelu,
    "mish": F.mish,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "tanh": torch.tanh,
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "tanhshrink": F.tanhshrink,
    "threshold": F.threshold,
    "clamp": torch.clamp,
    "erf": torch.erf,
    "log": torch.log,
    "sin": torch.sin,
    "cos": torch.cos,
    "pow": torch.pow,
    "reciprocal": torch.reciprocal,
    "sign": torch.sign,
}

_NEVER_NEGATIVE: dict[str, Function] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "softplus": F.softplus,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "square": torch.square,
    "abs": torch.abs,
}

_ANALOG: dict[str, Function] = {
    "layer_norm": F.layer_norm,
    "group_norm": F.group_norm,
    "rms_norm": F.rms_norm,
    "instance_norm": F.instance_norm,
    "local_response_norm": F.local_response_norm,
    "normalize": F.normalize,
    "log_softmax": F.log_softmax,
    "logsumexp": torch.logsumexp,
    "scaled_dot_product_attention": F.scaled_dot_product_attention,
    "grid_sample": F.grid_sample,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "amin": torch.amin,
    "prod": torch.prod,
    "where": torch.where,
    "masked_fill": torch.masked_fill,
    "gather": torch.gather,
    "to_dtype": functions.to_dtype,
    "argmax": torch.argmax,
    "argmin": torch.argmin,
    "gt": torch.gt,
    "ge": torch.ge,
    "lt": torch.lt,
    "le": torch.le,
    "eq": torch.eq,
    "ne": torch.ne,
}


def _lines(functions: dict[str, Function], kind: Kind, **properties: Any) -> list[Operation]:
    return [Operation(name, function, kind, **properties) for name, function in functions.items()]


_TABLE = [
    *_lines(SYNAPSES, Kind.LINEAR, signals=Signals.FIRST),
    *_lines(LAYOUT | _AVERAGES, Kind.LINEAR, signals=Signals.FIRST, range=Range.KEPT),
    *_lines(
        {"neg": torch.neg, "div": torch.div, "pad": F.pad, "interpolate": F.interpolate},
        Kind.LINEAR,
        signals=Signals.FIRST,
    ),
    *_lines({"add": torch.add, "cat": torch.cat, "stack": torch.stack}, Kind.LINEAR, range=Range.KEPT),
    *_lines({"sub": torch.sub, "assign": functions.assign, "per_image": functions.per_image}, Kind.LINEAR),
    *_lines({"mul": torch.mul, "matmul": torch.matmul}, Kind.LINEAR, signals=Signals.ONE, range=Range.KEPT),
    *_lines({"einsum": torch.einsum}, Kind.LINEAR, signals=Signals.ONE),
    *_lines(_MAXIMA, Kind.WINDOW, homogeneous=True, range=Range.KEPT),
    *_lines(_ANY_SIGN, Kind.ACTIVATION, signals=Signals.FIRST),
    *_lines(_NEVER_NEGATIVE, Kind.ACTIVATION, signals=Signals.FIRST, range=Range.POSITIVE),
    *_lines(_ANALOG, Kind.ANALOG),
    *_lines(
        {
            "softmax": F.softmax,
            "norm": torch.norm,
            "vector_norm": torch.linalg.vector_norm,
            "std": torch.std,
            "var": torch.var,
        },
        Kind.ANALOG,
        range=Range.POSITIVE,
    ),
]

OPERATIONS: dict[Function, Operation] = {operation.function: operation for operation in _TABLE}
"""The table, by function."""

BY_NAME: dict[str, Operation] = {operation.name: operation for operation in _TABLE}
"""The table, by the name that artefacts use."""

MAX_POOLS: frozenset[Function] = frozenset(_MAXIMA.values())
