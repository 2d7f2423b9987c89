"""Which recipe a request comes to: what is named, with what is stated instead."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snnconvert.calibration import Calibration
from snnconvert.cli.conversion import method
from snnconvert.cli.settings import Request
from snnconvert.converter.errors import UsageError


def test_the_data_decide_where_nothing_is_named() -> None:
    assert method(Request(), data=True).name == "balanced"
    assert method(Request(), data=False).name == "thresholds"


def test_what_is_stated_replaces_what_the_recipe_says(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nrule = "percentile"\npercentile = 97.0\nmixed_steps = 2.0\n')
    mine = Request(recipe=str(path))
    assert method(mine, data=True).percentile == 97.0
    assert method(Request(recipe=str(path), percentile=90.0), data=True).percentile == 90.0
    assert method(Request(recipe=str(path), rule="percentile"), data=True).percentile == 97.0
    changed = method(Request(recipe=str(path), rule="max", per="layer", mixed_steps=1.5), data=True)
    assert (changed.rule, changed.per, changed.mixed_steps, changed.percentile) == ("max", "layer", 1.5, None)


def test_the_percentile_used_is_recorded() -> None:
    assert method(Request(rule="percentile"), data=True).percentile == 99.9
    assert method(Request(rule="percentile", percentile=90.0), data=True).percentile == 90.0
    assert method(Request(), data=True).percentile is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"percentile": 99.0}, "--percentile has no meaning without --rule percentile"),
        ({"percentile": 99.0, "recipe": "fast"}, "--percentile has no meaning without --rule percentile"),
        ({"mixed_steps": 1.5, "shuffle": "shared"}, "mixed steps let sites fire bursts\nhint: drop one"),
        ({"recipe": "fastest"}, "unknown recipe 'fastest'"),
        ({"neuron": "lif"}, "unknown neuron 'lif'"),
    ],
)
def test_contradictions(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        method(Request(**asked), data=True)


@pytest.mark.parametrize("asked", [{"recipe": "fast"}, {"mixed_steps": 2.0}])
def test_what_looks_at_images_needs_some(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="looks at training images, and none are given"):
        method(Request(**asked), data=False)


def test_the_time_that_a_conversion_took_is_recorded(run: Callable[..., Any], tmp_path: Path) -> None:
    words = ["convert", "zoo:fashion-resnet8", "--recipe", "thresholds", "-T", 1, "--json", "-o"]
    learnt = run(*words, tmp_path / "a.snn", "--data", "fashion-mnist-sample", "--images", 20).document
    assert 0 < learnt["calibration"]["seconds"] < learnt["seconds"]


def test_the_time_of_a_calibration_counts(run: Callable[..., Any], calibration: Path, tmp_path: Path) -> None:
    stored = Calibration.load(calibration)
    assert 0 < stored.about["seconds"] < 600
    words = ["convert", "zoo:fashion-resnet8", "-T", 1, "--json", "-o"]
    found = run(*words, tmp_path / "a.snn", "--calibration", calibration).document
    own = found["calibration"]["seconds"] - stored.about["seconds"]
    assert 0 < own < found["seconds"]
    del stored.about["seconds"]  # as in a file of an earlier version
    stored.save(tmp_path / "old.calib")
    silent = run(*words, tmp_path / "b.snn", "--calibration", tmp_path / "old.calib").document
    assert "seconds" not in silent["calibration"], "the file does not say how long its calibration took"
