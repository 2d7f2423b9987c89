"""`albsnn`: binarised weights, the estimators, the choice of layers, and turned signs."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.artifact import load, save
from snnconvert.converter.errors import ModelRefused, UsageError
from snnconvert.model_zoo.baselines.albsnn import Albsnn, LocalBinarisation, Selection, binarised, chosen
from snnconvert.model_zoo.baselines.method import Epoch
from snnconvert.model_zoo.baselines.mt_lif import MultiThresholdLif
from snnconvert.model_zoo.baselines.trainee import Trainee
from snnconvert.model_zoo.baselines.trainer import Images, Plan, Trainer

INNER = ["b.weight", "side.weight", "c.weight"]


def test_weights_have_one_magnitude_per_output_channel() -> None:
    weight = torch.tensor([[[[1.0, -2.0]], [[0.0, 5.0]]], [[[-0.5, 0.5]], [[0.25, -0.25]]]])
    assert binarised(weight).tolist() == [[[[2, -2]], [[2, 2]]], [[[-0.375, 0.375]], [[0.375, -0.375]]]]


def test_the_gradient_goes_straight_through() -> None:
    layer, weight, slope = LocalBinarisation(), torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    for on in (False, True):
        layer.on.fill_(on)
        found = layer(weight)
        assert torch.allclose(found, binarised(weight) if on else weight)
        (gradient,) = torch.autograd.grad((found * slope).sum(), weight)
        assert torch.equal(gradient, slope)


def test_estimators_are_averages_of_numpys() -> None:
    layer, rng = LocalBinarisation(), np.random.default_rng(0)
    first = second = 0.0
    for _ in range(3):
        w, g = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 3))
        alpha = np.abs(w).mean((1, 2), keepdims=True)
        change = alpha * np.where(w >= 0, 1, -1) - w
        first = 0.9 * first + 0.1 * (change**2).sum() / (w**2).sum()
        second = 0.9 * second + 0.1 * abs((g * change).sum())
        layer.estimate(torch.from_numpy(w).float(), torch.from_numpy(g).float())
    assert float(layer.weight_error) == pytest.approx(first, rel=1e-5)
    assert float(layer.loss_change) == pytest.approx(second, rel=1e-5)


def test_layers_are_chosen_by_what_a_weight_costs() -> None:
    estimates, sizes = {"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 300, "b": 20, "c": 40}  # per weight: a, c, b
    assert chosen(estimates, sizes, 2.9) == set()
    assert chosen(estimates, sizes, 3.0) == {"a"}
    assert chosen(estimates, sizes, 4.5) == {"a", "c"}
    assert chosen(estimates, sizes, math.inf) == {"a", "b", "c"}
    assert chosen(dict.fromkeys("ab", 0.0), {"a": 1, "b": 1}, 0.0) == set()


def selection(net: nn.Module, images: Tensor, **settings: Any) -> Selection:
    return Trainee(net, images[:2], Albsnn(**settings), 2).rule  # type: ignore[return-value]


def told(rule: Selection, progress: float, top1: float, loss: float = 1.0) -> dict[str, bool]:
    """Return which layers are binarised after an epoch that went so."""
    found = rule.after_epoch(Epoch(progress, loss, top1), None, None)  # type: ignore[arg-type]
    return {path: layer["binary"] for path, layer in found["layers"].items()}


def test_first_and_last_layers_keep_their_precision(net: nn.Module, images: Tensor) -> None:
    assert list(selection(net, images).layers) == INNER


def test_a_first_layer_that_is_called_twice_keeps_it_too(images: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 2, 3), nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.b(self.a(self.a(x).relu()).relu()).relu().mean((2, 3)))

    assert list(selection(Twice(), images).layers) == ["b.weight"]


def test_a_network_without_inner_layers_is_refused(images: Tensor) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
    with pytest.raises(ModelRefused, match="leaves out the first and the last layer, and there are 2"):
        selection(net, images)


def test_the_budget_is_a_share_of_the_loss(net: nn.Module, images: Tensor) -> None:
    rule = selection(net, images, budget=0.5, warm_up=0.0, settle=1.0)
    for path, estimate in zip(INNER, (1.0, 2.0, 40.0), strict=True):
        rule._parts(path)[0].loss_change.fill_(estimate)  # per weight: 1 / 144, 2 / 4, 40 / 216
    assert list(told(rule, 0.5, 50.0, loss=1.9).values()) == [False, False, False]
    assert list(told(rule, 0.5, 50.0, loss=2.0).values()) == [True, False, False]
    assert list(told(rule, 0.5, 50.0, loss=82.0).values()) == [True, False, True]
    assert list(told(rule, 0.5, 50.0, loss=86.0).values()) == [True, True, True]
    assert list(told(rule, 0.5, 50.0, loss=2.0).values()) == [True, False, False]  # what no longer fits


def test_what_a_layer_cost_with_one_bit_is_remembered(net: nn.Module, images: Tensor) -> None:
    rule = selection(net, images, budget=1.0, warm_up=0.0, settle=1.0)
    layers = [rule._parts(path)[0] for path in INNER]
    assert all(told(rule, 0.5, 50.0).values())  # so far nothing costs anything
    layers[0].loss_change.fill_(100.0)
    assert list(told(rule, 0.5, 50.0).values()) == [False, True, True]
    before = [(float(layer.loss_change), float(layer.weight_error)) for layer in layers]
    for path in INNER:
        layer, weight = rule._parts(path)
        layer.estimate(weight.detach(), torch.zeros_like(weight))
    after = [(float(layer.loss_change), float(layer.weight_error)) for layer in layers]
    assert before[0] == after[0]
    assert before[2] != after[2]
    assert list(told(rule, 0.5, 50.0).values()) == [False, True, True]


def test_layers_join_between_warm_up_and_settling_and_near_the_best(net: nn.Module, images: Tensor) -> None:
    rule = selection(net, images, budget=1e9, tolerance=2.0, warm_up=0.3, settle=0.6)
    assert not any(told(rule, 0.2, 80.0).values())
    assert not any(told(rule, 0.4, 77.0).values())
    assert all(told(rule, 0.5, 78.0).values())
    assert all(told(rule, 0.55, 10.0).values())  # one that is binarised stays so
    for path in INNER:
        rule._parts(path)[0].loss_change.fill_(1e12)
    assert all(told(rule, 0.7, 80.0).values())
    assert not any(told(rule, 0.6, 80.0).values())


def test_signs_turn_after_so_many_epochs_without_a_gain(net: nn.Module, images: Tensor) -> None:
    rule = selection(net, images, budget=1e9, warm_up=0.0, settle=1.0, patience=2)
    for path in INNER:
        rule._parts(path)[1].grad = torch.ones_like(rule._parts(path)[1])
    turns = []
    for top1 in (100 / 3, 100 / 3, 100 / 3, 100 / 3, 30.0, 34.0, 34.0, 34.0):
        found = rule.after_epoch(Epoch(0.5, 1.0, top1), None, None)  # type: ignore[arg-type]
        turns.append(found["turned"])
    assert turns == [0, 0, 3, 0, 3, 0, 0, 3]  # one weight of each layer


def test_signs_that_lower_the_loss_stay(net: nn.Module, images: Tensor) -> None:
    rule = selection(net, images, budget=1e9, warm_up=0.0, settle=1.0, patience=1)
    told(rule, 0.5, 50.0)
    for path in INNER:
        weight = rule._parts(path)[1]
        weight.grad = -binarised(weight.detach())
    assert rule.after_epoch(Epoch(0.5, 1.0, 50.0), None, None)["turned"] == 0  # type: ignore[arg-type]


def test_turning_signs_lowers_the_loss_to_first_order(net: nn.Module, images: Tensor) -> None:
    method = Albsnn(budget=1e9, warm_up=0.0, settle=1.0, patience=1, leak=1.0)
    trainee = Trainee(net, images[:2], method, 2)
    rule: Selection = trainee.rule  # type: ignore[assignment]
    told(rule, 0.5, 50.0)
    F.cross_entropy(trainee(images), torch.arange(24) % 3).backward()
    before = {path: (rule._parts(path)[1].detach().clone(), rule._parts(path)[1].grad) for path in INNER}
    found = rule.after_epoch(Epoch(0.5, 1.0, 50.0), None, None)  # type: ignore[arg-type]
    turned = 0
    for path, (weight, slope) in before.items():
        after = rule._parts(path)[1].detach()
        first_order = float((slope * (binarised(after) - binarised(weight))).sum())
        count = int((after != weight).sum())
        assert count <= 1
        assert torch.equal(after.abs(), weight.abs())
        assert first_order < 0 if count else first_order == 0
        if count:
            gain = slope * binarised(weight)
            assert float(gain[after != weight]) == float(gain.max())
            assert first_order == pytest.approx(-2 * float(gain.max()), rel=1e-4)
        turned += count
    assert found["turned"] == turned > 0


def trained(net: nn.Module, images: Tensor, method: MultiThresholdLif, epochs: int = 2) -> Trainee:
    trainee, labels = Trainee(net, images[:2], method, 2), torch.arange(24) % 3
    batch = (images, labels, torch.arange(24))
    Trainer(trainee, Plan(epochs, 0.1), Images(lambda epoch: iter([batch] * 2), 2, lambda: [batch])).run()
    return trainee


def test_without_a_budget_it_is_mt_lif_bit_for_bit(net: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        net.get_parameter("b.weight")[0, 0, 0, 0] = 1.75  # a weight beyond 1 is only cut in a binarised layer
    found = []
    for method in (
        MultiThresholdLif(),
        Albsnn(budget=0.0, warm_up=0.0, settle=1.0, threshold=0.5, thresholds=4),
    ):
        start = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        found.append(trained(net, images, method).prepared().module.state_dict())
        net.load_state_dict(start)
    assert [len(each) for each in found] == [len(found[0])] * 2
    for one, other in zip(found[0].values(), found[1].values(), strict=True):
        assert torch.equal(one, other)


def test_all_inner_layers_are_binary_in_the_artefact(net: nn.Module, images: Tensor, tmp_path: Path) -> None:
    trainee = trained(net, images, Albsnn(budget=1e9, tolerance=100.0, warm_up=0.0, settle=1.0), 3)
    assert all(float(trainee.rule._parts(path)[1].detach().abs().max()) <= 1 for path in INNER)  # type: ignore[operator]
    save(tmp_path / "a.snn", trainee.spiking(), {})
    module = load(tmp_path / "a.snn")[0].ann
    kernels = [t for t in module.buffers() if t.ndim == 4]
    magnitudes = [{len(channel.abs().unique()) for channel in kernel} for kernel in kernels]
    assert sum(found == {1} for found in magnitudes) == 3
    assert len(kernels) == 4
    assert (magnitudes[0], kernels[0].shape) == ({9}, (4, 1, 3, 3))


@pytest.mark.parametrize(
    "settings",
    [
        {"budget": -1.0},
        {"budget": math.inf},
        {"tolerance": math.nan},
        {"warm_up": 0.7},
        {"settle": 1.5},
        {"patience": 0},
    ],
    ids=str,
)
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    Albsnn().check(2)
    with pytest.raises(UsageError, match="expected a finite budget and tolerance of at least 0, and 0 <= warm_up"):
        dataclasses.replace(Albsnn(), **settings).check(2)
    with pytest.raises(UsageError, match="0 < leak <= 1"):
        dataclasses.replace(Albsnn(), leak=0.0).check(2)
