"""Bias correction by channel: the mean of what a site puts out becomes that of the activation.

    b_c <- b_c + mean(a_ann - a_snn) / n,   n = 1, 2, ... the number of the batch

Source: Li et al. 2021 (arXiv 2106.06984), "light" calibration, which takes one batch; we average over several. For TPP
neurons a_snn is the exact mean of the random count, so that their known bias is taken out without sampling.
"""

from snnconvert.converter.neurons import Correction

from .side_by_side import Meeting


def bias(meeting: Meeting) -> Correction:
    """Return the correction with the bias of each channel moved by the mean error of its output."""
    error = meeting.channel_mean(meeting.ann_activation - meeting.response()) / (meeting.batch + 1)
    before = meeting.correction.bias
    return meeting.correction._replace(bias=error if before is None else before + error)
