"""What shapes are known while a model is traced: those that do not follow the number of images.

Next to each node its value on the meta device (shape and type, no data) is kept for two and for three images. A size
that is equal in both is a plain number, so code may branch and compute on it (timm's "same" padding does); one that
differs follows the batch and stays symbolic.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .on_shapes import OnShapes


class Sizes:
    """Shapes at two batch sizes, node by node.

    Args:
        root: the model that is traced.
        example: one tensor [batch, ...] for each input.
        on_shapes: calls functions on shapes.
        batch: the number of images, where its sizes are to be plain numbers too.
    """

    def __init__(
        self, root: nn.Module, example: tuple[Tensor, ...], on_shapes: OnShapes, batch: int | None = None
    ) -> None:
        self.on_shapes = on_shapes
        # Read before tracing, which makes proxies of what is read off a module.
        self.tensors = {
            name: tensor.to("meta")
            for source in (root.named_parameters, root.named_buffers)
            for name, tensor in source(remove_duplicate=False)
        }
        self.root, self.device = root, example[0].device
        self.modules = dict(root.named_modules(remove_duplicate=False))
        sizes = (2, 3) if batch is None else (batch, batch)
        self.inputs = iter([[x.new_empty(size, *x.shape[1:], device="meta") for size in sizes] for x in example])
        self.values: dict[fx.Node, list[Any]] = {}

    def add(self, node: fx.Node) -> None:
        """Compute what ``node`` holds; where that cannot be done without data, nothing is known of it."""
        if node.op == "placeholder":
            self.values[node] = next(self.inputs)
        elif all(n in self.values for n in node.all_input_nodes) and node.op != "output":
            try:
                with torch.no_grad():
                    self.values[node] = [self._compute(node, which) for which in (0, 1)]
            except Exception:  # anything a model's operation may raise; running it on data will tell the user
                self.values.pop(node, None)

    def value(self, node: fx.Node) -> Any:
        """Return what ``node`` holds for two images, on the meta device; None if nothing is known."""
        return self.values.get(node, (None, None))[0]

    def known(self, node: fx.Node) -> list[int | None] | None:
        """Return the shape of ``node``'s tensor, None for a size that follows the batch; None if nothing is known."""
        two, three = self.values.get(node, (None, None))
        if not isinstance(two, Tensor) or not isinstance(three, Tensor) or two.ndim != three.ndim:
            return None
        return [a if a == b else None for a, b in zip(two.shape, three.shape, strict=True)]

    def _compute(self, node: fx.Node, which: int) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: self.values[n][which])
        if node.op == "get_attr":
            name = str(node.target)
            return self.tensors[name] if name in self.tensors else getattr(self.root, name).to("meta")
        if node.op == "call_module":
            if isinstance(self.modules[str(node.target)], _BatchNorm):
                return args[0]
            raise NotImplementedError(node.target)
        return self.on_shapes(node.target, args, kwargs)
