"""Networks whose trains can be written down by hand: what leaves the site is what leaves the network."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.convert import convert
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.thresholds import Thresholds


@pytest.fixture
def constant() -> Callable[..., Thresholds]:
    def make(graph: PreparedGraph, theta: float = 1.0) -> Thresholds:
        return Thresholds({s.name: torch.full((s.channels,), theta) for s in graph.sites}, None, "given", "channel")

    return make


@pytest.fixture
def wire(constant: Callable[..., Thresholds]) -> Callable[..., SpikingModel]:
    """Return a maker of networks of one site with threshold 1, between two layers that change nothing."""

    def make(width: int, **options: Any) -> SpikingModel:
        layers = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        for layer in layers:
            nn.init.eye_(layer.weight)
        graph = prepare(nn.Sequential(layers[0], nn.ReLU(), layers[1]).eval(), torch.randn(2, width))
        return convert(graph, constant(graph), **options)

    return make


@pytest.fixture
def currents() -> Tensor:
    """Currents in units of theta: negative, none, at ties, between levels, above theta; exact in float32."""
    return torch.tensor([[-1.0, 0.0, 0.0625, 0.125, 0.3125, 0.5, 0.9375, 1.0, 1.5]])
