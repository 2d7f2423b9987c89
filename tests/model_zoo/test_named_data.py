import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnconvert.converter.errors import DataRefused, UsageError
from snnconvert.model_zoo import named_data
from snnconvert.model_zoo.libraries import torchvision
from snnconvert.model_zoo.named_data import DEBIAN, default_root, read_named

ONE_OF_EACH = np.arange(10, dtype=np.uint8)


def write_idx(folder: Path, part: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(10 * 28 * 28).astype(np.uint8).tobytes()
    (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, 10, 28, 28) + pixels)
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 10) + ONE_OF_EACH.tobytes())


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> None:
        print("trying a mirror")
        raise OSError("no route to host")

    datasets = torchvision().datasets
    for name in ("MNIST", "CIFAR10"):
        monkeypatch.setattr(getattr(datasets, name), "download", fail)
    monkeypatch.setattr(named_data, "DEBIAN", tmp_path / "absent")


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
@pytest.mark.parametrize(("split", "part"), [("train", "train"), ("test", "t10k")])
@pytest.mark.usefixtures("offline")
def test_reads_what_torchvision_keeps(tmp_path: Path, name: str, folder: str, split: str, part: str) -> None:
    write_idx(tmp_path / folder / "raw", "train")
    write_idx(tmp_path / folder / "raw", "t10k")
    images, labels, classes = read_named(name, split, tmp_path)
    assert (images.shape, classes) == ((10, 28, 28, 1), 10)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images.ravel(), np.arange(images.size).astype(np.uint8))
    np.testing.assert_array_equal(labels, ONE_OF_EACH)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_says_what_is_missing_and_where_it_looked(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataRefused, match=rf"{name} is not in .* cannot be downloaded: no route to host\n.*--data-dir"):
        read_named(name, "test", tmp_path / "data")
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("offline")
def test_damaged_files_are_said_to_be_damaged(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_idx(raw, "train")
    write_idx(raw, "t10k")
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"no idx file at all")
    with pytest.raises(DataRefused, match=r"mnist in .* is damaged"):
        read_named("mnist", "test", tmp_path)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_reads_debians_fashion_mnist(tmp_path: Path) -> None:
    images, labels, _ = read_named("fashion-mnist", "test", tmp_path)
    assert images.shape == (10000, 28, 28, 1)
    assert np.bincount(labels).tolist() == [1000] * 10
    assert images.mean() / 255 == pytest.approx(0.2868, abs=1e-3)


def test_refuses_damaged_files_of_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"not compressed")
    monkeypatch.setattr(named_data, "DEBIAN", tmp_path)
    with pytest.raises(DataRefused, match=r"fashion-mnist in .* is damaged"):
        read_named("fashion-mnist", "test", tmp_path / "data")


@pytest.mark.parametrize(("split", "count"), [("train", 1000), ("test", 2000)])
def test_the_sample_is_embedded(tmp_path: Path, split: str, count: int) -> None:
    images, labels, classes = read_named("fashion-mnist-sample", split, tmp_path)
    assert (images.shape, labels.shape, classes) == ((count, 28, 28, 1), (count,), 10)
    assert set(labels.tolist()) == set(range(10))


def test_refuses_other_parts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown split 'val': expected one of train, test"):
        read_named("mnist", "val", tmp_path)


def test_the_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNCONVERT_DATA", "/somewhere")
    assert default_root() == Path("/somewhere")
    monkeypatch.delenv("SNNCONVERT_DATA")
    assert default_root() == Path.home() / ".cache" / "snnconvert"
