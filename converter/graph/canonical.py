"""Rewrite a traced graph until it holds only constants and the functions of the table in `operations`."""

import inspect
import math
import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ModelRefused
from . import functions
from .operations import OPERATIONS
from .signals import constants, imageless, is_structure
from .sites import site_cap
from .spellings import (
    ASSERTIONS,
    IDENTITIES,
    PAIRS,
    RESHAPES,
    SPREAD_ARGUMENTS,
    SYNONYMS,
    UNPACKED,
)
from .writes import ADVICE, Writes, lost_writes

_HINTS = dict.fromkeys(
    ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
    "it stays on at inference; write F.dropout(x, training=self.training)",
)
_DEFAULT_HINT = (
    "no rule carries it through time; a function of each number alone becomes an activation with "
    "snnconvert.activation, anything else: replace it and retrain, or convert a submodule without it"
)


@dataclass(frozen=True)
class Unsupported:
    """A call that cannot be converted.

    Args:
        path: of the module that made the call.
        name: of the operation, as a user knows it.
        source: the line of the model's code.
        advice: what to do.
    """

    path: str
    name: str
    source: str
    advice: str

    def __str__(self) -> str:
        """All of it in one line."""
        return f"{self.path or '(top level)'}: {self.name} at {self.source}: {self.advice}"


def describe(node: fx.Node) -> str:
    """Return the name of a node's operation as a user knows it: ``gelu``, ``Tensor.exp``, ``MultiheadAttention``."""
    if node.op == "call_module":
        module = node.graph.owning_module
        return str(node.target) if module is None else type(module.get_submodule(str(node.target))).__name__
    if node.target is getattr:
        return f"Tensor.{node.args[1]}"
    if isinstance(node.target, str):
        return f"Tensor.{node.target}"
    return str(getattr(node.target, "__name__", node.target)).lstrip("_")


def unsupported(module: fx.GraphModule) -> list[Unsupported]:
    """Return every operation on a signal that is not known, in the order of the graph."""
    still, lost = imageless(module.graph), lost_writes(module.graph)
    found = []
    for node in module.graph.nodes:
        name = describe(node)
        if node in lost:
            advice = ADVICE
        elif node not in still and not _is_known(module, node):
            advice = _HINTS.get(name.removeprefix("Tensor."), _DEFAULT_HINT)
        else:
            continue
        found.append(Unsupported(node.meta["path"], name, node.meta["source"], advice))
    return found


def _is_known(module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op in ("placeholder", "output"):
        return True
    if node.kwargs.get("out") is not None:
        return False
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), _BatchNorm)
    target = SYNONYMS.get(node.target, node.target)
    if target in IDENTITIES and node.op == "call_function":  # a dropout may be on at inference
        return True not in (node.kwargs.get("training"), node.kwargs.get("train"), *node.args[2:3])
    if target in PAIRS and not _is_along_a_dimension(node):
        return True
    if target in UNPACKED or target in PAIRS:
        return all(user.target is operator.getitem and isinstance(user.args[1], int) for user in node.users)
    known = target in IDENTITIES or target in ASSERTIONS or target in RESHAPES or target is F.batch_norm
    return known or target in OPERATIONS or site_cap(node) is not None


def respell(module: fx.GraphModule) -> None:
    """Rewrite ``module`` in place: each call is one of a function, by the table's spelling, and overwrites nothing."""
    numbers: set[fx.Node] = set()  # a node that reads what was overwritten with a signal is none any more
    writes = Writes()
    for node in list(module.graph.nodes):
        writes.follow(node, numbers)
        if is_structure(node, numbers):
            numbers.add(node)
        elif node.op in ("call_function", "call_method"):
            _rename(node)
        elif node.op == "call_module":
            _inline_batch_norm(module, node)


def canonicalise(module: fx.GraphModule) -> None:
    """Rewrite ``module`` in place: constants are computed, no-ops go."""
    graph = module.graph
    fold_constants(module)
    for node in list(graph.nodes):
        if node.target is F.pad and -math.inf in (*node.args[3:4], node.kwargs.get("value")):
            node.target, node.args, node.kwargs = functions.pad_lowest, node.args[:2], {}
        if node.target in IDENTITIES and node.meta.get("dtype") != node.args[0].meta.get(
            "dtype", node.meta.get("dtype")
        ):
            node.op, node.target = "call_function", functions.to_dtype
            node.args, node.kwargs = (node.args[0], node.meta["dtype"]), {}
        elif node.target in IDENTITIES:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code()
    graph.lint()


