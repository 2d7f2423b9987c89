"""Rewrite a traced graph until it holds only constants and the functions of the table in `operations`."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ModelRefused
from .operations import ASSERTIONS, IDENTITIES, IN_PLACE, OPERATIONS, SPREAD_ARGUMENTS, SYNONYMS, Kind, Signals
from .signals import constants, structure
from .sites import site_cap

_HINTS = {
    **dict.fromkeys(
        ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
        "it stays on at inference; write F.dropout(x, training=self.training)",
    ),
    "softmax": "remove it: the logits before it rank the classes the same",
    "log_softmax": "remove it: the logits before it rank the classes the same",
    "layer_norm": "a network with layer norm needs analog operations, which are not converted yet",
    "scaled_dot_product_attention": "attention needs analog operations, which are not converted yet",
}
_DEFAULT_HINT = (
    "only the ReLU family can become spikes, with linear operations and max-pooling between; "
    "replace it and retrain, or convert a submodule without it"
)


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


def refuse_unknown(module: fx.GraphModule) -> None:
    """Check that every operation on a signal is known.

    Raises:
        ModelRefused: names all that are not, each with module path, operation, source line and what to do.
    """
    fixed = constants(module.graph) | structure(module.graph)
    unknown = [node for node in module.graph.nodes if node not in fixed and not _is_known(module, node)]
    if not unknown:
        return
    lines = []
    for node in unknown:
        name = describe(node)
        hint = _HINTS.get(name.removeprefix("Tensor."), _DEFAULT_HINT)
        lines.append(f"  {node.meta['path'] or '(top level)'}: {name} at {node.meta['source']}: {hint}")
    count = "1 operation" if len(unknown) == 1 else f"{len(unknown)} operations"
    raise ModelRefused(f"{count} cannot be converted:\n" + "\n".join(lines))


def _is_known(module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op in ("placeholder", "output"):
        return True
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), _BatchNorm)
    target = SYNONYMS.get(node.target, node.target)
    if target in IDENTITIES and node.op == "call_function":  # a dropout may be on at inference
        return True not in (node.kwargs.get("training"), node.kwargs.get("train"), *node.args[2:3])
    known = target in IDENTITIES or target in ASSERTIONS or target is F.batch_norm or site_cap(node) is not None
    operation = OPERATIONS.get(target)  # type: ignore[arg-type]
    return known or (operation is not None and operation.function not in (torch.relu, torch.clamp))


def canonicalise(module: fx.GraphModule) -> None:
    """Rewrite ``module`` in place: synonyms and batch norms become calls, constants are computed, no-ops go."""
    graph = module.graph
    for node in list(graph.nodes):
        _redirect_in_place(node)
        if node.op == "call_module":
            _inline_batch_norm(module, node)
        elif node.op in ("call_function", "call_method"):
            _rename(node)
    fold_constants(module)
    for node in list(graph.nodes):
        if node.target in IDENTITIES:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()


def _redirect_in_place(node: fx.Node) -> None:
    """Let later readers of a tensor that ``node`` overwrites read ``node`` instead."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = (
        node.kwargs.get("inplace") is True
        or node.target in IN_PLACE
        or (node.op in ("call_function", "call_method") and name.endswith("_") and not name.startswith("_"))
    )
    if in_place and node.args and isinstance(node.args[0], fx.Node):
        order = {n: i for i, n in enumerate(node.graph.nodes)}
        node.args[0].replace_all_uses_with(node, delete_user_cb=lambda user: order[user] > order[node])


def _rename(node: fx.Node) -> None:
    function = SYNONYMS.get(node.target)
    if function is None:
        return
    if node.op == "call_method" and function in SPREAD_ARGUMENTS and all(isinstance(a, int) for a in node.args[1:]):
        node.args = (node.args[0], tuple(node.args[1:])) if node.args[1:] else node.args
    if "split_size" in node.kwargs:  # the method's name for it
        node.kwargs = {"split_size_or_sections" if k == "split_size" else k: v for k, v in node.kwargs.items()}
    node.op, node.target = "call_function", function


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
                node.replace_all_uses_with(add_constant(module, f"{node.name}_value", values[node]))
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


def check_signals(module: fx.GraphModule) -> None:
    """Check that signals enter each operation only where its line in the table allows.

    Raises:
        ModelRefused: names every product of two signals, and every weight that depends on the input.
    """
    fixed = constants(module.graph)
    wrong = []
    for node in module.graph.nodes:
        operation = OPERATIONS.get(node.target)
        if node.op != "call_function" or operation is None or operation.signals is Signals.ALL:
            continue
        first = set(_nodes(node.args[:1])) - fixed
        others = set(node.all_input_nodes) - fixed
        count = sum(len(set(_nodes((a,))) - fixed) > 0 for a in (*node.args, *node.kwargs.values()))
        if (operation.signals is Signals.FIRST and others - first) or count > 1:
            where = node.meta.get("path") or "(top level)"
            what = "of two signals" if count > 1 else "by a signal"
            wrong.append(f"  {where}: {operation.name} {what} at {node.meta.get('source')}")
    if wrong:
        raise ModelRefused(
            "a product of two signals is not linear in time and cannot be converted yet:\n" + "\n".join(wrong)
        )


def _nodes(arguments: Any) -> Iterable[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg(arguments, found.append)
    return found


def is_linear(node: fx.Node) -> bool:
    """Return whether ``node`` is a linear operation of the table."""
    operation = OPERATIONS.get(node.target)  # type: ignore[arg-type]
    return node.op == "call_function" and operation is not None and operation.kind is Kind.LINEAR
