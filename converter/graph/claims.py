"""Check each operation of a prepared graph against what the table in `operations` claims for it, on noise.

The table speaks of functions, a graph of calls: ``div(x, 2)`` is linear, ``div(x, 2, rounding_mode="floor")`` is not;
``flip(x, [2])`` leaves images apart, ``flip(x, [0])`` exchanges them. Such a call computes what the model computes, so
no comparison of outputs finds it, and it is wrong once steps are averaged, or folded into the batch.
"""

from typing import Any

import torch
from torch import Tensor, fx

from ..errors import ModelRefused
from .canonical import describe
from .operations import Kind, Range
from .shapes import rows_of
from .signals import constants, kind_of, operation_of
from .sites import site_of

TOLERANCE = 1e-4
"""The largest error of a claim, in units of the largest value of the operation's result."""

_HINT = "rewrite them so that each image has its own result, in the first dimension"
_NOT_ELEMENTWISE = "leave it unregistered: what it is made of converts call by call"
_NOT_POSITIVE = "register it without positive=True"


def check_images(module: fx.GraphModule) -> None:
    """Check by their shapes that the nodes of ``module`` keep images apart, and have them where executors need them.

    Raises:
        ModelRefused: names all calls that do not.
    """
    fixed = constants(module.graph)
    output = next(n for n in module.graph.nodes if n.op == "output")
    faults = []
    for node in module.graph.nodes:
        if node in fixed and output in node.users:
            faults.append(_complain(node, "is an output that depends on no image"))
        if node in fixed or node is output:
            continue
        batch, site = node.meta["batch"], site_of(node)
        if batch is None:
            fault = "mixes the images of a batch"
        elif site is not None and (batch != 0 or len(node.meta["shape"]) < 2):
            fault = "is an activation whose images are not in the first dimension, or that has no channels"
        elif output in node.users and not node.meta.get("dtype", torch.float32).is_floating_point:
            fault = f"is an output of {node.meta['dtype']}, which has no mean over time"
        elif output in node.users and (batch != 0 or node.meta["shape"][0] != 1):
            fault = "is an output that does not have the images in its first dimension"
        else:
            continue
        if not any(n.meta.get("faulty") for n in node.all_input_nodes):  # the first of its consequences
            faults.append(_complain(node, fault))
        node.meta["faulty"] = True
    if faults:
        raise ModelRefused("these operations cannot be simulated in time:\n" + "\n".join(faults), _HINT)


def _complain(node: fx.Node, fault: str) -> str:
    name = describe(node) if site_of(node) is None else "activation"
    return f"  {node.meta.get('path') or '(top level)'}: {name} at {node.meta.get('source')} {fault}"


def check_claims(module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> None:
    """Run each operation of ``module`` on two images of noise, of the shapes that ``inputs`` [batch, ...] lead to.

    Linear operations must map a weighted mean of the two images to the weighted mean of their results, the others each
    image to its own result.

    Raises:
        ModelRefused: names all calls that do not.
    """
    checker = _Checker(module)
    with torch.no_grad():
        checker.run(*(x[:1].expand(2, *x.shape[1:]) for x in inputs))
    if checker.faults:
        hints = "; ".join(dict.fromkeys(checker.faults.values()))
        raise ModelRefused("these operations cannot be simulated in time:\n" + "\n".join(checker.faults), hints)


class _Checker(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False  # it would rewrite the messages of our errors
        self.fixed = constants(module.graph)
        self.generator: torch.Generator | None = None
        self.faults: dict[str, str] = {}  # and what to do

    def run_node(self, n: fx.Node) -> Any:
        """Compute a node, compare it with its claim, and give noise of its shape to its readers."""
        result = super().run_node(n)
        if n in self.fixed or n.op == "output":
            return result
        if n.op != "placeholder":
            self._check(n, result)
        return self._noise(result)

    def _noise(self, like: Tensor) -> Tensor:
        if not like.is_floating_point():
            return like
        return torch.randn(like.shape, generator=self._generator(like), dtype=like.dtype, device=like.device)

    def _generator(self, like: Tensor) -> torch.Generator:
        if self.generator is None:
            self.generator = torch.Generator(like.device).manual_seed(0)
        return self.generator

    def _check(self, node: fx.Node, result: Tensor) -> None:
        linear = kind_of(node, self.fixed) is Kind.LINEAR
        weights = (0.25, 0.75) if linear else (1.0, 0.0)

        def join(value: Tensor, of: fx.Node) -> Tensor:
            dim, rows = of.meta["batch"], rows_of(of)
            first, second = value.narrow(dim, 0, rows), value.narrow(dim, rows, rows)
            return weights[0] * first + weights[1] * second if linear else first

        def read(n: fx.Node) -> Any:
            return self.env[n] if n in self.fixed else join(self.env[n], n)

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), read)
        mixed = "mixes the images of a batch"
        try:
            found = getattr(self, node.op)(node.target, args, kwargs)
        except (RuntimeError, IndexError, ValueError):  # it counts on two images
            self.faults[_complain(node, mixed)] = _HINT
            return
        expected = join(result, node)
        if kind_of(node, self.fixed) is Kind.ACTIVATION:
            self._check_activation(node, result)
        if found.shape != expected.shape or not _close(found, expected):
            fault = "is not linear, or mixes images, with these arguments" if linear else mixed
            self.faults[_complain(node, fault)] = _HINT

    def _check_activation(self, node: fx.Node, result: Tensor) -> None:
        """Check that each number of ``result`` depends on its own input alone, and on the sign it is known to have.

        The other inputs are replaced by noise of all magnitudes: a norm, which sees no signs, would change with them.
        """
        source = self.env[node.all_input_nodes[0]]
        kept = torch.rand(source.shape, generator=self._generator(source), device=source.device) < 0.5
        changed = torch.where(kept, source, 1 + 3 * self._noise(source) ** 3)
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs), {**self.env, node.all_input_nodes[0]: changed}.__getitem__
        )
        found = node.target(*args, **kwargs)  # type: ignore[operator]
        if found.shape != source.shape or not _close(found[kept], result[kept]):
            self.faults[_complain(node, "is an activation, but does not act on each number alone")] = _NOT_ELEMENTWISE
        operation = operation_of(node)
        negative = bool((result < 0).any()) or bool((found < 0).any())
        if operation is not None and operation.range is Range.POSITIVE and negative:
            fault = "is negative for some inputs, although it is known as never negative"
            self.faults[_complain(node, fault)] = _NOT_POSITIVE


def _close(found: Tensor, expected: Tensor) -> bool:
    """Return whether two results agree; noise may lie where a function is not defined, in both alike."""
    if not found.is_floating_point():
        return torch.equal(found, expected)
    if not found.numel():
        return True
    largest, difference = expected.abs().amax(), (found - expected).abs().amax()
    if bool(largest.isfinite()) and bool(difference.isfinite()):
        return bool(difference <= TOLERANCE * largest)
    where = expected.isfinite()
    if not torch.equal(where, found.isfinite()):
        return False
    largest = expected[where].abs().amax() if bool(where.any()) else torch.zeros(())
    return bool(((found - expected)[where].abs() <= TOLERANCE * largest).all())
