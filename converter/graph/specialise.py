"""Turn every number that a forward pass reads off its tensors into a constant, for any batch size.

A graph that says ``x.view(x.size(0), -1)`` needs the shape at run time, and gets it wrong when time steps are folded
into the batch. The graph is run for several batch sizes, on shapes alone (torch's meta device): a number that is equal
in all becomes a constant; a reshape keeps every size that is equal in all and infers the one that follows the batch.
"""

import operator
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from ..errors import ModelRefused
from . import functions
from .on_shapes import OnShapes, to_meta
from .per_image import for_any_batch, uses_batch_size
from .signals import constants, imageless, structure
from .spellings import ASSERTIONS, PAIRS, RESHAPES, STRUCTURE, UNPACKED
from .tracing import BATCHES, first_line

_EXPANSIONS = (functions.expand, "expand_as")
Values = dict[fx.Node, Any]


class _Recorder(fx.Interpreter):
    """Runs a graph on shapes, keeps the shape of every signal, and computes for real what no image can change."""

    def __init__(self, module: fx.GraphModule, on_shapes: OnShapes) -> None:
        super().__init__(module)
        self.on_shapes = on_shapes
        self.extra_traceback = False  # it would rewrite the messages of our errors
        self.imageless = imageless(module.graph)
        self.values: Values = {}

    def run_node(self, n: fx.Node) -> Any:
        if n in self.imageless:
            result = self.values[n] = super().run_node(n)
            return result
        if n.op in ("call_function", "call_method"):
            args, kwargs = tree_map(to_meta, self.fetch_args_kwargs_from_env(n))
            result = self.on_shapes(n.target, args, kwargs)
        else:
            result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["dtype"] = result.dtype
        self.values[n] = tree_map(lambda v: v.shape if isinstance(v, Tensor) else v, result)
        return result


def run_shapes(
    module: fx.GraphModule,
    shapes: tuple[tuple[int, ...], ...],
    dtype: torch.dtype,
    on_shapes: OnShapes,
    batches: tuple[int, ...] = (2, 3),
) -> dict[int, Values]:
    """Return the shape of each signal of ``module``, and what the nodes hold that no image can change.

    Args:
        shapes: of one image of each input.
        batches: numbers of images.

    Returns:
        Both for each of ``batches``.

    Raises:
        ModelRefused: the model fails on images of these shapes.
    """
    return {batch: _run_shapes(module, shapes, batch, dtype, on_shapes) for batch in batches}


def _run_shapes(
    module: fx.GraphModule, shapes: tuple[tuple[int, ...], ...], batch: int, dtype: torch.dtype, on_shapes: OnShapes
) -> Values:
    recorder = _Recorder(module, on_shapes)
    inputs = [torch.empty(batch, *shape, dtype=dtype, device="meta") for shape in shapes]
    try:
        with torch.no_grad():
            recorder.run(*inputs)
    except ModelRefused:
        raise
    except Exception as error:
        given = ", ".join(str([batch, *shape]) for shape in shapes)
        raise ModelRefused(
            f"the model fails on an input of shape {given}: {first_line(error)}",
            "check the input size and the number of channels",
        ) from error
    return recorder.values


def specialise(
    module: fx.GraphModule, shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, on_shapes: OnShapes
) -> None:
    """Rewrite ``module`` in place so that no node reads a shape, and each node is one tensor.

    Args:
        shapes: of one image of each input.

    Raises:
        ModelRefused: the model fails on such images, or uses the batch size for anything but a reshape or expansion.
    """
    still = imageless(module.graph)
    batches = BATCHES if _computes_with_sizes(module.graph) else BATCHES[:2]
    values = run_shapes(module, shapes, dtype, on_shapes, batches)
    for node in list(module.graph.nodes):
        if node in still or node.op in ("placeholder", "output"):
            continue
        if node.target in RESHAPES:
            _call(node, torch.reshape, node.args[0], _batch_free_shape(node, values))
        elif node.target in _EXPANSIONS:
            _call(node, functions.expand, node.args[0], _expanded(node, values))
        elif node.target in UNPACKED:
            _unpack(node, values)
        elif node.target in PAIRS:
            _unpair(node)
    _Constants(module, still, values).write_out()
    for node in reversed(list(module.graph.nodes)):
        if node in still and (not node.users or node.target in ASSERTIONS):
            module.graph.erase_node(node)


def _call(node: fx.Node, function: Any, *args: Any, **kwargs: Any) -> None:
    node.op, node.target, node.args, node.kwargs = "call_function", function, args, kwargs


def _computes_with_sizes(graph: fx.Graph) -> bool:
    """Return whether ``graph`` does more with sizes than to pass them on: a number may then change with many images."""
    passed_on = {operator.getitem, *STRUCTURE}
    return any(node.target not in passed_on for node in structure(graph))


def _batch_free_shape(node: fx.Node, values: dict[int, Values]) -> tuple[int, ...]:
    shapes = {batch: tuple(found[node]) for batch, found in values.items()}
    first, *others = shapes.values()
    same_rank = all(len(other) == len(first) for other in others)
    changing = [i for i, sizes in enumerate(zip(*shapes.values(), strict=False)) if len(set(sizes)) > 1]
    if not same_rank or len(changing) > 1:
        where = f"{node.meta['path'] or 'the model'} ({node.meta['source']})"
        told = " and to ".join(f"{shape} for {batch}" for batch, shape in list(shapes.items())[:2])
        raise ModelRefused(
            f"{where} reshapes to {told} images", "write the reshape so that one dimension follows the number of images"
        )
    return tuple(-1 if i in changing else size for i, size in enumerate(first))


