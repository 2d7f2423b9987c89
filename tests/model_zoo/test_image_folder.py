from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from snnconvert.converter.errors import DataRefused
from snnconvert.model_zoo.image_folder import open_folder
from snnconvert.model_zoo.preprocessing import Preprocessing

PREPROCESSING = Preprocessing((3, 4, 4), (0.5,) * 3, (0.5,) * 3, 4)
RED = (200, 10, 20)


def put(path: Path, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour: Any = {"RGB": RED, "L": 77, "I;16": 3000, "RGBA": (*RED, 128), "P": 0}[mode]
    Image.new(mode, size, colour).save(path)
    return path


def test_classes_are_the_sub_folders_in_alphabetical_order(tmp_path: Path) -> None:
    for name in ("dog/b.png", "dog/deep/a.jpg", "cat/a.PNG", "cat/.hidden.png", ".git/a.png"):
        put(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    folder = open_folder(tmp_path, PREPROCESSING)
    assert folder.files.tolist() == [b"cat/a.PNG", b"dog/b.png", b"dog/deep/a.jpg"]
    assert (folder.labels.tolist(), folder.classes, folder.names) == ([0, 1, 1], 2, ("cat", "dog"))


@pytest.mark.parametrize(("mode", "pixel"), [("RGB", RED), ("L", (77, 77, 77)), ("RGBA", RED)])
def test_reads_every_image_as_rgb_of_the_networks_size(tmp_path: Path, mode: str, pixel: tuple[int, int, int]) -> None:
    put(tmp_path / "a" / "1.png", mode)
    put(tmp_path / "a" / "2.png", mode, (8, 13))
    images = open_folder(tmp_path, PREPROCESSING).read(np.array([0, 1]))
    assert images.shape == (2, 3, 4, 4)
    assert (images == images.new_tensor(pixel)[:, None, None]).all()


def test_folders_named_by_wnids_get_their_imagenet_index(tmp_path: Path) -> None:
    """The first, second and last class of ILSVRC: tench, goldfish, toilet tissue."""
    for name in ("n15075141", "n01440764", "n01443537"):
        put(tmp_path / name / "1.png")
    folder = open_folder(tmp_path, PREPROCESSING)
    assert (folder.labels.tolist(), folder.classes) == ([0, 1, 999], 1000)
    assert [folder.names[label] for label in folder.labels] == ["tench", "goldfish", "toilet tissue"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "expected one sub-folder of images per class, found nothing"),
        (["1.png"], "found only files"),
        (["train/cat/1.png", "val/cat/1.png"], r"holds the parts train, val, not classes\n.*name one: .*train"),
        (["cat/1.png", "dog/notes.txt"], r"the class folder .*dog holds no images"),
        (["n01440764/1.png", "cat/1.png"], "named by ImageNet wnids, 'cat' is not"),
        (["n99999999/1.png"], "the wnid n99999999 is not among the 1,000 classes"),
    ],
)
def test_refuses_other_folders(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        put(tmp_path / name) if name.endswith("png") else (tmp_path / name).parent.mkdir()
    with pytest.raises(DataRefused, match=message):
        open_folder(tmp_path, PREPROCESSING)


def test_a_network_for_grey_images_takes_no_folder(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    with pytest.raises(DataRefused, match="expects 1 channels, these images have 3"):
        open_folder(tmp_path, Preprocessing((1, 4, 4), (0.5,), (0.5,)))


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n half of a header"])
def test_files_that_are_no_images_are_named_when_read(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "cat" / "1.png")
    (tmp_path / "cat" / "2.png").write_bytes(content)
    folder = open_folder(tmp_path, PREPROCESSING)
    assert folder.read(np.array([0])).shape == (1, 3, 4, 4)
    with pytest.raises(DataRefused, match=r"cat/2.png is no image, or a damaged one"):
        folder.read(np.array([1]))


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cat" / "1.png"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataRefused, match=r"cat/1.png is no image, or a damaged one"):
        open_folder(tmp_path, PREPROCESSING).read(np.array([0]))


def test_more_than_eight_bits_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png", "I;16")
    with pytest.raises(DataRefused, match=r"1.png has more than 8 bits per channel \(mode I;16\)"):
        open_folder(tmp_path, PREPROCESSING).read(np.array([0]))


def test_another_size_needs_resizing_to_be_asked_for(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    folder = open_folder(tmp_path, replace(PREPROCESSING, resize=None))
    with pytest.raises(DataRefused, match=r"1.png: expected images of 4x4 pixels, got 4x6\n.*--resize 4"):
        folder.read(np.array([0]))
