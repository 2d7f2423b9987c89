"""The proof that a prepared graph computes what the model computes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from ..errors import ModelRefused

TOLERANCE = 1e-4
"""The largest difference between a model and its prepared graph, in units of the spread of the model's output."""

DOUBLE_TOLERANCE = 1e-9
"""The same in double precision, for models that amplify the rounding of single precision beyond ``TOLERANCE``."""


class Differs(ModelRefused):
    """The prepared graph does not compute what the model computes."""


@dataclass(frozen=True)
class Proof:
    """How far the prepared graph is from the model, over every output.

    Args:
        absolute: the largest absolute difference.
        relative: the same in units of the spread (largest minus smallest value) of the model's output.
        images: how many images were compared: those of the example, and one of noise.
    """

    absolute: float
    relative: float
    images: int


def prove(
    original: nn.Module, module: fx.GraphModule, inputs: tuple[Tensor, ...], tolerance: float = TOLERANCE
) -> Proof:
    """Compare ``module`` with ``original`` on ``inputs``, [images, ...] each.

    Raises:
        ModelRefused: an output is not a finite tensor, or differs by more than ``tolerance`` of its spread.
    """
    with torch.no_grad():
        expected = tree_leaves(original(*(x.clone() for x in inputs)))
        found = tree_leaves(module(*(x.clone() for x in inputs)))
    nothing = [i for i, e in enumerate(expected) if e is None]
    if nothing == [i for i, f in enumerate(found) if f is None]:
        expected, found = ([leaf for leaf in leaves if leaf is not None] for leaves in (expected, found))
    if not all(isinstance(e, Tensor) for e in expected):
        kinds = ", ".join(type(e).__name__ for e in expected)
        raise ModelRefused(f"the model must return tensors only, got {kinds}", "convert a submodule, or wrap the model")
    if not all(bool(e.isfinite().all()) for e in expected):
        raise ModelRefused("the model's output holds NaN or infinity on the example", "check its weights")
    absolute = relative = 0.0
    for e, f in zip(expected, found, strict=True):
        difference = float((e - f).abs().max()) if isinstance(f, Tensor) and e.shape == f.shape else math.inf
        spread = float(e.max() - e.min()) or float(e.abs().max()) or 1.0
        if not difference <= tolerance * spread:  # also where the prepared graph gives NaN
            raise Differs(
                f"the prepared graph differs from the model by {difference:.3g}, {difference / spread:.3g} of the"
                " output's spread",
                "does the model use hooks, random numbers or autocast, replace an instance's forward, or overwrite a"
                " view of a tensor that it reads again? if not, this is a fault of snnconvert: please report it",
            )
        absolute, relative = max(absolute, difference), max(relative, difference / spread)
    return Proof(absolute, relative, len(inputs[0]))
