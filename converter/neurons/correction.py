"""What calibration adds to the neurons of a site, besides their threshold."""

from typing import NamedTuple

from torch import Tensor


class Correction(NamedTuple):
    """Changes to the neurons of one site; None leaves a thing as it is.

    Args:
        bias: current that comes in at every step besides the input's, in units of the activation, [channels], or
            [steps, channels] where it depends on time.
        potential: what the membrane potential starts with besides its usual value, in units of theta, [channels] or
            one for each neuron, in the shape of the site.
        height: what a spike is worth on its wire, in units of the activation, [channels] or [1]; theta by default. It
            is a factor of the synapses that the wire leads to.
    """

    bias: Tensor | None = None
    potential: Tensor | None = None
    height: Tensor | None = None
