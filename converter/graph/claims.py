"""Check each operation of a prepared graph against what the table in `operations` claims for it, on noise.

The table speaks of functions, a graph of calls: ``div(x, 2)`` is linear, ``div(x, 2, rounding_mode="floor")`` is not;
``flip(x, [2])`` leaves images apart, ``flip(x, [0])`` exchanges them. Such a call computes what the model computes, so
no comparison of outputs finds it, and it is wrong once steps are averaged, or folded into the batch.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves, tree_map

from ..errors import ModelRefused
from .canonical import describe, is_linear
from .signals import constants
from .sites import site_of

TOLERANCE = 1e-4
"""The largest error of a claim, in units of the largest value of the operation's result."""


def check_claims(module: fx.GraphModule, inputs: tuple[Tensor, ...], batch_first: set[fx.Node]) -> None:
    """Run each operation of ``module`` on two images of noise, of the shapes that ``inputs`` [batch, ...] lead to.

    Linear operations must map a weighted mean of the two images to the weighted mean of their results, the others each
    image to its own result. The nodes ``batch_first`` need images in the first dimension.

    Raises:
        ModelRefused: names all calls that do not.
    """
    checker = _Checker(module, batch_first)
    with torch.no_grad():
        checker.run(*(x[:1].expand(2, *x.shape[1:]) for x in inputs))
    if checker.faults:
        raise ModelRefused(
            "these operations cannot be simulated in time:\n" + "\n".join(checker.faults),
            "rewrite them so that each image has its own result, in the first dimension",
        )


class _Checker(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, batch_first: set[fx.Node]) -> None:
        super().__init__(module)
        self.extra_traceback = False  # it would rewrite the messages of our errors
        self.fixed = constants(module.graph)
        self.batch_first = batch_first
        self.batch_dimension: dict[fx.Node, int] = {}
        self.generator: torch.Generator | None = None
        self.faults: list[str] = []

    def run_node(self, n: fx.Node) -> Any:
        """Compute a node, compare it with its claim, and give noise of its shape to its readers."""
        result = super().run_node(n)
        if n in self.fixed or n.op == "output":
            return result
        dimension = 0 if n.op == "placeholder" else self._check(n, result)
        if dimension is None:
            return result  # its readers get what they would get, and may show another fault
        self.batch_dimension[n] = dimension
        return tree_map(self._noise, result)

    def _noise(self, like: Tensor) -> Tensor:
        if self.generator is None:
            self.generator = torch.Generator(like.device).manual_seed(0)
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)

    def _check(self, node: fx.Node, result: Any) -> int | None:
        signals = [n for n in node.all_input_nodes if n not in self.fixed]
        if any(n not in self.batch_dimension for n in signals):
            return None  # already named
        weights = (0.25, 0.75) if is_linear(node) else (1.0, 0.0)

        def join(value: Any, dimension: int) -> Any:
            def one(x: Tensor) -> Tensor:
                return weights[0] * x.narrow(dimension, 0, 1) + weights[1] * x.narrow(dimension, 1, 1)

            return tree_map(one, value)

        def read(n: fx.Node) -> Any:
            return join(self.env[n], self.batch_dimension[n]) if n in signals else self.env[n]

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), read)
        dimension = None
        try:
            found = getattr(self, node.op)(node.target, args, kwargs)
        except (RuntimeError, IndexError, ValueError):  # it counts on two images
            fault: str | None = "mixes the images of a batch"
        else:
            dimension = _batch_dimension(result, found)
            fault = self._fault(node, dimension, found, result if dimension is None else join(result, dimension))
        if fault is not None:
            site = site_of(node)
            name = describe(node) if site is None else "activation"
            self.faults.append(
                f"  {node.meta.get('path') or '(top level)'}: {name} at {node.meta.get('source')} {fault}"
            )
        return None if fault is not None else dimension

    def _fault(self, node: fx.Node, dimension: int | None, found: Any, expected: Any) -> str | None:
        if dimension is None:
            return "mixes the images of a batch"
        if node in self.batch_first and dimension != 0:
            return "does not have the images in its first dimension"
        if site_of(node) is not None and found.ndim < 2:
            return "has no channels: expected a shape [batch, channels, ...]"
        for f, e in zip(tree_leaves(found), tree_leaves(expected), strict=True):
            if not float((f - e).abs().max()) <= TOLERANCE * float(e.abs().max()):
                return (
                    "is not linear, or mixes images, with these arguments"
                    if is_linear(node)
                    else "mixes the images of a batch"
                )
        return None


def _batch_dimension(two: Any, one: Any) -> int | None:
    """Return the dimension that has size 2 in every tensor of ``two`` and 1 in ``one``, all else being equal."""
    pairs = list(zip(tree_leaves(two), tree_leaves(one), strict=False))
    if len(tree_leaves(two)) != len(tree_leaves(one)):
        return None
    for dimension, size in enumerate(tree_leaves(two)[0].shape):
        shapes = [(t.shape, (*o.shape[:dimension], 2, *o.shape[dimension + 1 :])) for t, o in pairs]
        if size == 2 and all(tuple(t) == o for t, o in shapes):
            return dimension
    return None