def _expanded(node: fx.Node, values: dict[int, Values]) -> tuple[int, ...]:
    source: Any = node.args[0]
    first = next(iter(values.values()))
    shape: Any = getattr(first[source], "shape", first[source])
    before = [1] * (len(first[node]) - len(shape)) + list(shape)
    after = zip(*(found[node] for found in values.values()), strict=True)
    return tuple(-1 if a == b[0] or len({*b}) > 1 else b[0] for a, b in zip(before, after, strict=True))


def _unpack(node: fx.Node, values: dict[int, Values]) -> None:
    """Make each part that ``node`` returns a slice of its own."""
    shapes, *others = values.values()
    args: tuple[Any, ...] = node.args
    removes = "unbind" in str(getattr(node.target, "__name__", node.target))
    position = 1 if removes else 2
    place: Any = args[position] if len(args) > position else node.kwargs.get("dim", 0)
    whole, parts = shapes[args[0]], shapes[node]
    dimension = place % len(whole)
    if any(other[args[0]][dimension] != whole[dimension] for other in others):
        raise uses_batch_size(node)
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + (1 if removes else part[dimension]))
    for user in list(node.users):
        which: Any = user.args[1]
        number = which % len(parts)
        if removes:
            _call(user, torch.select, args[0], dimension, number)
        else:
            _call(user, torch.narrow, args[0], dimension, starts[number], parts[number][dimension])
    node.graph.erase_node(node)


def _unpair(node: fx.Node) -> None:
    """Make each of the two tensors that ``node`` returns a call of its own."""
    first, second = PAIRS[node.target]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    keepdim = node.args[-1] if len(node.args) > 2 else node.kwargs.get("keepdim", False)
    for user in list(node.users):
        which: Any = user.args[1]
        if which % 2:
            _call(user, second, node.args[0], dim, keepdim)
        else:
            _call(user, first, *node.args, **node.kwargs)
    node.graph.erase_node(node)


class _Constants:
    """Puts what no image can change in the place of the nodes that compute it."""

    def __init__(self, module: fx.GraphModule, still: set[fx.Node], values: dict[int, Values]) -> None:
        self.module, self.still, self.values = module, still, values
        self.image = [n for n in module.graph.nodes if n.op == "placeholder"][-1]
        self.done: dict[fx.Node, fx.Node] = {}
        self.fixed = {n for n in constants(module.graph) if isinstance(next(iter(values.values()))[n], Tensor)}

    def write_out(self) -> None:
        """Rewrite the arguments of every node that depends on an image."""
        for node in list(self.module.graph.nodes):
            if node not in self.still and node.op != "placeholder":
                replace = partial(self._replace, node)
                node.args, node.kwargs = fx.node.map_arg((node.args, node.kwargs), replace)

    def _replace(self, user: fx.Node, node: fx.Node) -> Any:
        if node not in self.still or node in self.fixed:
            return node
        held = {batch: found[node] for batch, found in self.values.items()}
        first, *others = held.values()
        if not isinstance(first, Tensor):
            if not all(bool(first == other) for other in others):
                raise uses_batch_size(user)
            return first
        if node not in self.done:
            found = for_any_batch(self.module, node, held, self.image, self.image)
            if found is None:
                raise uses_batch_size(user)
            self.done[node] = found
        return self.done[node]


def with_noise(example: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return ``example`` with one more image, of noise: a constant or single image alone would hide differences."""
    noisy = []
    for x in example:
        generator = torch.Generator(x.device).manual_seed(0)
        noise = torch.randn(x[:1].shape, generator=generator, dtype=x.dtype, device=x.device)
        deviation = x.std(correction=0)
        noisy.append(torch.cat([x, x.mean() + noise * (deviation if deviation > 0 else 1)]))
    return tuple(noisy)


def inputs_of(example: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return ``example`` as a tuple of tensors with at least one image each.

    Raises:
        ModelRefused: the example is not a tensor or tuple of tensors, is empty, differs in batch size, or does not
            hold finite floating point numbers.
    """
    inputs = (example,) if isinstance(example, Tensor) else tuple(example) if isinstance(example, tuple | list) else ()
    if not inputs or not all(isinstance(x, Tensor) for x in inputs):
        raise ModelRefused(
            f"the example must be a tensor or a tuple of tensors, got {type(example).__name__}",
            "give a batch such as torch.randn(2, 3, 224, 224)",
        )
    if any(x.ndim == 0 or len(x) == 0 or len(x) != len(inputs[0]) for x in inputs):
        shapes = " and ".join(str(list(x.shape)) for x in inputs)
        raise ModelRefused(
            f"the example needs the same number of images, at least one, in each input; got shapes {shapes}",
            "put the batch in the first dimension",
        )
    if not all(x.is_floating_point() and (x.is_meta or bool(x.isfinite().all())) for x in inputs):
        raise ModelRefused(
            f"the example must hold finite floating point numbers, got {', '.join(str(x.dtype) for x in inputs)}"
            + (" with NaN or infinity" if all(x.is_floating_point() for x in inputs) else ""),
            "give images as the model takes them after preprocessing, such as torch.randn(2, 3, 224, 224)",
        )
    return tuple(x.detach() for x in inputs)
