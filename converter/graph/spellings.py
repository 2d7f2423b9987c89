"""The many spellings of the operation table's functions, and the calls that a canonical graph does without."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from . import functions
from .operations import BY_NAME

Function = Callable[..., Any]

_OTHER_SIGNATURE = frozenset(
    {"unfold", "where", "getitem", "normalize", "instance_norm", "einsum", "windows", "gather", "adaptive_max_pool1d"}
)
"""Names under which torch or its tensors have something else than the table."""

_EXPLICIT: dict[Function | str, Function] = {
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
    operator.pow: torch.pow,
    operator.ipow: torch.pow,
    operator.neg: torch.neg,
    operator.matmul: torch.matmul,
    operator.gt: torch.gt,
    operator.ge: torch.ge,
    operator.lt: torch.lt,
    operator.le: torch.le,
    operator.eq: torch.eq,
    operator.ne: torch.ne,
    torch.bmm: torch.matmul,
    torch.concat: torch.cat,
    torch.concatenate: torch.cat,
    torch.swapaxes: torch.transpose,
    torch.clip: torch.clamp,
    torch.absolute: torch.abs,
    torch.special.expit: torch.sigmoid,
    torch.broadcast_to: functions.expand,
    "bmm": torch.matmul,
    "clip": torch.clamp,
    "view": torch.reshape,
    "swapaxes": torch.transpose,
    "broadcast_to": functions.expand,
    "expand_as": functions.expand,
    "unfold": functions.windows,
    "gather": torch.gather,
}


def _torch_and_method_spellings() -> dict[Function | str, Function]:
    found: dict[Function | str, Function] = {}
    for name, operation in BY_NAME.items():
        if name in _OTHER_SIGNATURE:
            continue
        for library in (torch, F):
            for spelling in (name, f"{name}_"):
                function = getattr(library, spelling, None)
                if function is not None and function is not operation.function:
                    found[function] = operation.function
        for spelling in (name, f"{name}_"):
            if hasattr(torch.Tensor, spelling):
                found[spelling] = operation.function
    return found


SYNONYMS: dict[Function | str, Function] = _torch_and_method_spellings() | _EXPLICIT
"""Other spellings of the table's functions; a string is a tensor method."""

SPREAD_ARGUMENTS: frozenset[Function] = frozenset(
    {torch.reshape, torch.permute, torch.flip, functions.expand, functions.repeat}
)
"""Functions whose method takes its tuple argument spread out: ``x.view(2, 3)``."""

RESHAPES: frozenset[Function | str] = frozenset({torch.reshape, torch.squeeze, "reshape_as", "view_as", "unflatten"})
"""What becomes a reshape to a known shape; a squeeze would also drop a batch of one image."""

UNPACKED: frozenset[Function | str] = frozenset(
    {torch.chunk, torch.split, torch.unbind, torch.tensor_split, "chunk", "split", "unbind", "tensor_split"}
)
"""What gives several tensors, each of which becomes a slice of its own."""

VIEWS: frozenset[Function | str] = frozenset(
    {
        *("view", "transpose", "permute", "squeeze", "unsqueeze", "expand", "detach", "swapaxes", "narrow", "select"),
        *(torch.transpose, torch.permute, torch.squeeze, torch.unsqueeze, torch.detach, torch.swapaxes),
        *(torch.narrow, torch.select),
    }
)
"""What always returns its argument's own memory; a reshape does so only at times."""

PAIRS: dict[Function | str, tuple[Function, Function]] = {
    torch.max: (torch.amax, torch.argmax),
    "max": (torch.amax, torch.argmax),
    torch.min: (torch.amin, torch.argmin),
    "min": (torch.amin, torch.argmin),
    torch.var_mean: (torch.var, torch.mean),
    torch.std_mean: (torch.std, torch.mean),
}
"""What gives two tensors, each of which becomes a call of its own."""

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
        "type_as",
        "type",
        "cpu",
        "cuda",
        "requires_grad_",
    }
)
"""Functions and methods that do nothing to a network's result at inference."""

COPIES_AT_TIMES: frozenset[Function | str] = (IDENTITIES - {torch.clone, "clone"}) | {torch.flatten, "flatten"}
"""What returns its argument's own memory where there is nothing to do."""

ASSERTIONS: frozenset[Function] = frozenset({torch._assert})
"""Calls without a result that only check, at tracing time, what holds for the example."""

IN_PLACE: frozenset[Function] = frozenset(
    {operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, functions.assign}
)
"""Functions that overwrite their first argument without saying so in their name: ``y += x``, ``y[i] = x``."""

STRUCTURE: frozenset[Function | str] = frozenset({getattr, len, "size", "dim", "numel", "ndimension"})
"""Functions and methods that read a tensor's shape or type; their results become numbers in the canonical graph."""
