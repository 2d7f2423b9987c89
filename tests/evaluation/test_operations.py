"""Operations against a walk over every spike of every step: each counts the weights that it really meets."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter import processes
from snnconvert.converter.errors import DataRefused
from snnconvert.evaluation.operations import Operations, operations

from .spike_walk import IMAGES, STEPS, by_loops, changed, counted, every_spike, images, layer, spiking, walk

GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3, "dilation": 2, "padding": 2, "groups": 2},
    {"kernel_size": 2, "stride": 3, "groups": 4},
]


@pytest.mark.parametrize("neuron", ["if", "two-phase"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_convolutions_spike_by_spike(geometry: dict[str, int], neuron: str) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, **geometry)
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), conv, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    net(torch.zeros(1, 2, 7, 6))
    model = spiking(net, 2, 7, 6, neuron=neuron)
    per_group = 8 // geometry.get("groups", 1)
    options = {"stride": 1, "padding": 0, "dilation": 1} | geometry
    kernel = (geometry["kernel_size"],) * 2
    fan_out = by_loops((7, 6), kernel, options["stride"], options["padding"], options["dilation"], per_group)
    found = counted(model)
    conv_layer = layer(found, "conv2d", 1)
    assert conv_layer.synaptic_operations == pytest.approx(
        walk(model, "1", lambda place: fan_out[place[1:]]), rel=1e-12
    )
    assert conv_layer.connections == 4 * fan_out.sum()
    assert conv_layer.from_shapes == F.conv2d(torch.zeros(1, 4, 7, 6), conv.weight, None, *_rest(conv)).numel() * (
        conv.weight[0].numel()
    )
    assert layer(found, "linear").synaptic_operations == pytest.approx(walk(model, "3", lambda place: 3))
    assert found.spikes == pytest.approx(sum(times for *_, times in every_spike(model)) / IMAGES)
    assert layer(found, "conv2d").synaptic_operations == 0
    image = layer(found, "conv2d")
    assert (image.analog, image.analog_once) == (STEPS * 2 * 4 * 42, 2 * 4 * 42)


def _rest(conv: nn.Conv2d) -> tuple[Any, ...]:
    return conv.stride, conv.padding, conv.dilation, conv.groups


class Crossing(nn.Module):
    """Moves of every kind between neurons and weights: a skip, a concatenation, slices, padding, copies, scaling."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(6, 3, 3)
        self.scale = nn.Parameter(torch.rand(1, 6, 1, 1) + 0.5)

    def between(self, x: Tensor, y: Tensor) -> Tensor:
        both = torch.cat([x[:, 1:3], y - x], 1) * self.scale
        return F.interpolate(F.pad(both.flip(2), (0, 0, 1, 2), "reflect"), scale_factor=2) / 3

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        y = torch.relu(self.b(x) + x)
        return torch.relu(self.c(self.between(x, y))).flatten(1)


@pytest.mark.parametrize("neuron", ["if", "two-phase"])
def test_a_spike_is_followed_through_all_that_only_moves_it(neuron: str) -> None:
    torch.manual_seed(0)
    net = Crossing()
    model = spiking(net, 2, 5, 5, neuron=neuron)
    found, nothing = counted(model), torch.zeros(1, 4, 5, 5)
    sizes = by_loops(net.between(nothing, nothing).shape[2:], (3, 3), 1, 0, 1, 3)

    def entering(between: Callable[[Tensor], Tensor]) -> Callable[[tuple[int, ...]], int]:
        def count(place: tuple[int, ...]) -> int:
            x = torch.zeros(1, 4, 5, 5)
            x[(0, *place)] = 1
            return sum(int(sizes[tuple(at)]) for at in between(x).nonzero()[:, 2:].tolist())

        return count

    with torch.no_grad():
        expected = walk(model, "relu", entering(lambda x: net.between(x, nothing)))
        expected += walk(model, "relu#2", entering(lambda y: net.between(nothing, y)))
    assert layer(found, "conv2d", 2).synaptic_operations == pytest.approx(expected, rel=1e-12)
    border = by_loops((5, 5), (3, 3), 1, 1, 1, 4)
    b = walk(model, "relu", lambda place: border[place[1:]])
    assert layer(found, "conv2d", 1).synaptic_operations == pytest.approx(b, rel=1e-12)
    skipped = walk(model, "relu", lambda place: 1)  # the current of the skip, not the sum
    assert layer(found, "identity").synaptic_operations == pytest.approx(skipped, rel=1e-12)


def pooled() -> nn.Sequential:
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7))
    return nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), head)


