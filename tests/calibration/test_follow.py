"""Following a recipe is taking its steps one after the other."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration import RECIPES, Recipe, calibrate, first, follow, observe
from snnconvert.calibration.bias import bias
from snnconvert.calibration.bursts import with_bursts
from snnconvert.calibration.reconstruction import reconstruct
from snnconvert.calibration.settings import Settings
from snnconvert.calibration.side_by_side import correct
from snnconvert.converter.errors import CalibrationRefused, UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.thresholds import Thresholds


@pytest.fixture(scope="module")
def graph() -> PreparedGraph:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    return prepare(nn.Sequential(*layers).eval(), torch.randn(2, 1, 8, 8))


@pytest.fixture(scope="module")
def batches() -> tuple[Tensor, ...]:
    return torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(1)).split(8)


LEARNING = Recipe("mine", corrections=("bias",), reconstruction=Settings(iterations=4), augment=("flip",))


def same(one: Thresholds, other: Thresholds) -> bool:
    """Return whether thresholds, corrections and weights are equal."""
    tensors = [
        [*t.values.values(), *t.weights.values(), *(v for c in t.corrections.values() for v in c if v is not None)]
        for t in (one, other)
    ]
    return len(tensors[0]) == len(tensors[1]) and all(map(torch.equal, *tensors))


def test_a_recipe_is_its_steps(graph: PreparedGraph, batches: Any) -> None:
    recipe = replace(LEARNING, augment=())
    found = calibrate(graph, batches, steps=4, recipe=recipe, neuron="two-phase")
    by_hand = observe(graph, batches).thresholds(graph, steps=4)
    by_hand = correct(graph, by_hand, batches, bias, name="bias", neuron="two-phase")
    by_hand = reconstruct(graph, by_hand, lambda epoch: batches, neuron="two-phase", settings=Settings(iterations=4))
    assert same(found, by_hand)
    assert [step["name"] for step in found.source["corrections"]] == ["bias", "reconstruction"]
    assert found.neuron == "two-phase"


def test_augmentation_changes_what_is_learned_and_repeats(graph: PreparedGraph, batches: Any) -> None:
    plain, one, again, other = (
        calibrate(graph, batches, steps=4, recipe=replace(LEARNING, augment=a), neuron="two-phase", seed=seed)
        for a, seed in (((), 0), (("flip",), 0), (("flip",), 0), (("flip",), 1))
    )
    assert same(one, again)
    assert not same(one, plain)
    assert not same(one, other)


def test_corrections_are_left_out_where_they_are_for_other_neurons(graph: PreparedGraph, batches: Any) -> None:
    recipe = Recipe("both", corrections=("bias", "ftbc", "da-qcfs"))
    names = {
        neuron: [
            s["name"] for s in calibrate(graph, batches, steps=4, recipe=recipe, neuron=neuron).source["corrections"]
        ]
        for neuron in ("if", "two-phase", "tpp")
    }
    assert names == {"if": ["bias", "ftbc"], "two-phase": ["bias", "da-qcfs"], "tpp": ["bias"]}


def test_corrections_see_as_many_images_as_the_recipe_says(graph: PreparedGraph, batches: Any) -> None:
    recipe = Recipe("few", corrections=("bias",), correction_images=10)
    found = calibrate(graph, batches, steps=4, recipe=recipe, neuron="tpp")
    assert found.source["corrections"] == [{"name": "bias", "images": 10}]
    assert [len(x) for (x,) in first(batches, 10)] == [8, 2]
    assert [len(x) for (x,) in first(batches, 8)] == [8]


def test_thresholds_need_no_neuron_and_one_pass(graph: PreparedGraph, batches: Any) -> None:
    found = calibrate(graph, iter(batches), steps=4, rule="max", per="layer")
    assert (found.rule, found.per, found.neuron, found.corrections) == ("max", "layer", None, {})


def test_what_a_recipe_needs_is_asked_for(graph: PreparedGraph, batches: Any) -> None:
    with pytest.raises(UsageError, match="recipe 'fast' corrects neurons\nhint: name them: neuron=if or two-phase"):
        calibrate(graph, batches, steps=4, recipe="fast")
    with pytest.raises(CalibrationRefused, match="reads the images several times, and these can be read once"):
        calibrate(graph, iter(batches), steps=4, recipe="fast", neuron="tpp")
    with pytest.raises(UsageError, match="unknown neuron 'lif'"):
        follow(RECIPES["fast"], graph, observe(graph, batches), lambda epoch: batches, neuron="lif", steps=4)


def test_bursts_come_before_corrections_and_learning(graph: PreparedGraph, batches: Any) -> None:
    recipe = replace(LEARNING, augment=(), mixed_steps=2.0)
    found = calibrate(graph, batches, steps=2, recipe=recipe, neuron="two-phase")
    observed = observe(graph, batches)

    def plain(window: int) -> Thresholds:
        return observed.thresholds(graph, steps=window)

    by_hand = with_bursts(graph, plain(2), batches, plain, neuron="two-phase", budget=2.0)
    assert by_hand.bursts
    by_hand = correct(graph, by_hand, batches, bias, name="bias", neuron="two-phase")
    by_hand = reconstruct(graph, by_hand, lambda epoch: batches, neuron="two-phase", settings=Settings(iterations=4))
    assert same(found, by_hand)
    assert found.bursts == by_hand.bursts == found.source["mixed_steps"]["bursts"]
    assert [step["name"] for step in found.source["corrections"]] == ["bias", "reconstruction"]


def test_bursts_need_images_and_a_neuron_even_without_corrections(graph: PreparedGraph, batches: Any) -> None:
    recipe = Recipe("mixed", mixed_steps=2.0)
    with pytest.raises(UsageError, match="recipe 'mixed' corrects neurons\nhint: name them"):
        calibrate(graph, batches, steps=2, recipe=recipe)
    found = calibrate(graph, batches, steps=2, recipe=recipe, neuron="if", rule="max")
    assert (found.steps, found.source["mixed_steps"]["images"]) == (2, 24)
    plain = calibrate(graph, batches, steps=2, rule="max")
    assert plain.steps is None  # thresholds are for any window, bursts for one
    assert plain.bursts == {}


def test_bursts_look_at_a_hundred_images(graph: PreparedGraph) -> None:
    images = torch.randn(130, 1, 8, 8, generator=torch.Generator().manual_seed(3)).split(60)
    found = calibrate(graph, images, steps=2, recipe=Recipe(mixed_steps=2.0), neuron="two-phase")
    assert found.source["mixed_steps"]["images"] == 100
