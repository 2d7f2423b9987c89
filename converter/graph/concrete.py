"""Join two traces, of 2 and of 3 images, into one graph for any number of images.

The first way to trace leaves the batch size symbolic, which fails where a model makes tensors of that size itself:
``torch.zeros(x.shape[0], 4)``. The second way gives such code plain numbers, twice, and looks at what differs.
"""

from typing import Any

import torch
from torch import Tensor, fx

from ..errors import ModelRefused
from . import functions
from .canonical import add_constant
from .signals import imageless
from .spellings import RESHAPES, SYNONYMS


def join(two: fx.GraphModule, three: fx.GraphModule, *others: fx.GraphModule) -> fx.GraphModule:
    """Return the graph ``two``, with what differs from ``three`` made to follow the number of images.

    Args:
        others: traces of other numbers of images, which must take the same path.

    Raises:
        ModelRefused: the traces take different paths, or a number that follows the batch is used for anything but a
            shape.
    """
    pairs = list(zip(two.graph.nodes, three.graph.nodes, strict=False))
    for other in (three, *others):
        if _path(other, pairs) != _path(two, pairs):
            raise ModelRefused("the forward pass takes another path for another number of images", _HINT)
    twin = {b: a for a, b in pairs}
    image = next(n for n in two.graph.nodes if n.op == "placeholder")
    still = imageless(two.graph)
    for a, b in pairs:
        if a.op == "get_attr":
            twin[b] = _join_constants(two, a, _read(two, a), _read(three, b), image)
            continue
        args, kwargs = fx.node.map_arg((b.args, b.kwargs), twin.__getitem__)
        if repr((a.args, a.kwargs)) == repr((args, kwargs)):
            continue
        target = SYNONYMS.get(a.target, a.target)
        shape = _shape(a, b)
        if shape is None or target not in (*RESHAPES, functions.expand, functions.repeat):
            raise _uses_batch_size(a)
        if a in still and shape[0] == -1:
            twin[b] = _once_per_image(two, a, shape, image)
        elif target in RESHAPES:
            a.op, a.target, a.args, a.kwargs = "call_function", torch.reshape, (a.args[0], shape), {}
        elif target is functions.expand:
            a.op, a.target, a.args, a.kwargs = "call_function", functions.expand, (a.args[0], shape), {}
        else:
            raise _uses_batch_size(a)
    two.recompile()
    return two


_HINT = "write the forward pass so that it does not depend on the number of images"


def _path(module: fx.GraphModule, pairs: list[tuple[fx.Node, fx.Node]]) -> list[str]:
    """Return what each node of ``module`` does, with its arguments where they are equal for 2 and for 3 images."""
    nodes = list(module.graph.nodes)
    if len(nodes) != len(pairs):
        return []
    return [
        f"{node.op} {node.target} "
        + (repr((node.args, node.kwargs)) if repr((a.args, a.kwargs)) == repr((b.args, b.kwargs)) else "")
        for node, (a, b) in zip(nodes, pairs, strict=True)
    ]


def _read(module: fx.GraphModule, node: fx.Node) -> Any:
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value


def _join_constants(module: fx.GraphModule, node: fx.Node, two: Tensor, three: Tensor, image: fx.Node) -> fx.Node:
    """Return the node that reads a constant, for any number of images."""
    if two.shape == three.shape and (two is three or two.is_meta or torch.equal(two, three)):
        return node
    rows = three.shape[0] - two.shape[0] if two.ndim and two.ndim == three.ndim else 0
    one = two[: max(rows, 0)]
    repeated = rows > 0 and len(two) == 2 * rows and two.shape[1:] == three.shape[1:]
    if not repeated or not (two.is_meta or torch.equal(three, one.repeat(3, *[1] * (one.ndim - 1)))):
        raise _uses_batch_size(node)
    with module.graph.inserting_after(node):
        constant = add_constant(module, f"{node.name}_row", one)
    with module.graph.inserting_after(constant):
        call = module.graph.call_function(functions.per_image, (constant, image))
    for new in (constant, call):
        new.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    return call


def _shape(two: fx.Node, three: fx.Node) -> tuple[int, ...] | None:
    """Return the shape of a result for any number of images, -1 where it follows them."""
    one, other = two.meta["known"], three.meta["known"]
    if one is None or other is None or len(one) != len(other):
        return None
    shape = tuple(a if a == b else -1 for a, b in zip(one, other, strict=True))
    return shape if shape.count(-1) == 1 else None


def _once_per_image(module: fx.GraphModule, node: fx.Node, shape: tuple[int, ...], image: fx.Node) -> fx.Node:
    """Return a node with the constant that ``node`` repeats for a number of images, for any number."""
    constant: Any = node.args[0]
    with module.graph.inserting_after(node):
        row = module.graph.call_function(functions.expand, (constant, shape))
    with module.graph.inserting_after(row):
        call = module.graph.call_function(functions.per_image, (row, image))
    for new in (row, call):
        new.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    module.graph.erase_node(node)
    return call


def _uses_batch_size(node: fx.Node) -> ModelRefused:
    where = f"{node.meta.get('path') or 'the model'} uses the batch size in {node.name} ({node.meta.get('source')})"
    return ModelRefused(where, _HINT)
