"""What the zoo knows of an architecture, wherever its code comes from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .fingerprint import Head, Shapes, head_of, shapes_of
from .preprocessing import Preprocessing

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """A network that can be built for any number of classes.

    Args:
        name: full name, ``library:name``.
        build: number of classes -> network with random weights.
        preprocessing: what its pretrained weights expect of an image.
        classes: number of classes of its pretrained weights, or the customary number.
        fetch: its pretrained weights, downloaded if need be; None where there are none.
        embedded: file with pretrained weights that comes with the package.
        notes: what a user should know of the choices made.
    """

    name: str
    build: Callable[[int], nn.Module]
    preprocessing: Preprocessing
    classes: int
    fetch: Callable[[], Weights] | None = None
    embedded: Path | None = None
    notes: tuple[str, ...] = ()

    def skeleton(self, classes: int) -> nn.Module:
        """Return the network for ``classes`` classes without weights (on torch's meta device) where possible."""
        try:
            with torch.device("meta"):
                return self.build(classes)
        except (NotImplementedError, RuntimeError):  # the constructor computes with tensors
            return self.build(classes)

    def shapes(self, classes: int) -> Shapes:
        """Return the shapes of the tensors of the network for ``classes`` classes."""
        return shapes_of(self.skeleton(classes).state_dict())

    def head(self) -> Head:
        """Return the (tensor, dimension) pairs that carry the number of classes."""
        return head_of(self.shapes(10), self.shapes(11))
