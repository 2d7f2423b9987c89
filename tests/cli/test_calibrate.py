from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnconvert.calibration import Calibration
from snnconvert.model_zoo import load_model, open_dataset

MODEL, DATA = "zoo:fashion-resnet8", "fashion-mnist-sample"


def test_a_calibration_of_chosen_images(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("calibrate", MODEL, "--data", DATA, "--images", 30, "--seed", 2, "--batch-size", 7, "--json")
    assert result.code == 0, result.stderr
    found = result.document
    assert found["calibration"] == "fashion-resnet8.calib"
    assert found["images"] == 30
    assert 0 < found["about"].pop("seconds") < found["seconds"]
    digest = open_dataset(DATA, split="train", preprocessing=load_model(MODEL).preprocessing).digest()
    assert found["about"] == {"data": DATA, "split": "train", "digest": digest, "seed": 2}
    stored = Calibration.load(Path("fashion-resnet8.calib"))
    assert (stored.images, stored.sha256) == (30, found["sha256"])
    again = run("calibrate", MODEL, "--data", DATA, "--images", 30, "--seed", 2, "-o", "other.calib", "--json").document
    assert again["sha256"] == found["sha256"], "the batch size must not matter"


def test_a_calibration_serves_every_t(run: Callable[..., Any], calibration: Path, tmp_path: Path) -> None:
    for steps in (1, 16):
        result = run("convert", MODEL, "-T", steps, "--calibration", calibration, "-o", tmp_path / f"{steps}.snn")
        assert result.code == 0, result.stderr


def test_fewer_images_than_asked_is_a_warning(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("calibrate", MODEL, "--data", DATA, "--images", 1001, "-o", tmp_path / "x.calib", "--quiet")
    assert result.code == 0
    assert "warning: " in result.stderr
    assert "1001" in result.stderr


def test_data_is_required(run: Callable[..., Any]) -> None:
    result = run("calibrate", MODEL)
    assert result.code == 2
    assert "Missing option '--data'" in result.stderr


def test_named_data_from_a_folder_of_the_users_own(run: Callable[..., Any], tmp_path: Path) -> None:
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", np.arange(40, dtype=np.uint8) % 10)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
    words = ["calibrate", MODEL, "--data", "fashion-mnist", "--data-dir", tmp_path / "data", "--images", 40]
    result = run(*words, "-o", tmp_path / "x.calib", "--json")
    assert result.code == 0, result.stderr
    assert result.document["images"] == 40
