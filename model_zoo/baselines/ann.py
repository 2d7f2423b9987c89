"""`ann`: the network with its own activations, which conversion starts from and the others are compared with."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from .method import Method, TrainedNeuron


class Activation(TrainedNeuron):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x`` [batch, ...]."""
        return F.relu(x)


@dataclass(frozen=True)
class Ann(Method):
    """`ann` has no settings."""

    name: ClassVar[str] = "ann"
    about: ClassVar[str] = "no spikes: the network itself, as a source for conversion"
    timed: ClassVar[bool] = False
    spikes: ClassVar[bool] = False

    def neuron(self, steps: int) -> TrainedNeuron:
        """Return the activation of one site."""
        return Activation()
