"""The converted network: a canonical graph, neurons in the place of its sites, and a choice of executors."""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DataRefused, UsageError, check_seed, check_steps, choice
from ..graph import PreparedGraph
from ..graph.audit import Role
from ..neurons import NEURONS, SHUFFLES, Noise
from ..thresholds import Thresholds
from .counts import Pass
from .layers import mean, over, trains
from .network import Network, channels_last, exact, populations, with_weights
from .schedule import Schedule
from .steps import Steps

EXECUTORS = ("counts", "layers", "steps")
"""The simulators. They give the same answer; TPP counts from `counts` equal the others' in distribution."""

MEMORY = 2**26
"""Bytes of trains, in floats, that stay near the caches, where most of them are bytes; more is slower."""

FEW = 6
"""Steps of one image below which convolutions spend too long on reading their weights, however many bytes they take."""

GPU_MEMORY = 2**31
"""Bytes of trains that keep a GPU busy."""


class SpikingModel(nn.Module):
    """A spiking network that answers like the network it was converted from, from T steps per site.

    It resets itself on every call, needs no gradient, and gives the same spikes for the same seed and image index, on
    every executor that draws step by step and for every batch split; where arithmetic rounds, but for ties.

    Args:
        graph: the prepared network.
        thresholds: one or one per channel for each site.
        neuron: one of `NEURONS`.
        steps: T, the length of a window.
        shuffle: one of `SHUFFLES`.
        seed: selects the random numbers of stochastic neurons and of shuffling.
        options: further arguments of the neuron.

    Raises:
        UsageError: a name or number out of range.
        ModelRefused: streaming neurons where a site must fire spikes of both signs.
        CalibrationRefused: the thresholds do not fit.
    """

    def __init__(
        self,
        graph: PreparedGraph,
        thresholds: Thresholds,
        *,
        neuron: str,
        steps: int,
        shuffle: str = "none",
        seed: int = 0,
        options: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        choice("neuron", neuron, tuple(NEURONS))
        choice("shuffle", shuffle, SHUFFLES)
        check_steps(steps)
        check_seed(seed)
        graph.audit.require(neuron)
        thresholds.check(graph, steps, neuron)
        if thresholds.bursts and shuffle != "none":
            raise UsageError("shuffling re-orders single spikes, and some sites fire bursts", "leave out mixed steps")
        self.graph, self.thresholds = graph, thresholds
        self.seed, self.options = seed, dict(options or {})
        self.ann = graph.module
        self.body = with_weights(graph.module, thresholds.weights)
        neurons = populations(graph, thresholds, neuron, steps, self.options)
        self.neurons = nn.ModuleDict(neurons)
        self.network = Network(self.body, neurons, steps, shuffle)
        self.memory: int | None = None
        """The bytes of trains that the `layers` executor works on at once; None for what suits the device."""
        self._neuron = neuron

    @property
    def neuron(self) -> str:
        """The neuron model, one of `NEURONS`."""
        return self._neuron

    @property
    def steps(self) -> int:
        """T, the length of a window."""
        return self.network.steps

    @property
    def shuffle(self) -> str:
        """How trains are re-ordered, one of `SHUFFLES`."""
        return self.network.order

    @property
    def schedule(self) -> Schedule:
        """When each node speaks."""
        return self.network.schedule

    @property
    def answers_every_step(self) -> bool:
        """Whether there is an answer after each step, so that `by_t` can tell it."""
        return not self.schedule.delayed

    @property
    def streaming(self) -> bool:
        """Whether neurons fire in the step in which they integrate, so that the output improves step by step."""
        return self.schedule.streaming

    @property
    def stochastic(self) -> bool:
        """Whether the result depends on the seed."""
        return NEURONS[self.neuron].stochastic or (self.streaming and self.shuffle != "none")

    @property
    def executors(self) -> tuple[str, ...]:
        """The executors that can run this network, the fastest first."""
        return EXECUTORS[1:] if self.streaming else EXECUTORS

    @property
    def depth(self) -> int:
        """The number of sites on the longest path."""
        return self.graph.depth

    @property
    def end_to_end_steps(self) -> int:
        """The steps from an image to its answer: a window of T for each level of `Schedule.windows`.

        One window for streaming neurons; one more for each two-phase or shuffled site on the longest path.
        """
        return self.schedule.windows * self.steps

    @property
    def interval(self) -> int:
        """The steps between two answers when images follow each other through the network."""
        return self.steps

    @property
    def levels(self) -> int:
        """The most values that a neuron's window can stand for: T m + 1, or 2 T m + 1 where some are negative.

        m is the longest burst, 1 without bursts.
        """
        return 1 + max(((1 + neuron.signed) * neuron.most for neuron in self.network.neurons.values()), default=0)

    @property
    def spike_type(self) -> str:
        """What travels on the sites' output wires: "binary" spikes, "ternary" ones, or both, and bursts."""
        kinds = " and ".join(sorted({site.spikes for site in self.graph.sites}))
        longest = max(self.thresholds.bursts.values(), default=1)
        return kinds if longest == 1 else f"{kinds}, bursts of up to {longest} a step"

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one image of each input."""
        return self.graph.input_shapes

    def forward(self, *inputs: Tensor, index: Tensor | None = None, executor: str | None = None) -> Any:
        """Return the mean of the output over its window: logits [batch, classes].

        Args:
            inputs: the images, [batch, channels, ...], the same at every step.
            index: the position of each image in its data set, int64 [batch]; 0, 1, ... by default. It selects the
                random numbers, so that the same image gets the same ones in every batch.
            executor: one of ``executors``; the first by default.

        Raises:
            UsageError: the executor cannot run this network.
            DataRefused: the inputs have another shape than those the network was converted for.
        """
        return self._run(inputs, index, executor, None)

    def activity(self, *inputs: Tensor, index: Tensor | None = None, executor: str | None = None) -> dict[str, Tensor]:
        """Return the number of spikes of each neuron in its window, [batch, channels, ...] for each site name.

        Arguments and errors are those of `forward`.
        """
        found: dict[str, Tensor] = {}
        self._run(inputs, index, executor, found)
        return {self.graph.module.get_submodule(child).name: counts for child, counts in found.items()}  # type: ignore[misc]

    def _run(
        self, inputs: tuple[Tensor, ...], index: Tensor | None, executor: str | None, activity: dict[str, Tensor] | None
    ) -> Any:
        executor = self.executors[0] if executor is None else choice("executor", executor, EXECUTORS)
        if executor not in self.executors:
            raise UsageError(
                f"the counts executor needs two-phase neurons, and {self.neuron!r} neurons fire while they integrate",
                f"use one of {', '.join(self.executors)}",
            )
        noise, inputs = self._noise(inputs, index), channels_last(inputs)
        with exact(inputs):
            if executor == "counts":
                return self.network.counting(*inputs, now=Pass(noise, activity))
            if executor == "steps":
                steps = Steps(self.network, noise, activity)
                return over(lambda train: train.mean(0), steps.run(inputs))
            return mean(self.network, inputs, noise, self._memory(inputs), activity)

    def by_t(self, *inputs: Tensor, index: Tensor | None = None) -> Any:
        """Return the mean of the output over its first 1, 2, ..., T steps: logits [T, batch, classes].

        Raises:
            UsageError: the neurons are two-phase or shuffled, so there is no answer before the window is complete.
            DataRefused: as for `forward`.
        """
        if not self.answers_every_step:
            kind = f"{self.neuron!r} neurons{' with shuffling' * (self.shuffle != 'none')}"
            raise UsageError(
                f"{kind} answer once a window, not at every step",
                "by_t needs a streaming neuron without shuffling",
            )
        with exact(inputs):
            found = trains(self.network, channels_last(inputs), self._noise(inputs, index), self._memory(inputs))
            return over(lambda train: train.cumsum(0) / _time(train), found)

    def describe(self) -> dict[str, Any]:
        """Return what the network is made of, JSON-able: neuron, timing, sites, and what was rewritten."""
        notes = list(self.graph.notes)
        if self.shuffle != "none" and not self.streaming:
            notes.append("shuffling cannot change a two-phase network: its sites depend on spike counts only")
        return {
            "neuron": self.neuron,
            "steps": self.steps,
            "end_to_end_steps": self.end_to_end_steps,
            "interval": self.interval,
            "levels": self.levels,
            "spike_type": self.spike_type,
            "shuffle": self.shuffle,
            "options": self.options,
            "seed": self.seed,
            "executors": list(self.executors),
            "sites": [
                {
                    "name": site.name,
                    "shape": list(site.shape),
                    "cap": site.cap,
                    "spikes": site.spikes,
                    "burst": self.thresholds.bursts.get(site.name, 1),
                }
                for site in self.graph.sites
            ],
            "audit": self.graph.audit.verdict,
            "analog": [f"{entry.path}: {entry.name}" for entry in self.graph.audit.of(Role.ANALOG)],
            "input": "analog (direct coding)",
            "output": "accumulator",
            "notes": notes,
        }

    def _memory(self, inputs: tuple[Tensor, ...]) -> int:
        if self.memory is not None:
            return self.memory
        if inputs[0].is_cuda:
            return GPU_MEMORY
        return max(MEMORY, FEW * self.schedule.values_per_image * inputs[0].element_size())

    def _noise(self, inputs: tuple[Tensor, ...], index: Tensor | None) -> Noise:
        check_seed(self.seed)
        self.graph.check_inputs(inputs)
        batch = len(inputs[0])
        if index is None:
            index = torch.arange(batch)
        if index.shape != (batch,) or index.is_floating_point():
            raise DataRefused(
                f"expected one whole index for each of {batch} images, got {index.dtype} of shape {list(index.shape)}",
                "give the position of each image in its data set, torch.arange(...)",
            )
        return Noise(self.seed, index.to(inputs[0].device, torch.int64))


def _time(train: Tensor) -> Tensor:
    return torch.arange(1, len(train) + 1, device=train.device, dtype=train.dtype).view(-1, *[1] * (train.ndim - 1))
