"""Trains add up to the counts of the executors, and come in the order in which they are sent."""

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.errors import DataRefused
from snnconvert.converter.simulation import SpikingModel
from snnconvert.evaluation import spike_trains

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


def test_images_that_do_not_fit() -> None:
    with pytest.raises(DataRefused, match="takes images of shape 1x5x5, got 3x8x8"):
        spike_trains(spiking(net(nn.ReLU()), 1, 5, 5), torch.zeros(2, 3, 8, 8), INDEX)
