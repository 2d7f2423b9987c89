"""Join traces of several numbers of images into one graph for any number of images.

The first way to trace leaves the batch size symbolic, which fails where a model makes tensors of that size itself:
``torch.zeros(x.shape[0], 4)``. The second way gives such code plain numbers, several, and looks at what differs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx

from ..errors import ModelRefused
from . import functions
from .canonical import attribute
from .per_image import HINT, for_any_batch, uses_batch_size
from .signals import imageless
from .spellings import RESHAPES, SYNONYMS


def join(traces: Mapping[int, fx.GraphModule]) -> fx.GraphModule:
    """Return the first of ``traces``, with what differs from the others made to follow the number of images.

    Args:
        traces: for each number of images, the graph of the forward pass for that number.

    Raises:
        ModelRefused: the traces take different paths, or a number that follows the batch is used for anything but a
            shape.
    """
    module = next(iter(traces.values()))
    columns = [list(trace.graph.nodes) for trace in traces.values()]
    if any([(n.op, n.target) for n in nodes] != [(n.op, n.target) for n in columns[0]] for nodes in columns):
        raise ModelRefused("the forward pass takes another path for another number of images", HINT)
    image = next(n for n in module.graph.nodes if n.op == "placeholder")
    still = imageless(module.graph)
    twin: dict[fx.Node, fx.Node] = {}
    for row in zip(*columns, strict=True):
        node = row[0]
        if node.op == "get_attr":
            values = {batch: attribute(trace, str(node.target)) for batch, trace in traces.items()}
            joined = _join_constants(module, node, values, image)
        elif _differ(row, twin):
            joined = _join_shapes(module, node, _shape(row), image, once_per_image=node in still)
        else:
            joined = node
        twin |= dict.fromkeys(row[1:], joined)
    module.recompile()
    return module


def _differ(row: Sequence[fx.Node], twin: dict[fx.Node, fx.Node]) -> bool:
    """Return whether one call has other arguments for another number of images."""
    node, *others = row
    translated = (fx.node.map_arg((other.args, other.kwargs), twin.__getitem__) for other in others)
    return any(repr(arguments) != repr((node.args, node.kwargs)) for arguments in translated)


def _join_constants(module: fx.GraphModule, node: fx.Node, values: Mapping[int, Any], image: fx.Node) -> fx.Node:
    first = next(iter(values.values()))
    if all(value is first for value in values.values()):
        return node
    joined = for_any_batch(module, node, values, image, node)
    if joined is None:
        raise uses_batch_size(node)
    node.replace_all_uses_with(joined)
    return joined


def _join_shapes(
    module: fx.GraphModule, node: fx.Node, shape: tuple[int, ...] | None, image: fx.Node, *, once_per_image: bool
) -> fx.Node:
    """Make a reshape or expansion follow the number of images, and return what stands for it."""
    target = SYNONYMS.get(node.target, node.target)
    if shape is None or target not in (*RESHAPES, functions.expand, functions.repeat):
        raise uses_batch_size(node)
    if once_per_image and shape[0] == -1:
        return _once_per_image(module, node, shape, image)
    if target is functions.repeat:
        raise uses_batch_size(node)
    node.op, node.target = "call_function", torch.reshape if target in RESHAPES else functions.expand
    node.args, node.kwargs = (node.args[0], shape), {}
    return node


def _shape(row: Sequence[fx.Node]) -> tuple[int, ...] | None:
    """Return the shape of a result for any number of images, -1 where it follows them."""
    shapes = [node.meta["known"] for node in row]
    if None in shapes or len({len(shape) for shape in shapes}) > 1:
        return None
    shape = tuple(sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*shapes, strict=True))
    return shape if shape.count(-1) == 1 else None


def _once_per_image(module: fx.GraphModule, node: fx.Node, shape: tuple[int, ...], image: fx.Node) -> fx.Node:
    """Return a node with the constant that ``node`` repeats for a number of images, for any number."""
    constant: Any = node.args[0]
    with module.graph.inserting_before(node):
        row = module.graph.call_function(functions.expand, (constant, shape))
        call = module.graph.call_function(functions.per_image, (row, image))
    for new in (row, call):
        new.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    module.graph.erase_node(node)
    return call
