"""Constants that a model makes for the number of images that it is given: ``torch.zeros(x.shape[0], 4)``."""

from collections.abc import Mapping

import torch
from torch import Tensor, fx

from ..errors import ModelRefused
from . import functions
from .canonical import add_constant


def for_any_batch(
    module: fx.GraphModule, node: fx.Node, values: Mapping[int, Tensor], image: fx.Node, after: fx.Node
) -> fx.Node | None:
    """Return a node behind ``after`` that holds what ``node`` held for each of several numbers of images.

    Args:
        values: for each number of images, what ``node`` held. On the meta device only shapes count.
        image: the input whose length is the number of images.

    Returns:
        None where the values are neither equal nor the same rows once per image.
    """
    (batch, first), *others = values.items()
    repeats = any(value.shape != first.shape for _, value in others)
    if repeats and (not first.ndim or len(first) % batch):
        return None
    one = first[: len(first) // batch] if repeats else first
    if not all(_equal(value, functions.repeat_rows(one, n) if repeats else one) for n, value in values.items()):
        return None
    with module.graph.inserting_before(after.next):
        found = add_constant(module, f"{node.name}_value", one)
        found.meta = dict(node.meta)
        if repeats:
            found = module.graph.call_function(functions.per_image, (found, image))
            found.meta = dict(node.meta)
    return found


def uses_batch_size(node: fx.Node) -> ModelRefused:
    """Return the error for a number that follows the batch and is used for anything but a shape."""
    return ModelRefused(
        f"{node.meta.get('path') or 'the model'} uses the batch size in {node.name} ({node.meta.get('source')})", HINT
    )


HINT = "write the forward pass so that it does not depend on the number of images"


def _equal(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and (a.is_meta or torch.equal(a, b)))
