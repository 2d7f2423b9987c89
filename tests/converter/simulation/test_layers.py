"""The layer-by-layer executor: chunks of steps join without a seam, and nothing constant is computed twice."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from snnconvert.converter.convert import convert
from snnconvert.converter.graph import prepare
from snnconvert.converter.neurons import Noise
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.simulation.layers import Layers
from snnconvert.converter.thresholds import Thresholds


@pytest.fixture
def streaming(network: nn.Module, images: Tensor) -> SpikingModel:
    graph = prepare(network, images)
    thresholds = Thresholds({s.name: torch.full((1,), 0.5) for s in graph.sites}, None, "given", "layer")
    return convert(graph, thresholds, neuron="if", steps=12)


def layers(model: SpikingModel, images: Tensor) -> Layers:
    noise = Noise(model.seed, torch.arange(len(images)))
    return Layers(model.network, noise)


@pytest.mark.parametrize("sizes", [(1,) * 12, (5, 7), (3, 1, 8), (11, 1)])
def test_chunks_of_steps_join_without_a_seam(streaming: SpikingModel, images: Tensor, sizes: tuple[int, ...]) -> None:
    whole = layers(streaming, images).chunk((images,), 0, 12)
    parts, executor, first = [], layers(streaming, images), 0
    for size in sizes:
        parts.append(executor.chunk((images,), first, size))
        first += size
    assert torch.equal(torch.cat(parts), whole)
    assert whole.shape == (12, 5, 5)


class Counting(TorchFunctionMode):
    """Notes the batch size of each convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.conv2d:
            self.batches.append(len(args[0]))
        return function(*args, **(kwargs or {}))


def test_what_comes_before_the_first_site_is_computed_once(streaming: SpikingModel, images: Tensor) -> None:
    with Counting() as seen:
        executor = layers(streaming, images)
        for first in (0, 4, 8):
            executor.chunk((images,), first, 4)
    assert seen.batches.count(5) == 1
    assert seen.batches.count(4 * 5) == len(seen.batches) - 1 == 2 * 3


def test_a_network_whose_output_is_constant_in_part_says_it_at_every_step() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.layer(x).relu() * 1.0, self.layer(x)

    graph = prepare(Both().eval(), torch.randn(2, 3))
    thresholds = Thresholds({s.name: torch.ones(1) for s in graph.sites}, None, "given", "layer")
    model, x = convert(graph, thresholds, neuron="if", steps=4), torch.randn(6, 3)
    spikes, steady = layers(model, x).chunk((x,), 0, 4)
    assert spikes.shape == steady.shape == (4, 6, 4)
    assert (steady == steady[0]).all()
    assert torch.allclose(model(x)[1], steady[0])
