"""Run a network and its spiking network on the same images, and correct each site by what both say there.

A correction is a rule from a `Meeting` to what the site's neurons get instead. Sites are corrected in the order in
which they run, each on what the corrected ones before it send, in one pass over the images; memory does not depend on
their number.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import CalibrationRefused
from snnconvert.converter.graph import PreparedGraph, Site
from snnconvert.converter.neurons import Correction, Neuron, Noise
from snnconvert.converter.simulation import SpikingModel, channels_last
from snnconvert.converter.simulation.counts import Pass
from snnconvert.converter.simulation.layers import Layers
from snnconvert.converter.thresholds import Thresholds

from .batches import Batches, first_inputs


@dataclass(frozen=True)
class Meeting:
    """What a network and its spiking network say at one site, about one batch.

    Args:
        site: where.
        neuron: the neurons there, with the present correction.
        correction: that correction.
        current: what comes into the neurons: the mean over their window [batch, channels, ...], or where they are
            streaming each step of it, [steps, batch, channels, ...].
        ann_current: what comes into the activation, [batch, channels, ...].
        ann_activation: what comes out of it.
        batch: the number of the batch, from 0.
    """

    site: Site
    neuron: Neuron
    correction: Correction
    current: Tensor
    ann_current: Tensor
    ann_activation: Tensor
    batch: int

    def response(self) -> Tensor:
        """Return what the neurons put out on the average of their window, in units of the activation."""
        neuron = self.neuron
        if not neuron.streaming:
            return neuron.expected_count(self.current * neuron.steps) * (neuron.height / neuron.steps)
        nothing = Noise(0, torch.arange(len(self.ann_activation), device=self.current.device))
        potential, count = neuron.start(self.current[0]), torch.zeros_like(self.current[0])
        for step in range(neuron.steps):
            spikes, potential = neuron.fire(neuron.integrate(potential, self.current[step], step), step, nothing)
            count += spikes
        return count * (neuron.height / neuron.steps)

    def channel_mean(self, values: Tensor) -> Tensor:
        """Return the mean of ``values`` [batch, channels, ...] over all but the channels."""
        return values.movedim(self.site.axis, 0).flatten(1).mean(1)


Rule = Callable[[Meeting], Correction]


def correct(
    graph: PreparedGraph,
    thresholds: Thresholds,
    batches: Batches,
    rule: Rule,
    *,
    name: str,
    neuron: str,
    **options: Any,
) -> Thresholds:
    """Return ``thresholds`` with the corrections that ``rule`` finds, site after site, batch after batch.

    Args:
        thresholds: for one window; corrections that it holds are where the rule starts.
        batches: unlabelled training images, as the network takes them.
        rule: from what is seen at a site to the correction that its neurons get at once.
        name: of the correction, to be remembered.
        neuron: the neuron model to correct.
        options: further arguments of `convert`.

    Raises:
        CalibrationRefused: no batch, thresholds without a window, or for other neurons.
    """
    if thresholds.steps is None:
        thresholds = replace(thresholds, steps=options.get("steps"))
    if thresholds.steps is None:
        raise CalibrationRefused(f"{thresholds.rule} thresholds are for any T, corrections for one", "give steps=T")
    model = convert(graph, thresholds, neuron=neuron, **options | {"steps": thresholds.steps})
    found = dict(model.thresholds.corrections)
    sites = {child: module for child, module in graph.module.named_children() if isinstance(module, Site)}
    images = 0
    for number, batch in enumerate(batches):
        inputs = channels_last(first_inputs(graph, batch))
        watched = activations(graph, inputs)[1]

        def adjust(
            child: str, current: Tensor, watched: dict[str, tuple[Tensor, Tensor]] = watched, number: int = number
        ) -> None:
            site, neurons = sites[child], model.network.neurons[child]
            before = found.get(site.name, Correction())
            found[site.name] = rule(
                Meeting(site, neurons, before, current, watched[child][0], watched[child][1], number)
            )
            neurons.correct(found[site.name])

        run_watched(model, inputs, adjust, images)
        images += len(inputs[0])
    if not images:
        raise CalibrationRefused("the calibration data hold no image", "give at least one batch")
    corrections = [*thresholds.source.get("corrections", []), {"name": name, "images": images}]
    source = thresholds.source | {"corrections": corrections}
    return replace(thresholds, neuron=neuron, corrections=found, source=source).to(graph)


def activations(graph: PreparedGraph, inputs: tuple[Tensor, ...]) -> tuple[Any, dict[str, tuple[Tensor, Tensor]]]:
    """Return the output of the network itself, and what comes into and goes out of each site, by its child's name."""
    watch = _Activations(graph.module)
    with torch.no_grad():
        return watch.run(*inputs), watch.found


class _Activations(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.found: dict[str, tuple[Tensor, Tensor]] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = super().call_module(target, args, kwargs)
        self.found[str(target)] = args[0], result
        return result


def run_watched(
    model: SpikingModel, inputs: tuple[Tensor, ...], watch: Callable[[str, Tensor], None], first: int = 0
) -> Any:
    """Run ``model`` and call ``watch`` at each site, with its child's name and its input current, before it fires.

    Args:
        first: the position of the first image in its data set, which selects its random numbers.

    Returns:
        The mean of the output.
    """
    noise = Noise(model.seed, torch.arange(first, first + len(inputs[0]), device=inputs[0].device))
    with torch.no_grad():
        if model.streaming:
            train = _WatchedLayers(model.network, noise, watch).chunk(inputs, 0, model.steps)
            return torch.utils._pytree.tree_map(lambda steps: steps.mean(0), train)
        return model.network.counting(*inputs, now=Pass(noise, watch=watch))


class _WatchedLayers(Layers):
    def __init__(self, network: Any, noise: Noise, watch: Callable[[str, Tensor], None]) -> None:
        super().__init__(network, noise)
        self.watch = watch

    def _site(self, node: fx.Node, neuron: Neuron) -> Tensor:
        self.watch(str(node.target), self._over_time(node.all_input_nodes[0]))
        return super()._site(node, neuron)
