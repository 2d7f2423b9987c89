"""What a model returns: tensors, and None beside them, in any nesting of tuples, named tuples, lists and dicts."""

from dataclasses import is_dataclass
from typing import Any

from torch import fx
from torch.utils._pytree import tree_leaves

from ..errors import ModelRefused


def settle_outputs(module: fx.GraphModule) -> None:
    """Put the named tuples that a traced graph makes in the place of the calls that make them.

    One inside another structure becomes a plain tuple: torch.fx cannot write its class into code.

    Raises:
        ModelRefused: the model returns no tensor, or anything but tensors and None.
    """
    *nodes, output = module.graph.nodes
    for node in nodes:
        if isinstance(node.target, type) and hasattr(node.target, "_fields"):
            _inline(node, node.target(*node.args) if output.args[0] is node else node.args)
    leaves = tree_leaves(output.args[0])
    tensors = [leaf for leaf in leaves if isinstance(leaf, fx.Node) and not is_dataclass(leaf.target)]
    others = [_name(leaf) for leaf in leaves if leaf not in tensors and leaf is not None]
    if others or not tensors:
        raise ModelRefused(
            f"the model must return tensors only, got {', '.join(others) or 'nothing'}",
            "convert a submodule, or wrap the model in one that returns tensors, or tuples, lists or dicts of them",
        )


def _inline(node: fx.Node, value: Any) -> None:
    for user in list(node.users):
        user.args, user.kwargs = fx.node.map_arg((user.args, user.kwargs), lambda n: value if n is node else n)
    node.graph.erase_node(node)


def _name(leaf: Any) -> str:
    kind = leaf.target if isinstance(leaf, fx.Node) else type(leaf)
    return str(getattr(kind, "__name__", kind))
