"""What each node of a graph carries: a signal (depends on the input), a constant, or the structure of a tensor."""

from collections.abc import Iterable

from torch import fx

from .operations import ASSERTIONS, STRUCTURE


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
        inputs = node.all_input_nodes
        if node.op in ("call_function", "call_method") and (
            node.target in STRUCTURE or node.target in ASSERTIONS or (inputs and all(n in found for n in inputs))
        ):
            found.add(node)
    return found


def downstream(graph: fx.Graph, sources: Iterable[fx.Node]) -> set[fx.Node]:
    """Return ``sources`` and every node that depends on one of them."""
    found = set(sources)
    for node in graph.nodes:
        if any(n in found for n in node.all_input_nodes):
            found.add(node)
    return found