def _rename(node: fx.Node) -> None:
    if node.target in PAIRS:
        if not _is_along_a_dimension(node):
            first, _ = PAIRS[node.target]
            node.op, node.target = "call_function", _OF_TWO[first] if len(node.args) > 1 else first
        return
    function = SYNONYMS.get(node.target)
    if function is None or site_cap(node) is not None or str(node.target).endswith("_as"):  # as another tensor's shape
        return
    if node.op == "call_method" and function in SPREAD_ARGUMENTS and all(_is_size(a) for a in node.args[1:]):
        node.args = (node.args[0], tuple(node.args[1:])) if node.args[1:] else node.args
    node.op, node.target = "call_function", function
    if function is torch.pow and node.args[1:] == (2,):
        node.target, node.args = torch.square, node.args[:1]


_OF_TWO = {torch.amax: torch.maximum, torch.amin: torch.minimum}


def _is_along_a_dimension(node: fx.Node) -> bool:
    """Return whether ``node`` gives a pair; a maximum of two tensors, or of all of one, is one tensor."""
    dimension = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return isinstance(dimension, int | tuple | list) or "std" in str(node.target) or "var" in str(node.target)


def _is_size(argument: Any) -> bool:
    return isinstance(argument, int | fx.Node)


def add_constant(module: fx.GraphModule, name: str, value: Tensor) -> fx.Node:
    """Store ``value`` as a buffer of ``module`` and return a node that reads it, placed before the insertion point."""
    free, number = name, 0
    while hasattr(module, free):
        number += 1
        free = f"{name}_{number}"
    module.register_buffer(free, value.detach().clone(memory_format=torch.contiguous_format))
    return module.graph.get_attr(free)


def _inline_batch_norm(module: fx.GraphModule, node: fx.Node) -> None:
    norm = module.get_submodule(str(node.target))
    if not isinstance(norm, _BatchNorm):
        return
    path = str(node.target)
    if norm.running_mean is None or norm.running_var is None:
        raise ModelRefused(
            f"{path}: batch norm keeps no running statistics, so its output depends on the batch",
            "train it with track_running_stats=True",
        )
    with module.graph.inserting_before(node):
        mean, variance = (module.graph.get_attr(f"{path}.{n}") for n in ("running_mean", "running_var"))
        weight, bias = (
            module.graph.get_attr(f"{path}.{n}") if getattr(norm, n) is not None else None for n in ("weight", "bias")
        )
        call = module.graph.call_function(
            F.batch_norm, (node.args[0], mean, variance, weight, bias, False, 0.0, norm.eps)
        )
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    module.graph.erase_node(node)


def fold_constants(module: fx.GraphModule) -> None:
    """Compute whatever depends on weights alone, so that every constant of ``module`` is one stored tensor."""
    fixed = constants(module.graph)
    interpreter = fx.Interpreter(module)
    values: dict[fx.Node, Any] = {}
    for node in list(module.graph.nodes):
        if node not in fixed:
            continue
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        with torch.no_grad():
            values[node] = getattr(interpreter, node.op)(node.target, args, kwargs)
        if isinstance(values[node], Tensor) and any(user not in fixed for user in node.users):
            with module.graph.inserting_before(node):
                stored = add_constant(module, f"{node.name}_value", values[node])
            node.replace_all_uses_with(stored, delete_user_cb=lambda user: user not in fixed)
        elif any(user not in fixed for user in node.users):
            _write_out(node, values[node])
    module.graph.eliminate_dead_code()


def _write_out(node: fx.Node, value: Any) -> None:
    """Put ``value`` itself in the place of ``node`` in its users' arguments."""
    for user in list(node.users):
        user.args, user.kwargs = fx.node.map_arg((user.args, user.kwargs), lambda n: value if n is node else n)


def attribute(module: fx.GraphModule, path: str) -> Any:
    """Return the tensor that a get_attr node with target ``path`` reads."""
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value


def arguments_of(node: fx.Node, function: Any) -> dict[str, Any]:
    """Return the arguments of a call of the Python function ``function``, by name, with defaults."""
    bound = inspect.signature(function).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)
