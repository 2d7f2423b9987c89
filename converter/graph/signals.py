"""What each node of a graph carries: a signal (depends on the input), a constant, or the structure of a tensor."""

from collections.abc import Iterable
from typing import Any

from torch import fx

from .operations import OPERATIONS, Kind, Operation, Signals
from .spellings import ASSERTIONS, STRUCTURE

_ATTRIBUTES = ("shape", "ndim", "dtype", "device")


def constants(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that depend on no input: weights, and whatever is computed from weights alone."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op not in ("placeholder", "output") and all(n in found for n in node.all_input_nodes):
            found.add(node)
    return found


def structure(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that hold numbers read off a tensor's shape or type, and what is computed from them."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if is_structure(node, found):
            found.add(node)
    return found


def is_structure(node: fx.Node, before: set[fx.Node]) -> bool:
    """Return whether ``node`` holds structure, given those ``before`` it that do."""
    inputs = node.all_input_nodes
    return node.op in ("call_function", "call_method") and (
        _reads_structure(node) or node.target in ASSERTIONS or (bool(inputs) and all(n in before for n in inputs))
    )


def imageless(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that no image can change: constants, structure, and what is computed from both."""
    found = structure(graph)
    for node in graph.nodes:
        if node.op not in ("placeholder", "output") and all(n in found for n in node.all_input_nodes):
            found.add(node)
    return found


def _reads_structure(node: fx.Node) -> bool:
    return node.target in STRUCTURE and (node.target is not getattr or node.args[1] in _ATTRIBUTES)


def operation_of(node: fx.Node) -> Operation | None:
    """Return the line of the operation table that ``node`` calls, or None."""
    return OPERATIONS.get(node.target) if node.op == "call_function" else None  # type: ignore[arg-type]


def nodes_in(arguments: Any) -> Iterable[fx.Node]:
    """Return the nodes among ``arguments``, in order."""
    found: list[fx.Node] = []
    fx.node.map_arg(arguments, found.append)
    return found


def kind_of(node: fx.Node, fixed: set[fx.Node]) -> Kind | None:
    """Return what ``node`` does to time, None where it calls no function of the table.

    An operation that is linear, or acts on each number alone, with respect to some of its arguments is analog where
    another one is a signal: the product of two signals, a convolution whose weights depend on the image.

    Args:
        fixed: the `constants` of the graph.
    """
    operation = operation_of(node)
    if operation is None:
        return None
    carrying = [a for a in (*node.args, *node.kwargs.values()) if any(n not in fixed for n in nodes_in(a))]
    allowed = operation.signals is Signals.ALL or (
        len(carrying) <= 1
        and (operation.signals is Signals.ONE or set(nodes_in(node.args[:1])) - fixed or not carrying)
    )
    return operation.kind if allowed else Kind.ANALOG


def constant_in_time(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that no site precedes: the image and what is computed from it stay equal at every step."""
    found = constants(graph)
    for node in graph.nodes:
        if node.op == "placeholder" or (
            node.op == "call_function" and node.all_input_nodes and all(n in found for n in node.all_input_nodes)
        ):
            found.add(node)
    return found
