"""The `counts` executor: a two-phase network in one pass, whatever T.

A two-phase site depends on the sum of its input only, and linear operations pass means through, so each site maps its
mean input z to theta N / T, with N the spike count of T z.
"""

from typing import Any

from torch import Tensor, fx

from ..neurons import Noise
from .network import Network


class Counts(fx.Interpreter):
    """Runs a canonical graph once, with a spike count at each site.

    Args:
        network: two-phase neurons in a canonical graph.
        noise: the random numbers of this pass.
        activity: filled with the spike counts of each site, by the name of its child, if given.
    """

    def __init__(self, network: Network, noise: Noise, activity: dict[str, Tensor] | None = None) -> None:
        super().__init__(network.module)
        self.extra_traceback = False  # it would rewrite the messages of our errors
        self.network = network
        self.noise = noise
        self.activity = activity

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return theta N / T for the mean input of the site ``target``."""
        neuron = self.network.neurons[target]
        counts = neuron.count(args[0] * neuron.steps, self.noise)
        if self.activity is not None:
            self.activity[target] = counts
        return counts * (neuron.height / neuron.steps)
