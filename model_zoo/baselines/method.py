"""What every directly trained baseline has in common: neurons with a gradient, and what they are after training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, fx, nn

from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.neurons import Correction
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.thresholds import Thresholds


class Epoch(NamedTuple):
    """What came of an epoch.

    Args:
        progress: the share of the training that is over, above 0, at most 1.
        loss: the mean over its batches.
        top1: on the validation split, in percent.
    """

    progress: float
    loss: float
    top1: float


class Units(NamedTuple):
    """The neurons of a site as `Thresholds` tell of them.

    Args:
        theta: the threshold, with bursts m times that of one spike, [1].
        burst: m, the most spikes in a step.
        height: what a spike is worth on its wire, [1]; theta / m where it is None.
    """

    theta: Tensor
    burst: int = 1
    height: Tensor | None = None


class TrainedNeuron(nn.Module):
    """The neurons of one site while they learn.

    A neuron of a method with time maps currents [T, batch, ...] to outputs of that shape, theta times spikes; one of a
    method without maps the mean current of a window [batch, ...] to the mean output.
    """

    @property
    def cap(self) -> float | None:
        """The largest output of the activation that the neurons stand for, None for none."""
        return None

    def units(self) -> Units:
        """Return the neurons after training."""
        raise NotImplementedError


class Rule(nn.Module):
    """What a method does besides following gradients: by default nothing. Its buffers go into checkpoints."""

    def after_backward(self) -> None:
        """Look at the gradients of a batch."""

    def after_step(self) -> None:
        """Look at the weights after the optimiser changed them."""

    def after_epoch(self, epoch: Epoch, network: SpikingModel, images: Tensor) -> dict[str, Any]:
        """Change what an epoch calls for, and return what the log should hold of it.

        Args:
            epoch: what came of it.
            network: the spiking network as it is now.
            images: some images of the validation split.
        """
        return {}


@dataclass(frozen=True)
class Method:
    """One way to train a spiking network; its fields are its settings.

    To add one, write a file with a subclass and add it to ``METHODS`` in this package's ``__init__``.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    timed: ClassVar[bool] = True
    """Whether the network runs step by step while it learns."""
    spikes: ClassVar[bool] = True
    """Whether a spiking network comes out."""
    converts: ClassVar[bool] = False
    """Whether its weights with activations min(max(x, 0), cap) are an ANN to convert to other neurons."""

    def neuron(self, steps: int) -> TrainedNeuron:
        """Return the neurons of one site for windows of ``steps``."""
        raise NotImplementedError

    def rule(self, body: fx.GraphModule, neurons: Mapping[str, TrainedNeuron]) -> Rule:
        """Return what this method does to the network ``body`` and its ``neurons`` besides following gradients."""
        return Rule()

    def simulated(self, steps: int) -> tuple[str, dict[str, float]]:
        """Return the neuron model of the converter that these neurons are, and its options."""
        raise NotImplementedError

    def check(self, steps: int) -> None:
        """Check every setting.

        Raises:
            UsageError: one that is out of range, or does not go with ``steps``.
        """

    def spiking(self, graph: PreparedGraph, neurons: Mapping[str, TrainedNeuron], steps: int) -> SpikingModel:
        """Return the trained network as the executors run it.

        Args:
            graph: the network with its trained weights.
            neurons: those of each site, by its name.
            steps: T.
        """
        units = {name: neuron.units() for name, neuron in neurons.items()}
        neuron, options = self.simulated(steps)
        thresholds = Thresholds(
            {name: unit.theta.detach() for name, unit in units.items()},
            steps,
            rule=f"trained by {self.name}",
            per="layer",
            neuron=neuron,
            corrections={
                name: Correction(height=unit.height.detach()) for name, unit in units.items() if unit.height is not None
            },
            bursts={name: unit.burst for name, unit in units.items() if unit.burst > 1},
        )
        return SpikingModel(graph, thresholds.to(graph), neuron=neuron, steps=steps, options=options)


def stacked(steps: list[Tensor]) -> Tensor:
    """Return [T, batch, ...] of T tensors [batch, ...] in their order of memory, which `torch.stack` would change."""
    found: Tensor = torch.cat(steps).unflatten(0, (len(steps), -1))
    return found


class Scale(nn.Module):
    """A learned positive number, such as a threshold, that never falls below ``least``."""

    def __init__(self, value: float, least: float = 0.01) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))
        self.least = least

    def forward(self) -> Tensor:
        """Return the number, [1]; below ``least`` it is raised and keeps its gradient."""
        if not torch.is_grad_enabled() or not self.training:  # as it is kept in a file
            return self.value.detach().clamp(min=self.least).half().float()
        return self.value + (self.least - self.value).clamp(min=0).detach()
