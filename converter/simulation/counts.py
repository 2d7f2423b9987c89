"""The `counts` executor: a two-phase network in one pass, whatever T.

A two-phase site depends on the sum of its input only, and linear operations pass means through, so each site maps its
mean input z to theta N / T, with N the spike count of T z.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial, update_wrapper
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from ..neurons import Neuron, Noise
from .byte_synapses import ByteSynapses


class Pass(NamedTuple):
    """What the sites share in one pass.

    Args:
        noise: the random numbers.
        activity: filled with the spike counts of each site, by the name of its child, if given.
        watch: called at each site with the name of its child and its mean input, before it fires, if given.
    """

    noise: Noise
    activity: dict[str, Tensor] | None = None
    watch: Callable[[str, Tensor], None] | None = None


class Counting:
    """A canonical graph with two-phase neurons at its sites, as generated code: what runs is the function itself.

    The code reads its constants and sites from this object, which looks them up in the module and in the neurons that
    there are: whatever is put in their place counts from then on.

    Args:
        module: the canonical graph.
        neurons: those of each site, by the name of its child in ``module``.
        byte_synapses: the convolutions that read spikes in bytes.
    """

    def __init__(self, module: fx.GraphModule, neurons: Mapping[str, Neuron], byte_synapses: ByteSynapses) -> None:
        self.__module, self.__neurons, self.__byte_synapses = module, neurons, byte_synapses
        self.__whole = {str(site.target) for site in byte_synapses.sites}
        graph = copy.deepcopy(module.graph)
        _in_bytes(graph, byte_synapses, neurons)
        *_, last = (node for node in graph.nodes if node.op == "placeholder")
        with graph.inserting_after(last):
            now = graph.placeholder("snnconvert_pass")
        for node in graph.nodes:
            if node.op == "call_module":
                node.args = (*node.args, now)
        self.__run: Callable[..., Any] = type(fx.GraphModule(module, graph)).forward

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to copy it: generated code is made anew."""
        return Counting, (self.__module, self.__neurons, self.__byte_synapses)

    def __getattr__(self, name: str) -> Any:
        """Return what the code calls ``name``: the neurons of a site, or what the module has."""
        if name.startswith(("__", "_Counting__")):  # asked for while it is copied
            raise AttributeError(name)
        if name in self.__neurons:
            return partial(_window, name, self.__neurons[name], name in self.__whole)
        return getattr(self.__module, name)

    def __call__(self, *inputs: Tensor, now: Pass) -> Any:
        """Return the mean of the output over its window."""
        return self.__run(self, *inputs, now)


def _in_bytes(graph: fx.Graph, byte_synapses: ByteSynapses, neurons: Mapping[str, Neuron]) -> None:
    """Let convolutions of ``graph``, a copy, read counts where ``byte_synapses`` can, and all else their value."""
    convolutions = {node.name: node for node in byte_synapses.convolutions}
    sites = {node.name: node for node in byte_synapses.sites}
    additions = {node.name: pair for node, pair in byte_synapses.additions.items()}
    nodes = {node.name: node for node in graph.nodes}

    def value_of(site: fx.Node) -> Callable[..., Tensor]:
        return _bound(_value, byte_synapses, site, neurons[str(site.target)].steps)

    for node in nodes.values():
        if node.name in sites:
            others = [user for user in node.users if user.name not in convolutions and user.name not in additions]
            with graph.inserting_after(node):
                value = graph.call_function(value_of(sites[node.name]), (node,))
            for user in others:
                user.replace_input_with(node, value)
        elif node.name in convolutions:
            steps = neurons[str(node.args[0].target)].steps
            node.target = _bound(_convolved, byte_synapses, convolutions[node.name], steps)
        elif node.name in additions:
            site, other = additions[node.name]
            node.target, node.args = value_of(site), (nodes[site.name], nodes[other.name])


def _bound(function: Callable[..., Tensor], *given: Any) -> Callable[..., Tensor]:
    """Return ``function`` of ``given`` and what comes later, with the name that code made from a graph needs."""
    return update_wrapper(partial(function, *given), function)


def _value(byte_synapses: ByteSynapses, site: fx.Node, steps: int, given: Tensor, plus: Tensor | None = None) -> Tensor:
    """Return theta N / T of what ``site`` gave, and ``plus`` besides."""
    if given.dtype == torch.uint8:
        return byte_synapses.values(site, given, steps, plus)
    return given if plus is None else given + plus


def _convolved(byte_synapses: ByteSynapses, node: fx.Node, steps: int, given: Tensor, *others: Any) -> Tensor:
    """Return the currents that the convolution ``node`` makes of what its site gave."""
    if given.dtype == torch.uint8:
        return byte_synapses.currents(node, given, steps)
    return torch.conv2d(given, *others)


def _window(name: str, neuron: Neuron, whole: bool, mean: Tensor, now: Pass) -> Tensor:
    """Return theta N / T for the ``mean`` input of a window, or, if ``whole``, N in bytes where that can be done."""
    if now.watch is not None:
        now.watch(name, mean)
    if whole and (counts := neuron.window_bytes(mean, now.noise)) is not None:
        if now.activity is not None:
            now.activity[name] = counts.to(mean.dtype)
        return counts
    worth = neuron.height / neuron.steps
    if now.activity is None:
        return neuron.window(mean, now.noise, worth)
    counts = now.activity[name] = neuron.window(mean, now.noise)
    return counts * worth
