"""DA-QCFS: for each channel of a deterministic two-phase site a shift of its input and another height of its spikes.

    psi_c = mean(z_ann - z_snn),  N = clip(floor((z_snn + psi) T / theta + 1/2), 0, T)
    phi_c = mean(a_ann - theta N / T),  output = (theta + phi) N / T

Where neurons fire bursts of up to m, T m takes the place of T, so that a spike is worth (theta + phi) / m.

Source: Hao et al. 2025 (arXiv 2412.13610), who take moving averages in which a batch has weight 0.01. Ours are plain
means over the batches so far, in which a batch has at least that weight, so that ten batches are enough.
"""

import torch
from torch import Tensor

from snnconvert.converter.errors import UsageError
from snnconvert.converter.neurons import Correction

from .side_by_side import Meeting

WEIGHT = 0.01
"""The smallest weight of a batch in the averages."""


def da_qcfs(meeting: Meeting) -> Correction:
    """Return the correction with shift psi (a bias) and height theta + phi of each channel.

    Raises:
        UsageError: the neurons stream, or are random.
    """
    neuron = meeting.neuron
    if neuron.streaming or neuron.stochastic:
        raise UsageError("DA-QCFS corrects deterministic two-phase neurons", "use neuron 'two-phase', or 'bias'")
    level = neuron.threshold.flatten()  # theta / m
    psi, height = meeting.correction.bias, meeting.correction.height
    psi = _average(psi, meeting.channel_mean(meeting.ann_current - meeting.current), meeting.batch)
    neuron.correct(meeting.correction._replace(bias=psi, height=None))
    phi = meeting.channel_mean(meeting.ann_activation - meeting.response())
    phi = _average(None if height is None else (height - level) * neuron.burst, phi, meeting.batch)
    return meeting.correction._replace(bias=psi, height=level + phi / neuron.burst)


def _average(before: Tensor | None, now: Tensor, batch: int) -> Tensor:
    return now if before is None else torch.lerp(before, now, max(WEIGHT, 1 / (batch + 1)))
