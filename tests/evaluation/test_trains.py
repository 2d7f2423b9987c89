"""Trains add up to the counts of the executors, and come in the order in which they are sent."""

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from snnconvert.converter.errors import DataRefused
from snnconvert.converter.neurons import Noise
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.simulation.steps import Steps
from snnconvert.evaluation import spike_trains, window_starts

from .spike_walk import STEPS, images, spiking

INDEX = torch.tensor([4, 9])


def net(activation: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), activation, nn.Flatten(), nn.Linear(18, 4), nn.ReLU()).eval()


def trains(model: SpikingModel) -> dict[str, Tensor]:
    return spike_trains(model, images(model), INDEX)


@pytest.mark.parametrize("neuron", ["if", "two-phase", "tpp"])
def test_trains_add_up_to_the_counts(neuron: str) -> None:
    model = spiking(net(nn.ReLU()), 1, 5, 5, neuron=neuron)
    counts = model.activity(images(model), index=INDEX, executor="layers")
    found = trains(model)
    assert list(found) == list(counts) == ["1"]
    assert found["1"].shape == (STEPS, 2, 2, 3, 3)
    assert torch.equal(found["1"].sum(0), counts["1"].long())
    assert set(found["1"].unique().tolist()) == {0, 1}


def test_bursts_are_counts_and_negative_spikes_negative() -> None:
    bursts = trains(spiking(net(nn.ReLU()), 1, 5, 5, burst=3))["1"]
    assert set(bursts.unique().tolist()) == {0, 1, 2, 3}
    height = torch.tensor(1.36) / 7
    assert int(height * 3 / height) == 2, "a case in which float32 falls short of a whole number"
    fine = trains(spiking(net(nn.ReLU()), 1, 5, 5, burst=7, theta=1.36))["1"]
    assert 3 in fine.unique().tolist()
    signed = trains(spiking(net(nn.SiLU()), 1, 5, 5, neuron="two-phase"))
    assert int(next(iter(signed.values())).min()) == -1


def test_a_shuffled_train_is_told_as_it_is_sent() -> None:
    plain = spiking(net(nn.ReLU()), 1, 5, 5, neuron="two-phase")
    mixed = SpikingModel(plain.graph, plain.thresholds, neuron="two-phase", steps=STEPS, shuffle="per-neuron")
    first, second = trains(plain)["1"], trains(mixed)["1"]
    assert torch.equal(first.sum(0), second.sum(0))
    assert torch.equal(first, first.sort(0, descending=True).values)  # a two-phase neuron fires its spikes at once
    assert not torch.equal(first, second)


class Clock(dict[Any, Any]):
    """What the step-by-step executor empties at the end of each step."""

    steps = 0

    def clear(self) -> None:
        super().clear()
        self.steps += 1


class Timed(Steps):
    """Writes down how many steps have passed when a site first fires."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.now: Clock = Clock()
        self.first: dict[str, int] = {}

    def _fire(self, node: fx.Node, t: int) -> Tensor:
        self.first.setdefault(str(node.target), self.now.steps)
        return super()._fire(node, t)


class Branches(nn.Module):
    """A short and a long way to a sum, and a pool that is exact on window means."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.long, self.fc = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.long(x).relu()).relu()
        return self.fc(nn.functional.max_pool2d(x, 2, 1).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("neuron", "shuffle"), [("if", "none"), ("if", "shared"), ("two-phase", "none")])
def test_windows_start_when_sites_first_fire(neuron: str, shuffle: str) -> None:
    plain = spiking(Branches(), 1, 5, 5, neuron=neuron)
    model = SpikingModel(plain.graph, plain.thresholds, neuron=neuron, steps=STEPS, shuffle=shuffle)
    clock = Timed(model.network, Noise(0, INDEX))
    clock.run((images(model),))
    names = {child: model.graph.module.get_submodule(child).name for child in clock.first}
    starts = window_starts(model)
    assert starts == {names[child]: steps for child, steps in clock.first.items()}
    assert max(starts.values()) + STEPS == clock.now.steps == model.end_to_end_steps
    assert len(set(starts.values())) == (1 if (neuron, shuffle) == ("if", "none") else 3)


def test_images_that_do_not_fit() -> None:
    with pytest.raises(DataRefused, match="takes images of shape 1x5x5, got 3x8x8"):
        spike_trains(spiking(net(nn.ReLU()), 1, 5, 5), torch.zeros(2, 3, 8, 8), INDEX)
