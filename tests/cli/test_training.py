"""Settings of a method as words, and the images of a course of training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from snnconvert.cli import training
from snnconvert.cli.output import Output
from snnconvert.converter.errors import DataRefused, UsageError
from snnconvert.model_zoo import open_dataset
from snnconvert.model_zoo.baselines import METHODS
from snnconvert.model_zoo.baselines.lif import Lif
from snnconvert.model_zoo.baselines.trainer import Plan


def test_settings_are_read_as_what_they_are() -> None:
    words = ["leak=0.25", "hard_reset=TRUE", "surrogate=mt-ste", "threshold=1e-1"]
    assert training.method("lif", words, 4) == Lif(leak=0.25, threshold=0.1, surrogate="mt-ste", hard_reset=True)
    assert training.method("lif", ["leak=0.25", "leak=0.75"], 4).leak == 0.75  # type: ignore[attr-defined]
    assert training.method("mt-lif", ["thresholds=3"], 4).thresholds == 3  # type: ignore[attr-defined]
    assert {name: training.method(name, [], 4) for name in METHODS} == {n: kind() for n, kind in METHODS.items()}


@pytest.mark.parametrize(
    ("name", "words", "message", "hint"),
    [
        ("liff", [], "unknown method 'liff'", "did you mean 'lif'?"),
        ("lif", ["leak"], "with a setting of lif, got 'leak'", "it has leak=0.5, threshold=1.0, surrogate=arctangent"),
        ("lif", ["thresholds=3"], "with a setting of lif, got 'thresholds=3'", "it has leak=0.5"),
        ("ann", ["leak=1"], "with a setting of ann, got 'leak=1'", "it has none"),
        ("lif", ["leak=half"], "expected --set leak= a float, got 'half'", None),
        ("lif", ["leak="], "expected --set leak= a float, got ''", None),
        ("lif", ["hard_reset=1"], "expected --set hard_reset= a bool, got '1'", None),
        ("mt-lif", ["thresholds=2.5"], "expected --set thresholds= a int, got '2.5'", None),
        ("lif", ["leak=nan"], "expected 0 < leak <= 1", None),
        ("dsr", ["neurons=alif"], "unknown kind of neurons 'alif'", None),
    ],
)
def test_settings_that_are_wrong(name: str, words: list[str], message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        training.method(name, words, 4)
    assert message in str(caught.value.message)
    assert hint is None or str(caught.value.hint).startswith(hint)


def course(**changes: Any) -> training.Course:
    words: dict[str, Any] = {
        "arch": "fashion-resnet8",
        "steps": 2,
        "data": "fashion-mnist-sample",
        "root": None,
        "images": 70,
        "validation": None,
        "batch_size": 16,
        "workers": None,
        "mixed": False,
        "device": torch.device("cpu"),
    }
    plan = changes.pop("plan", Plan(seed=3))
    return training.open_course(Output(quiet=True), METHODS["slssnn"](), plan, **words | changes)


def positions(batches: Any) -> list[int]:
    return [int(p) for _, _, part in batches for p in part]


def test_validation_and_training_images_are_disjoint_and_cover_everything() -> None:
    found = course(validation=9)
    validation = positions(found.images.validation())
    epochs = [positions(found.images.training(epoch)) for epoch in (0, 1, 2, 1)]
    assert (len(validation), [len(epoch) for epoch in epochs]) == (9, [61] * 4)
    assert found.counts == (61, 9)
    assert len({*validation, *epochs[0]}) == 70
    assert {tuple(sorted(epoch)) for epoch in epochs} == {tuple(sorted(epochs[0]))}
    assert epochs[1] == epochs[3]
    assert epochs[0] != epochs[1] != epochs[2]
    assert found.images.batches == len(list(found.images.training(0))) == 4
    other = course(validation=9, plan=Plan(seed=4))
    assert positions(other.images.validation()) != validation
    whole = course(images=None)
    everything = positions(whole.images.validation()) + positions(whole.images.training(1))
    assert sorted(everything) == list(range(whole.data.count))
    assert len(positions(whole.images.validation())) == whole.data.count // 10


def test_the_test_images_are_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = []

    def noted(name: str, *, split: str, **rest: Any) -> Any:
        splits.append(split)
        return open_dataset(name, split=split, **rest)

    monkeypatch.setattr(training, "open_dataset", noted)
    course()
    assert splits == ["train"]


def test_black_fills_what_is_shifted_in() -> None:
    found = course()
    (fill,) = found.plan.fill
    image = next(found.data.batches(1))[0]
    assert fill == pytest.approx((0 - 0.2860) / 0.3530)
    assert fill == pytest.approx(float(image.min()))


def test_the_seed_draws_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        return next(course(plan=Plan(seed=seed)).model.parameters()).detach()

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 70}, "70 images for validation leave 0 of 70 to train on"),
        ({"validation": 71}, "71 images for validation leave -1 of 70 to train on"),
        ({"images": 9}, "0 images for validation leave 9 of 9 to train on"),
    ],
)
def test_too_few_images(changes: dict[str, int], message: str) -> None:
    with pytest.raises(DataRefused, match=message) as caught:
        course(**changes)
    assert caught.value.hint == "change --validation"


def test_what_an_output_may_overwrite(tmp_path: Path) -> None:
    mine = tmp_path / "a.snn"
    mine.write_text("my notes")
    with pytest.raises(UsageError, match="exists already"):
        training.destination_of(mine, METHODS["lif"](), "x", 4, False)
    weights = tmp_path / "a.safetensors"
    weights.write_text("my notes")
    for name, path in (("lif", mine), ("ann", weights)):
        with pytest.raises(Exception, match="is not an earlier output"):
            training.destination_of(path, METHODS[name](), "x", 4, True)
        with pytest.raises(UsageError, match=f"{name} writes a .* file, got -o "):
            training.destination_of(tmp_path / "a.txt", METHODS[name](), "x", 4, True)
    assert training.destination_of(None, METHODS["mt-lif"](), "zoo:net", 4, False) == Path("net-mt-lif-T4.snn")
    assert training.destination_of(None, METHODS["ann"](), "zoo:net", 4, False) == Path("net-ann.safetensors")
