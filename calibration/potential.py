"""Initial membrane potential by neuron: what a neuron puts out too little in its window, it starts with.

    v0_i <- v0_i + T mean(a_ann - a_snn) / (theta n),   n = 1, 2, ... the number of the batch, the mean over its images

Source: Li et al. 2021 (arXiv 2106.06984), "advanced" calibration, which takes one batch; we average over several.
Bu et al. 2022 start every neuron from theta / 2, which is what neurons here do before the correction.
"""

from snnconvert.converter.neurons import Correction

from .side_by_side import Meeting


def potential(meeting: Meeting) -> Correction:
    """Return the correction with the initial potential of each neuron moved by the mean error of its output."""
    neuron = meeting.neuron
    start = (meeting.ann_activation - meeting.response()).mean(0) * (neuron.steps / (meeting.batch + 1))
    if neuron.potential is not None:  # in units of the activation, and where it was one a channel, in their shape
        start = start + neuron.potential
    return meeting.correction._replace(potential=start / neuron.threshold)
