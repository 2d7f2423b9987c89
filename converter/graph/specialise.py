"""Turn every number that a forward pass reads off its tensors into a constant, for any batch size.

A graph that says ``x.view(x.size(0), -1)`` needs the shape at run time, and gets it wrong when time steps are folded
into the batch. The model is run on two batches of different size: a number that is equal in both becomes a constant;
a reshape keeps every size that is equal in both and infers the one that follows the batch.
"""

from typing import Any

import torch
from torch import Tensor, fx

from ..errors import ModelRefused
from .canonical import add_constant
from .operations import ASSERTIONS, SYNONYMS
from .signals import structure
from .tracing import first_line

_RESHAPES = (torch.reshape, torch.squeeze)
"""What becomes a reshape to a known shape; a squeeze would also drop a batch of one image."""


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps every number, the shape of every signal, and tensors computed from shapes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False  # it would rewrite the messages of our errors
        self.numbers = structure(module.graph)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.values[n] = result.shape if isinstance(result, Tensor) and n not in self.numbers else result
        return result


def at_batch_size(example: tuple[Tensor, ...], batch: int) -> tuple[Tensor, ...]:
    """Return ``example`` with its images repeated or cut to ``batch``; shape [batch, ...] for each input."""
    return tuple(x[torch.arange(batch, device=x.device) % len(x)] for x in example)


def with_noise(example: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return ``example`` with one more image, of noise: a constant or single image alone would hide differences."""
    noisy = []
    for x in example:
        generator = torch.Generator(x.device).manual_seed(0)
        noise = torch.randn(x[:1].shape, generator=generator, dtype=x.dtype, device=x.device)
        deviation = x.std(correction=0)
        noisy.append(torch.cat([x, x.mean() + noise * (deviation if deviation > 0 else 1)]))
    return tuple(noisy)


def specialise(module: fx.GraphModule, example: tuple[Tensor, ...]) -> None:
    """Rewrite ``module`` in place so that no node reads a shape; ``example`` holds one tensor [batch, ...] an input.

    Raises:
        ModelRefused: the model fails on the example, or uses the batch size for anything but a reshape.
    """
    runs = []
    for batch in (2, 3):
        recorder = _Recorder(module)
        try:
            recorder.run(*at_batch_size(example, batch))
        except Exception as error:
            shapes = ", ".join(str(list(x.shape)) for x in at_batch_size(example, batch))
            raise ModelRefused(
                f"the model fails on an input of shape {shapes}: {first_line(error)}",
                "check the input size and the number of channels",
            ) from error
        runs.append(recorder.values)
    two, three = runs
    numbers = structure(module.graph)
    for node in list(module.graph.nodes):
        if node in numbers or node.op in ("placeholder", "output"):
            continue
        if SYNONYMS.get(node.target, node.target) in _RESHAPES:
            node.op, node.target = "call_function", torch.reshape
            node.args = (node.args[0], _batch_free_shape(node, two[node], three[node]))
            node.kwargs = {}
            continue
        node.args, node.kwargs = _without_numbers(module, node, (node.args, node.kwargs), numbers, two, three)
    for node in reversed(list(module.graph.nodes)):
        if node.op == "output":
            node.args = _without_numbers(module, node, node.args, numbers, two, three)
        if node in numbers and (not node.users or node.target in ASSERTIONS):
            module.graph.erase_node(node)


def _without_numbers(
    module: fx.GraphModule,
    user: fx.Node,
    arguments: Any,
    numbers: set[fx.Node],
    two: dict[fx.Node, Any],
    three: dict[fx.Node, Any],
) -> Any:
    def replace(node: fx.Node) -> Any:
        if node not in numbers:
            return node
        if not _equal(two[node], three[node]):
            raise ModelRefused(
                f"{user.meta['path'] or 'the model'} uses the batch size in {user.name} ({user.meta['source']})",
                "write the operation so that it does not depend on the number of images",
            )
        if isinstance(two[node], Tensor):
            with module.graph.inserting_before(node):
                return add_constant(module, f"{node.name}_value", two[node])
        return two[node]

    return fx.node.map_arg(arguments, replace)


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else bool(a == b)


def _batch_free_shape(node: fx.Node, two: torch.Size, three: torch.Size) -> tuple[int, ...]:
    changing = [i for i, (a, b) in enumerate(zip(two, three, strict=False)) if a != b]
    if len(two) != len(three) or len(changing) > 1:
        where = f"{node.meta['path'] or 'the model'} ({node.meta['source']})"
        raise ModelRefused(
            f"{where} reshapes to {tuple(two)} for 2 images and to {tuple(three)} for 3",
            "write the reshape so that one dimension follows the number of images",
        )
    return tuple(-1 if i in changing else size for i, size in enumerate(two))


def run_shapes(module: fx.GraphModule, example: tuple[Tensor, ...]) -> dict[fx.Node, Any]:
    """Return the shape of every tensor node of ``module`` when it runs on ``example``.

    Raises:
        ModelRefused: it fails, although the model that it was made from does not.
    """
    recorder = _Recorder(module)
    try:
        recorder.run(*example)
    except Exception as error:
        raise ModelRefused(
            f"the model runs, but its rewritten graph fails ({first_line(error)})",
            "does it change the type of a tensor on the way? if not, this is a fault of snnconvert: please report it",
        ) from error
    return recorder.values


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
    if not all(x.is_floating_point() and bool(x.isfinite().all()) for x in inputs):
        raise ModelRefused(
            f"the example must hold finite floating point numbers, got {', '.join(str(x.dtype) for x in inputs)}"
            + (" with NaN or infinity" if all(x.is_floating_point() for x in inputs) else ""),
            "give images as the model takes them after preprocessing, such as torch.randn(2, 3, 224, 224)",
        )
    return tuple(x.detach() for x in inputs)
