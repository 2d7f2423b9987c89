"""Whether a network is tested on the images that it was made on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnconvert.converter.artifact import load, save
from snnconvert.model_zoo.named_data import SAMPLE_FILE

MODEL, DATA = "zoo:fashion-resnet8", "fashion-mnist-sample"
Run = Callable[..., Any]


def write(path: Path, part: str, count: int = 20) -> Path:
    with np.load(SAMPLE_FILE) as file:
        np.savez(path, images=file[f"{part}_images"][:count], labels=file[f"{part}_labels"][:count])
    return path


@pytest.fixture(scope="module")
def calibrated(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was calibrated on ten images of ``mine.npz`` beside it."""
    path = tmp_path_factory.mktemp("calibrated") / "mine.snn"
    recipe = ["--recipe", "thresholds", "-T", 1, "--data", write(path.with_name("mine.npz"), "train"), "--images", 10]
    result = run("convert", MODEL, *recipe, "-o", path)
    assert result.code == 0, result.stderr
    return path


def warned(run: Run, artefact: Path, data: object, *flags: object) -> list[str]:
    """Return the warnings of an evaluation."""
    result = run("eval", artefact, "--data", data, "--seeds", 1, "--quiet", *flags)
    assert result.code == 0, result.stderr
    return [line.removeprefix("warning: ") for line in result.stderr.splitlines()]


def test_the_images_of_the_calibration_are_a_warning(run: Run, calibrated: Path, tmp_path: Path) -> None:
    mine = calibrated.with_name("mine.npz")
    said = (
        f"mine.snn was calibrated on images of {mine}, so its accuracy there is not that on images it has not seen; "
        "name others with --data"
    )
    assert warned(run, calibrated, mine) == [said]
    assert warned(run, calibrated, mine, "--images", 5, "--csv", tmp_path / "rows.csv") == [said]


def test_a_copy_has_the_same_images(run: Run, calibrated: Path, tmp_path: Path) -> None:
    copy = shutil.copy(calibrated.with_name("mine.npz"), tmp_path / "copy.npz")
    (said,) = warned(run, calibrated, copy)
    assert f"on images of {copy}, so" in said


def test_other_images_are_none(run: Run, calibrated: Path, tmp_path: Path) -> None:
    assert warned(run, calibrated, DATA, "--images", 20) == []
    assert warned(run, calibrated, write(tmp_path / "mine.npz", "test")) == []
    moved = shutil.copy(calibrated, tmp_path / "mine.snn")
    mine = write(calibrated.with_name("mine.npz"), "test")
    try:
        assert warned(run, Path(moved), mine) == [], "the name is the same, the images are not"
    finally:
        write(mine, "train")


@pytest.mark.parametrize(
    ("made", "same"),
    [
        ({"data": "mine.npz", "split": ""}, True),
        ({"data": "else/../mine.npz", "split": ""}, True),
        ({"data": "else/mine.npz", "split": ""}, False),
        ({"data": "mine.npz"}, False),
        ({"data": 3, "split": ""}, False),
        ({}, False),
    ],
)
def test_without_a_digest_the_name_tells(
    run: Run, direct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: dict[str, Any], same: bool
) -> None:
    model, about = load(direct)
    save(tmp_path / "old.snn", model, about | {"training": made})
    write(tmp_path / "mine.npz", "train")
    monkeypatch.chdir(tmp_path)
    said = "old.snn was trained on images of mine.npz, so its accuracy there is not that on images it has not seen"
    assert warned(run, Path("old.snn"), "mine.npz") == [f"{said}; name others with --data"] * same


@pytest.mark.parametrize(("split", "same"), [("train", False), ("test", True)])
def test_parts_of_a_data_set_that_has_a_name_differ(
    run: Run, direct: Path, tmp_path: Path, split: str, same: bool
) -> None:
    model, about = load(direct)
    save(tmp_path / "old.snn", model, about | {"training": {"data": DATA, "split": split}})
    assert len(warned(run, tmp_path / "old.snn", DATA, "--images", 10)) == same


def test_thresholds_without_images_saw_none(run: Run, tmp_path: Path) -> None:
    assert run("convert", MODEL, "-T", 1, "-o", tmp_path / "x.snn", "--quiet").code == 0
    assert warned(run, tmp_path / "x.snn", write(tmp_path / "mine.npz", "train")) == []
