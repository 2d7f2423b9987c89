"""Which convolutions of a network read spikes in bytes: those of one site's spikes alone, where it pays.

At one step of a streaming network spikes are there or not, which `spike_tables` convolves; other counts are whole
numbers (`integer_synapses`). What neither of them takes runs in floats. The choice depends on shapes alone, not on the
batch, so that no split of it changes a spike.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from .. import integer_synapses, native, spike_tables
from ..graph.canonical import attribute
from ..graph.sites import site_of
from ..integer_synapses import MOST, IntegerConvolution, fits
from ..neurons import Neuron
from ..spike_tables import BITS, TableConvolution

FEWEST = 256
"""Inputs of a neuron below which a convolution in floats takes no longer than in whole numbers."""

FEWEST_OF_TABLES = 64
"""The same for tables."""

FEWEST_POSITIONS = 16
"""Positions of an image below which tables take longer to make than they save."""

Kind = type[TableConvolution] | type[IntegerConvolution]


class _Made(NamedTuple):
    """A convolution, None where it must be one of floats, and what it was made of: tensors, and what tells of them."""

    of: tuple[Tensor, Tensor]
    state: tuple[int, ...]
    convolution: TableConvolution | IntegerConvolution | None


class ByteSynapses:
    """The convolutions that read counts in bytes, the sites that give such counts, and the additions of them.

    A site may say that it cannot, for one call; its readers then get what it says in floats. A weight or a threshold
    that was changed or replaced counts from then on, unless it was changed behind the back of torch, as by ``.data``.

    Args:
        module: the canonical graph.
        neurons: those of each site, by the name of its child.
    """

    def __init__(self, module: fx.GraphModule, neurons: Mapping[str, Neuron]) -> None:
        self._module, self._neurons = module, neurons
        kinds = {node: _kind(node, neurons) for node in module.graph.nodes if _reads_spikes(node)}
        self.convolutions: dict[fx.Node, Kind] = {node: kind for node, kind in kinds.items() if kind is not None}
        self.sites = {node.all_input_nodes[0] for node in self.convolutions}
        self.additions = {node: pair for node in module.graph.nodes if (pair := self._pair(node)) is not None}
        self._made: dict[fx.Node, _Made] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to copy it: weights in bytes are made anew."""
        return ByteSynapses, (self._module, self._neurons)

    def values(self, site: fx.Node, counts: Tensor, steps: int, plus: Tensor | None = None) -> Tensor:
        """Return what ``counts``, the sum of ``steps``, are worth in their mean, and ``plus`` besides.

        Args:
            site: where they come from.
        """
        neuron = self._neurons[str(site.target)]
        worth = neuron.height / steps
        found = native.values(counts, neuron.population(None, worth), plus)
        if found is not None:
            return found
        return counts * worth if plus is None else plus + counts * worth

    def currents(self, node: fx.Node, counts: Tensor, steps: int) -> Tensor:
        """Return what the convolution ``node`` makes of ``counts``, uint8 [batch, channels, ...].

        Args:
            steps: of which the counts are the sum, and the currents the mean.
        """
        site, weight, bias, *how = node.args[:6]
        of = self._constant(weight), self._neurons[str(site.target)].height  # type: ignore[union-attr]
        convolution, added = self._convolution(node, of, steps, how), None if bias is None else self._constant(bias)
        if convolution is None:
            return torch.conv2d(self.values(site, counts, steps), of[0], added, *how)  # type: ignore[arg-type]
        return convolution(counts, added)

    def _convolution(
        self, node: fx.Node, of: tuple[Tensor, Tensor], steps: int, how: list[Any]
    ) -> TableConvolution | IntegerConvolution | None:
        """Return the convolution by a weight and the worth of T spikes, made now or earlier."""
        if any(x.is_inference() for x in of):
            return None  # whether they were changed cannot be told
        state = (*(number for x in of for number in (x._version, x.data_ptr())), steps)
        made = self._made.get(node)
        if made is None or made.state != state or any(one is not other for one, other in zip(made.of, of, strict=True)):
            worth, kind = of[1] / steps, self.convolutions[node]
            can = kind is TableConvolution or fits(of[0], worth)
            made = _Made(of, state, kind(of[0], worth, *how) if can else None)
            self._made[node] = made
        return made.convolution

    def _pair(self, node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
        """Return the site and the other wire that ``node`` adds up, None where it does something else."""
        if node.target is not torch.add or len(node.args) != 2 or node.kwargs:
            return None
        for site, other in (node.args, node.args[::-1]):
            if site in self.sites and isinstance(other, fx.Node) and other not in self.sites and _like_images(other):
                return site, other  # type: ignore[return-value]
        return None

    def _constant(self, node: Any) -> Tensor:
        found: Tensor = attribute(self._module, str(node.target))
        return found


def _reads_spikes(node: fx.Node) -> bool:
    if node.target is not torch.conv2d or len(node.args) != 7:
        return False
    site, weight, bias, *how, groups = node.args
    population = site_of(site)  # type: ignore[arg-type]
    constant = all(n is None or (isinstance(n, fx.Node) and n.op == "get_attr") for n in (weight, bias))
    pairs = all(isinstance(each, Sequence) and not isinstance(each, str) and len(each) == 2 for each in how)
    if population is None or population.signed or population.axis != 1 or not constant or not pairs or groups != 1:
        return False
    return bool(node.meta.get("batch") == 0 and site.meta.get("batch") == 0)  # type: ignore[union-attr]


def _like_images(node: fx.Node) -> bool:
    return len(node.meta.get("shape", ())) == 4 and node.meta.get("batch") == 0


def _kind(node: fx.Node, neurons: Mapping[str, Neuron]) -> Kind | None:
    """Return what convolves the spikes that ``node`` reads, None where floats are as fast."""
    site, weight = node.args[:2]
    _, channels, *kernel = weight.meta["shape"]  # type: ignore[union-attr]
    inputs, positions = channels * prod(kernel), prod(node.meta["shape"][2:])
    binary = neurons[str(site.target)].streaming and channels % BITS == 0  # type: ignore[union-attr]
    many = inputs >= FEWEST_OF_TABLES and positions >= FEWEST_POSITIONS
    if binary and many and spike_tables.available():
        return TableConvolution
    return IntegerConvolution if FEWEST <= inputs <= MOST and integer_synapses.available() else None
