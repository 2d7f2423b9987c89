"""Writes to places that the image chooses: a mask and a number convert, others are refused by what they are."""

from typing import Any

import pytest
import torch
from torch import Tensor

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import prepare


def relu(m: Any, h: Tensor) -> Tensor:
    h[h < 0] = 0
    return h


def several(m: Any, h: Tensor) -> Tensor:
    h[h > 0.5] = 0.5
    h[h < -0.5] = -0.5
    return h


def whole_channels(m: Any, h: Tensor) -> Tensor:
    h[h.mean((2, 3)) < 0] = 0.25
    return h


def stored_number(m: Any, h: Tensor) -> Tensor:
    h[h < 0] = m.low
    return h


@pytest.mark.parametrize("write", [relu, several, whole_channels, stored_number])
def test_a_mask_and_a_number(network: Any, images: Tensor, spikes: Any, write: Any) -> None:
    model = network(lambda m, x: m.head(m.conv2(write(m, m.conv(x)))))
    model.register_buffer("low", torch.tensor(-0.125).double())
    graph = spikes(model, images)
    assert "masked_fill" in {entry.name for entry in graph.audit.operations}
    assert "assign" not in {entry.name for entry in graph.audit.operations}


@pytest.mark.parametrize("write", [relu, whole_channels])
def test_every_executor_agrees(network: Any, images: Tensor, converts: Any, write: Any) -> None:
    converts(network(lambda m, x: m.head(m.conv2(write(m, m.conv(m.relu(x)))))), images)


def largest_image(m: Any, h: Tensor) -> Tensor:
    h[h.amax((1, 2, 3)).argmax(0, keepdim=True)] = 0
    return h


def channels_of_the_batch(m: Any, h: Tensor) -> Tensor:
    h[:, h.amax((0, 2, 3)) > 0] = 0
    return h


def mean(m: Any, h: Tensor) -> Tensor:
    h[h < 0] = h.mean()
    return h


@pytest.mark.parametrize("write", [largest_image, channels_of_the_batch, mean])
def test_other_places_are_refused(network: Any, images: Tensor, write: Any) -> None:
    with pytest.raises(
        ModelRefused,
        match=r"expected a mask and a number, .* got these writes:\n  \(top level\): .*test_masks.py:\d+\n",
    ):
        prepare(network(lambda m, x: m.head(m.relu(write(m, m.conv(x))))), images)
