"""What each node of a graph carries: a signal (depends on the input), a constant, or the structure of a tensor."""

from torch import fx

from .operations import ASSERTIONS, STRUCTURE

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
        inputs = node.all_input_nodes
        if node.op in ("call_function", "call_method") and (
            _reads_structure(node) or node.target in ASSERTIONS or (inputs and all(n in found for n in inputs))
        ):
            found.add(node)
    return found


def _reads_structure(node: fx.Node) -> bool:
    return node.target in STRUCTURE and (node.target is not getattr or node.args[1] in _ATTRIBUTES)
