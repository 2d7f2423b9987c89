"""The `counts` executor: a two-phase network in one pass, whatever T.

A two-phase site depends on the sum of its input only, and linear operations pass means through, so each site maps its
mean input z to theta N / T, with N the spike count of T z.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, fx

from ..neurons import Neuron, Noise


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
    """

    def __init__(self, module: fx.GraphModule, neurons: Mapping[str, Neuron]) -> None:
        self.__module, self.__neurons = module, neurons
        graph = copy.deepcopy(module.graph)
        *_, last = (node for node in graph.nodes if node.op == "placeholder")
        with graph.inserting_after(last):
            now = graph.placeholder("snnconvert_pass")
        for node in graph.nodes:
            if node.op == "call_module":
                node.args = (*node.args, now)
        self.__run: Callable[..., Any] = type(fx.GraphModule(module, graph)).forward

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to copy it: generated code is made anew."""
        return Counting, (self.__module, self.__neurons)

    def __getattr__(self, name: str) -> Any:
        """Return what the code calls ``name``: the neurons of a site, or what the module has."""
        if name.startswith(("__", "_Counting__")):  # asked for while it is copied
            raise AttributeError(name)
        if name in self.__neurons:
            return partial(_window, name, self.__neurons[name])
        return getattr(self.__module, name)

    def __call__(self, *inputs: Tensor, now: Pass) -> Any:
        """Return the mean of the output over its window."""
        return self.__run(self, *inputs, now)


def _window(name: str, neuron: Neuron, mean: Tensor, now: Pass) -> Tensor:
    """Return theta N / T for the ``mean`` input of a window."""
    if now.watch is not None:
        now.watch(name, mean)
    worth = neuron.height / neuron.steps
    if now.activity is None:
        return neuron.window(mean, now.noise, worth)
    counts = now.activity[name] = neuron.window(mean, now.noise)
    return counts * worth
