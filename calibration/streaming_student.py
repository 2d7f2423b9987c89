"""The student of a reconstruction whose neurons stream: gradients go through time.

All steps of a window run at once, layer by layer, as in the `layers` executor, with the neurons of `through_time`. The
bias of each step is learned by itself, as in `ftbc`, which it starts from. Gradients of rates alone (Yu et al. 2024)
cost half of the time and ignore when a spike comes, which at few steps is most of the error: they stop helping early.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import UsageError
from snnconvert.converter.graph import Site
from snnconvert.converter.neurons import Correction, IntegrateAndFire, Neuron, Noise
from snnconvert.converter.simulation.layers import Layers
from snnconvert.converter.simulation.network import Network

from .student import Student
from .through_time import through_time


class StreamingStudent(Student):
    """A spiking network of integrate-and-fire neurons with gradients; arguments as for `Student`."""

    @cached_property
    def network(self) -> Network:
        """The network whose neurons and schedule the student takes.

        Raises:
            UsageError: spikes are to be shuffled.
        """
        if self.options.get("shuffle", "none") != "none":
            raise UsageError("streaming networks learn from spikes in their order", "shuffle what was learned")
        return convert(self.prepared, self.before, neuron=self.neuron, steps=self.steps, **self.options).network

    @property
    def _values_per_node(self) -> int:
        return self.steps

    def run(self, *inputs: Any, **kwargs: Any) -> Any:
        """Return the mean of the output over its window, in its structure."""
        train = _Learning(self, inputs).chunk(inputs, 0, self.steps)
        exact = self.prepared.weight.dtype
        return tree_map(lambda part: None if part is None else part.to(exact).mean(0), train)

    def train_of(self, child: str, neuron: Neuron, current: Tensor) -> Tensor:
        """Return the output train of the neurons of a site, of ``current`` [steps, batch, channels, ...]."""
        assert isinstance(neuron, IntegrateAndFire)
        site, rank = self.sites[child], current.ndim - 1
        correction = self._correction(child)

        def along_channels(x: Tensor) -> Tensor:
            return x.reshape(-1, *[1] * (rank - site.axis - 1))

        first = self._first_threshold(child)
        theta, most = self._threshold(child), neuron.burst
        worth = along_channels(theta) / most
        height = worth if correction.height is None else along_channels(correction.height * theta / first)
        bias = self._learned_bias(child)
        bias = bias.reshape(self.steps, *[1] * site.axis, -1, *[1] * (rank - site.axis - 1))
        start = torch.full_like(worth, neuron.initial_potential).detach()
        if correction.potential is not None:
            at_first = correction.potential
            start = start + (along_channels(at_first) if at_first.ndim == 1 else at_first)
        bias = bias + neuron.shift / self.steps * worth
        out = through_time(current, bias, worth, height, start, most=most, fuse=self.fuse)
        return self._ended(child, out, lambda: out.mean(0))

    def _first_shift(self, site: Site) -> Tensor:
        """Return the bias of each step that the site has already, in units of theta, [steps, channels]."""
        theta = self.before.values[site.name]
        bias = self.before.corrections.get(site.name, Correction()).bias
        if bias is None:
            return torch.zeros(self.steps, site.channels).to(theta)
        return (bias / theta).expand(self.steps, -1).clone()

    def _learned_bias(self, child: str) -> Tensor:
        return self.shift[child] * self._first_threshold(child)


class _Learning(Layers):
    """The `layers` executor with the weights and neurons of a student."""

    def __init__(self, student: StreamingStudent, inputs: tuple[Tensor, ...]) -> None:
        super().__init__(student.network, Noise(0, torch.arange(len(inputs[0]), device=inputs[0].device)))
        self.student = student

    def _constant(self, node: fx.Node) -> Any:
        weights = self.student.weights
        return weights[str(node.target)] if str(node.target) in weights else super()._constant(node)

    def _site(self, node: fx.Node, neuron: Neuron) -> Tensor:
        current = self._over_time(node.all_input_nodes[0])
        return self.student.train_of(str(node.target), neuron, current).flatten(0, 1)

    def _running(self, node: fx.Node) -> Tensor:
        """Carry a nonlinear operation through the steps; totals of many steps need more digits than bfloat16 has."""
        short, exact = self.env, self.student.prepared.weight.dtype
        signals = [n for n in node.all_input_nodes if n not in self.schedule.weights]
        self.env = short | {n: short[n].to(exact) for n in signals}
        try:
            return super()._running(node)
        finally:
            self.env = short
