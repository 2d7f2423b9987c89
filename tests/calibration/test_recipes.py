"""Recipes survive TOML, and wrong ones are refused by name."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from snnconvert.calibration import RECIPES, Recipe, find_recipe, to_toml
from snnconvert.calibration.recipes import from_document, to_document
from snnconvert.calibration.settings import Settings
from snnconvert.converter.errors import UsageError

LEARNING = Recipe("mine", corrections=("bias",), reconstruction=Settings(iterations=4), augment=("flip",))


@pytest.mark.parametrize(
    "recipe",
    [
        *RECIPES.values(),
        LEARNING,
        replace(LEARNING, rule="percentile", percentile=99.0),
        replace(LEARNING, mixed_steps=1.5),
    ],
)
def test_toml_keeps_a_recipe(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe))
    assert find_recipe(str(path)) == recipe
    assert from_document(to_document(recipe), "here") == recipe


def test_names_are_those_of_the_recipes() -> None:
    assert all(find_recipe(name).name == name for name in RECIPES)
    assert set(RECIPES) == {"thresholds", "fast", "balanced", "best"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule = 'mean'", "unknown rule 'mean'"),
        ("ruel = 'mse'", r"(?s)unknown entry 'ruel'.*did you mean 'rule'"),
        ("images = 0", "images must be a whole number above 0, got 0"),
        ("images = 'many'", "images is a whole number such as 1000, got 'many'"),
        ("corrections = ['bais']", "unknown correction 'bais'"),
        ("corrections = 'bias'", r"corrections is a list of names such as \[\], got 'bias'"),
        ("augment = ['mirror']", "unknown augmentation 'mirror'"),
        ("percentile = 'high'", "percentile is a number such as 99.9, got 'high'"),
        ("mixed_steps = 0.5", "mixed steps are allowed so many times the spikes, 1 or more, got 0.5"),
        ("mixed_steps = inf", "1 or more, got inf"),
        ("mixed_steps = nan", "1 or more, got nan"),
        ("mixed_steps = 'many'", "mixed_steps is a number such as 1.0, got 'many'"),
        ("[reconstruction]\nscope = 'all'", "unknown scope 'all'"),
        ("[reconstruction]\nlearn = ['wieght']", "unknown thing to learn 'wieght'"),
        ("percentile = 99.0", "percentile is for rule 'percentile', got rule 'mse'"),
        ("[reconstruction]\nmixed = 'no'", "mixed is true or false, such as True, got 'no'"),
        ("[reconstruction]\nhint = 'big'", "hint is a number such as 0.0, got 'big'"),
        ("[reconstruction]\niterations = 0", "expected at least one iteration"),
        ("[reconstruction]\niteration = 5", "unknown entry 'iteration'"),
        ("reconstruction = 5", "expected a table of scope"),
        ("rule = ", "cannot read the recipe"),
    ],
)
def test_a_wrong_recipe_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as refused:
        find_recipe(str(path))
    assert "wrong.toml" in str(refused.value)


def test_unknown_names_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown recipe 'bets': expected one of thresholds"):
        find_recipe("bets")
    with pytest.raises(UsageError, match=r"cannot read the recipe .*none.toml: No such file"):
        find_recipe(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("budget", [0.0, 0.999, -1.0, math.nan, math.inf])
def test_a_budget_is_a_number_of_at_least_one(budget: float) -> None:
    Recipe(mixed_steps=1).check()
    with pytest.raises(UsageError, match="mixed steps are allowed so many times the spikes, 1 or more"):
        Recipe(mixed_steps=budget).check()


def test_images_are_needed_for_more_than_thresholds() -> None:
    needs = {name: recipe.needs_images for name, recipe in RECIPES.items()}
    assert needs == {"thresholds": False, "fast": True, "balanced": True, "best": True}
    assert Recipe(mixed_steps=1.25).needs_images


def test_the_percentile_is_the_stated_or_the_usual_one() -> None:
    assert Recipe().percent == 99.9
    assert Recipe(rule="percentile", percentile=98.0).percent == 98.0
