import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snnconvert.converter.errors import DataRefused, UsageError
from snnconvert.model_zoo.datasets import open_dataset
from snnconvert.model_zoo.preprocessing import Preprocessing
from snnconvert.model_zoo.zoo_models import CIFAR, FASHION

Save = Callable[..., Path]
TINY = Preprocessing((3, 4, 4), (0.0,) * 3, (1.0,) * 3)


def test_opens_a_name() -> None:
    data = open_dataset("fashion-mnist-sample", split="test", preprocessing=FASHION)
    assert (data.name, data.split, data.count, data.classes) == ("fashion-mnist-sample", "test", 2000, 10)
    assert [data.class_name(label) for label in (0, 9)] == ["t-shirt/top", "ankle boot"]
    images, labels, _ = next(data.batches(500))
    assert images.shape == (500, 1, 28, 28)
    assert torch.equal(labels, torch.from_numpy(data.labels[:500]))
    assert abs(float(images.mean())) < 0.05
    assert abs(float(images.std()) - 1) < 0.05


def test_opens_an_npz_file(npz: Save) -> None:
    pixels = np.full((3, 4, 4, 3), 51, np.uint8)
    path = npz(images=pixels, labels=np.array([5, 0, 1]))
    data = open_dataset(str(path), split="test", preprocessing=TINY)
    assert (data.name, data.split, data.count, data.classes) == (str(path), "", 3, 6)
    assert data.class_name(5) == "5"
    images, labels, positions = next(data.batches(8))
    torch.testing.assert_close(images, torch.full((3, 3, 4, 4), 0.2))
    assert (labels.tolist(), positions.tolist()) == ([5, 0, 1], [0, 1, 2])
    npz(images=pixels, labels=np.array([1, 0, 1]), classes=np.array(["cat", "dog"]))
    data = open_dataset(str(path), split="test", preprocessing=TINY)
    assert [data.class_name(label) for label in range(3)] == ["cat", "dog", "2"]


def test_opens_a_folder(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4), (51, 51, 51)).save(tmp_path / name / "1.png")
    data = open_dataset(str(tmp_path), split="train", preprocessing=TINY)
    assert (data.count, data.classes, data.labels.tolist()) == (2, 2, [0, 1])
    assert [data.class_name(label) for label in data.labels] == ["cat", "dog"]
    torch.testing.assert_close(next(data.batches(8))[0], torch.full((2, 3, 4, 4), 0.2))


def test_opens_tar_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4, 4), (51, 51, 51)).save(tmp_path / "1.png")
    (tmp_path / "1.cls").write_text("4")
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        with tarfile.open(f"part-{number:02}.tar", "w") as tar:
            for name in ("1.png", "1.cls"):
                tar.add(name)
    for reference, count in (("part-01.tar", 1), ("part-{00..01}.tar", 2), ("part-*.tar", 3), (str(tmp_path), 3)):
        data = open_dataset(reference, split="test", preprocessing=TINY)
        assert (data.name, data.split, data.count, data.classes) == (reference, "", count, 5)
        assert data.class_name(4) == "4"
        images, labels, _ = next(data.batches(8, workers=2))
        torch.testing.assert_close(images, torch.full((count, 3, 4, 4), 0.2))
        assert labels.tolist() == [4] * count
    with pytest.raises(DataRefused, match=r"part-03\.tar does not exist"):
        open_dataset("part-03.tar", split="test", preprocessing=TINY)


def test_says_whether_images_are_files(tmp_path: Path, npz: Save) -> None:
    path = npz(images=np.zeros((1, 4, 4, 3), np.uint8), labels=np.array([0]))
    (tmp_path / "folder" / "cat").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "folder" / "cat" / "1.png")
    found = [open_dataset(str(each), split="", preprocessing=TINY).files for each in (path, tmp_path / "folder")]
    assert found == [False, True]


def test_refuses_a_network_for_other_images() -> None:
    with pytest.raises(DataRefused, match="the model expects 3 channels, these images have 1"):
        open_dataset("fashion-mnist-sample", split="test", preprocessing=CIFAR)


def test_refuses_references_that_name_no_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)unknown data set 'cifra10'.*did you mean 'cifar10'"):
        open_dataset("cifra10", split="test", preprocessing=CIFAR)
    with pytest.raises(
        UsageError, match=r"(?s)unknown data set 'nosuch'.*hint: .*`snnconvert zoo datasets` lists names"
    ):
        open_dataset("nosuch", split="test", preprocessing=CIFAR)
    for name in ("absent.npz", "absent/folder"):
        with pytest.raises(DataRefused, match="does not exist"):
            open_dataset(str(tmp_path / name), split="test", preprocessing=CIFAR)
    (tmp_path / "a.zip").touch()
    with pytest.raises(DataRefused, match=r"folder of images, \.tar shards or an \.npz file, got a \.zip file"):
        open_dataset(str(tmp_path / "a.zip"), split="test", preprocessing=CIFAR)


def test_opens_imagenet_by_wnids(shared: Path) -> None:
    preprocessing = Preprocessing((3, 224, 224), (0.5,) * 3, (0.5,) * 3, 256)
    data = open_dataset(str(shared / "data/imagenet_val"), split="test", preprocessing=preprocessing)
    assert (data.count, data.classes) == (650, 1000)
    data.check_labels(1000)
    assert next(data.batches(3))[0].shape == (3, 3, 224, 224)


def test_the_stamp_is_another_one_when_a_file_changes(tmp_path: Path, npz: Save) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "folder" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4), (51, 51, 51)).save(tmp_path / "folder" / name / "1.png")
    arrays = npz(images=np.full((3, 4, 4, 3), 51, np.uint8), labels=np.array([5, 0, 1]))
    shard = tmp_path / "shards" / "0.tar"
    shard.parent.mkdir()
    (tmp_path / "1.cls").write_text("4")
    with tarfile.open(shard, "w") as tar:
        tar.add(tmp_path / "folder" / "cat" / "1.png", "1.png")
        tar.add(tmp_path / "1.cls", "1.cls")
    for reference, file in (
        (tmp_path / "folder", tmp_path / "folder" / "dog" / "1.png"),
        (arrays, arrays),
        (shard.parent, shard),
    ):
        before, again = (open_dataset(str(reference), split="", preprocessing=TINY).stamp() for _ in range(2))
        assert before == again
        os.utime(file, ns=(0, 1))
        assert open_dataset(str(reference), split="", preprocessing=TINY).stamp() != before
    sample = [open_dataset("fashion-mnist-sample", split=s, preprocessing=FASHION).stamp() for s in ("test", "train")]
    assert len(set(sample)) == 2
