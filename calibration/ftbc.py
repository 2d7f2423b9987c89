"""Time-dependent bias for streaming neurons (FTBC): at each step the mean output of a channel becomes the activation's.

    e_c = mean(theta s[t] - a_ann),   b[t, c] <- b[t, c] - alpha e_c

in each batch for t = 1..T, the step fired again with its new bias before the next one.

Source: Wu et al. 2024 (ECCV, "FTBC"), alpha = 1/2. Their bias is subtracted from the potential, ours is a current.
"""

import torch

from snnconvert.converter.errors import UsageError
from snnconvert.converter.neurons import Correction, Noise

from .side_by_side import Meeting

ALPHA = 0.5
"""How much of the error of a step is taken out of it by one batch."""


def ftbc(meeting: Meeting) -> Correction:
    """Return the correction with a bias for each step and channel.

    Raises:
        UsageError: the neurons are two-phase, for which only the sum over time counts.
    """
    neuron, currents = meeting.neuron, meeting.current
    if not neuron.streaming:
        raise UsageError("a time-dependent bias is for streaming neurons: two-phase ones see sums", "use 'bias'")
    before = meeting.correction.bias
    if before is None:
        before = torch.zeros(meeting.site.channels).to(currents)
    biases = before.expand(neuron.steps, -1).clone()
    noise = Noise(0, torch.arange(len(meeting.ann_activation), device=currents.device))
    potential = neuron.start(currents[0])
    for step in range(neuron.steps):
        for moved in (True, False):
            neuron.correct(meeting.correction._replace(bias=biases))
            spikes, after = neuron.fire(neuron.integrate(potential, currents[step], step), step, noise)
            if moved:
                error = spikes * neuron.height - meeting.ann_activation
                biases[step] -= ALPHA * meeting.channel_mean(error)
        potential = after
    return meeting.correction._replace(bias=biases)