def test_behind_a_pool_values_are_graded() -> None:
    model = spiking(pooled(), 2, 6, 6)
    found = counted(model)
    pool, conv, head = layer(found, "avg_pool2d"), layer(found, "conv2d", 1), layer(found, "linear")
    assert pool.synaptic_operations == pytest.approx(walk(model, "1", lambda place: 1))
    assert (conv.synaptic_operations, conv.analog, conv.analog_once) == (
        0,
        STEPS * conv.connections,
        STEPS * conv.connections,
    )
    assert conv.connections == 4 * by_loops((3, 3), (3, 3), 1, 1, 1, 5).sum()
    assert (head.analog, head.analog_once) == (STEPS * 35, 35)  # logits need the sum of a window only
    twin = layer(counted(spiking(pooled(), 2, 6, 6, neuron="two-phase")), "conv2d", 1)
    assert (twin.analog, twin.analog_once) == (STEPS * conv.connections, conv.connections)


def test_a_folded_pool_gives_its_spikes_the_fan_out_behind_it() -> None:
    net = pooled()
    model = spiking(net, 2, 6, 6)
    found = counted(model, fold_pools=True)
    folded = changed(lambda x: net[3].double()(net[2](x)), (4, 6, 6))
    expected = walk(model, "1", folded)
    net.float()
    assert layer(found, "conv2d", 1).synaptic_operations == pytest.approx(expected, rel=1e-12)
    assert layer(found, "linear").synaptic_operations == pytest.approx(walk(model, "4", lambda place: 7))
    assert layer(found, "avg_pool2d").synaptic_operations == 0
    assert found.macs() == layer(found, "conv2d").analog
    plain = counted(model)
    assert (found.ann_macs, found.ann_additions) == (plain.ann_macs, plain.ann_additions)


def test_no_spike_no_operation() -> None:
    found = counted(spiking(Crossing(), 2, 5, 5, theta=1e6))
    assert (found.spikes, found.synaptic_operations, {site.rate for site in found.sites}) == (0, 0, {0})
    assert found.macs() == STEPS * 2 * 4 * 25
    assert found.updates == 3 * 0 + STEPS * sum(site.neurons for site in found.sites)


def test_all_neurons_at_every_step_cost_the_ann_times_t() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    for part in net:
        if hasattr(part, "bias"):
            nn.init.constant_(part.bias, 1e3)
    found = counted(spiking(net, 2, 5, 5))
    assert [site.rate for site in found.sites] == [1, 1]
    for one in found.layers[1:]:
        assert one.synaptic_operations == STEPS * one.from_shapes == STEPS * one.connections
    assert found.ann_macs == 200 + 4 * 6 * 9 * 4 + 24 * 3


def test_bursts_and_spikes_of_both_signs_count_one_by_one() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 5), nn.GELU(), nn.Linear(5, 3))
    model = spiking(net, 6, neuron="two-phase", theta=0.1, burst=4)
    signs = model.activity(images(model))
    assert any(bool((counts < 0).any()) for counts in signs.values())
    assert any(int(counts.max()) > STEPS for counts in signs.values())
    found = counted(model)
    for number, site in enumerate(found.sites):
        assert site.spikes == pytest.approx(walk(model, site.name, lambda place: 1))
        assert layer(found, "linear", number + 1).synaptic_operations == pytest.approx(site.spikes * (5, 3)[number])
    assert {site.updates for site in found.sites} == {8 * 2 * STEPS, 5 * (STEPS + 1)}  # taken at the close


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = torch.relu(self.qkv(x)).chunk(3, -1)
        return self.out(torch.softmax(q @ k.transpose(1, 2), -1) @ v)[:, 0]


def test_products_of_signals_are_macs_once_a_window() -> None:
    found = counted(spiking(Attention(), 5, 4, neuron="two-phase"))
    products = [one for one in found.layers if one.operation == "matmul"]
    assert [(one.analog, one.connections) for one in products] == [(5 * 5 * 4,) * 2] * 2
    assert found.ann_macs == 5 * 4 * 12 + 2 * 100 + 5 * 4 * 2


@pytest.mark.parametrize("neuron", ["if", "two-phase", "tpp"])
def test_batches_seeds_and_json(neuron: str) -> None:
    model = spiking(pooled(), 2, 6, 6, neuron=neuron, theta=0.3)
    x = images(model)
    whole = operations(model, [(x, torch.zeros(IMAGES), torch.arange(IMAGES))], seed=5)
    assert whole == counted(model, seed=5)
    assert model.seed == 0
    assert (whole == replaced(counted(model), seed=5)) == (neuron != "tpp")
    document = json.loads(json.dumps(whole.as_json()))
    assert document["synaptic_operations"] == sum(one["synaptic_operations"] for one in document["layers"])
    assert document["ann"]["macs"] == whole.ann_macs
    assert whole.updates == sum(site.neurons for site in whole.sites) * STEPS * (1 if neuron == "if" else 2)
    with pytest.raises(DataRefused, match="expected images"):
        operations(model, [])


def test_a_process_without_batches_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = spiking(pooled(), 2, 6, 6)
    alone = counted(model)
    monkeypatch.setattr(processes, "gather", lambda work: [(0, {}), work()])
    assert counted(model) == alone


def replaced(found: Operations, seed: int) -> Operations:
    return Operations(**(vars(found) | {"seed": seed}))
