from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnconvert.converter.errors import DataRefused
from snnconvert.model_zoo.arrays import array_reader, read_class_names, read_npz
from snnconvert.model_zoo.preprocessing import Preprocessing

Save = Callable[..., Path]
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 10, 3), np.uint8)
LABELS = np.arange(6)
PREPROCESSING = Preprocessing((3, 8, 10), (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_reads_images_and_labels(npz: Save, dtype: Any) -> None:
    images, labels = read_npz(npz(images=IMAGES, labels=LABELS.astype(dtype), other=np.zeros(2)))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert labels.dtype == np.int64


def test_grey_images_may_have_no_channel_axis(npz: Save) -> None:
    images, _ = read_npz(npz(images=IMAGES[..., 0], labels=LABELS))
    assert images.shape == (6, 8, 10, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "no array labels, found images"),
        ({"x": IMAGES, "y": LABELS}, "no array images or labels, found x, y"),
        ({"images": IMAGES / 255, "labels": LABELS}, r"expected images uint8 \[N, H, W, C\], got float64 \[6, 8, 10"),
        ({"images": IMAGES[0, 0], "labels": LABELS}, r"got uint8 \[10, 3\]"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "no images"),
        ({"images": IMAGES, "labels": LABELS[:5]}, r"expected 6 labels, one per image, got shape \[5\]"),
        ({"images": IMAGES, "labels": np.eye(6, dtype=int)}, r"got shape \[6, 6\]"),
        ({"images": IMAGES, "labels": LABELS * 1.0}, "expected labels of an integer type, got float64"),
        ({"images": IMAGES, "labels": LABELS - 2}, "labels start at 0, got -2 at position 0"),
        ({"images": np.array([{}], object), "labels": LABELS}, "holds pickled objects, which are never loaded"),
    ],
)
def test_refuses_other_arrays(npz: Save, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataRefused, match=message):
        read_npz(npz(**arrays))


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (np.array(["cat", "dog"]), ("cat", "dog")),
        (np.array([["cat", "dog"]]), ()),
        (np.array([2, 5]), ()),
        (np.array(["cat", "dog"], object), ()),
    ],
)
def test_names_of_classes_are_texts(npz: Save, classes: Any, expected: tuple[str, ...]) -> None:
    assert read_class_names(npz(images=IMAGES, labels=LABELS, classes=classes)) == expected


def test_names_of_classes_may_be_missing(npz: Save) -> None:
    assert read_class_names(npz(images=IMAGES, labels=LABELS)) == ()


@pytest.mark.parametrize("part", [0, 0.05, 0.5, 0.95])
def test_refuses_truncated_files(npz: Save, part: float) -> None:
    path = npz(images=IMAGES, labels=LABELS)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DataRefused, match=r"is truncated or no \.npz file"):
        read_npz(path)


def test_refuses_a_damaged_file(npz: Save) -> None:
    path = npz(images=IMAGES, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataRefused, match=r"is truncated or no \.npz file: Bad CRC"):
        read_npz(path)


def test_refuses_a_single_array(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(DataRefused, match="holds a single array"):
        read_npz(tmp_path / "a.npz")


def test_reads_chosen_images_with_the_channels_first() -> None:
    read = array_reader(IMAGES, PREPROCESSING, "data")
    np.testing.assert_array_equal(read(np.array([4, 1])).numpy(), IMAGES[[4, 1]].transpose(0, 3, 1, 2))


def test_another_size_needs_resizing_to_be_asked_for() -> None:
    smaller = replace(PREPROCESSING, size=(3, 4, 4))
    with pytest.raises(DataRefused, match=r"the model expects images of 4x4 pixels, these have 8x10\n.*--resize 4"):
        array_reader(IMAGES, smaller, "data")
    assert array_reader(IMAGES, replace(smaller, resize=4), "data")(np.array([0])).shape == (1, 3, 4, 4)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[..., :1], r"expects 3 channels, these images have 1\n.*never|expects 3 channels, these images have 1"),
        (IMAGES.transpose(0, 3, 1, 2), r"expects 3 channels, these images have 10\n.*store images as \[N, H, W, C\]"),
    ],
)
def test_grey_and_colour_are_never_converted(images: Any, message: str) -> None:
    with pytest.raises(DataRefused, match=message):
        array_reader(images, PREPROCESSING, "data")
