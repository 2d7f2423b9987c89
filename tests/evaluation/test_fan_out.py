"""The fan-out of each neuron against loops over indices, and against what a single spike changes."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from snnconvert.evaluation.fan_out import structure

from .spike_walk import by_loops, changed, counted, layer, spiking, walk


@settings(max_examples=40)
@given(
    size=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
)
def test_the_fan_out_of_every_neuron(
    size: list[int], kernel: int, stride: int, padding: int, dilation: int, groups: int
) -> None:
    assume(all(n + 2 * padding >= dilation * (kernel - 1) + 1 for n in size))
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(size) - 1]
    last = conv(2, 6, kernel, stride, padding, dilation, groups)
    model = spiking(nn.Sequential(conv(1, 2, 1), nn.ReLU(), last), 1, *size)
    expected = by_loops(size, [kernel] * len(size), stride, padding, dilation, 6 // groups)
    (maps,) = (one.fan_out for one in structure(model).layers if one.name == "2")
    found = maps["1"][0].numpy() if maps else np.zeros((2, *size))
    np.testing.assert_array_equal(found, np.stack([expected] * 2))


LAYERS: dict[str, tuple[nn.Module, str]] = {
    "depthwise": (nn.Conv2d(4, 4, 3, 2, 1, groups=4), "conv2d"),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), "conv_transpose2d"),
    "linear-on-the-last-dimension": (nn.Linear(6, 5), "linear"),
    "average-pool": (nn.AvgPool2d(2), "avg_pool2d"),
    "overlapping-pool-with-border": (nn.AvgPool2d(3, 2, 1), "avg_pool2d"),
    "pool-with-half-windows": (nn.AvgPool2d(4, 3, ceil_mode=True, count_include_pad=False), "avg_pool2d"),
    "uneven-pool": (nn.AdaptiveAvgPool2d((3, 4)), "adaptive_avg_pool2d"),
    "global-pool": (nn.AdaptiveAvgPool2d(1), "adaptive_avg_pool2d"),
    "smooth-interpolation": (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "interpolate"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_spike_counts_what_it_changes_behind_the_layer(name: str) -> None:
    torch.manual_seed(0)
    tested, operation = LAYERS[name]
    model = spiking(nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), tested, nn.ReLU(), nn.Flatten(1)), 2, 6, 6)
    double = changed(lambda x: tested.double()(x), (4, 6, 6))
    expected = walk(model, "1", double)
    tested.float()
    found = layer(counted(model), operation, -1)
    assert found.synaptic_operations == pytest.approx(expected, rel=1e-12)
