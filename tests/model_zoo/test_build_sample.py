from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnconvert.model_zoo import build_sample
from snnconvert.model_zoo.arrays import read_arrays
from snnconvert.model_zoo.named_data import DEBIAN, SAMPLE_FILE


def test_takes_the_first_of_a_shuffle_with_images_and_labels_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(name: str, split: str, root: Path) -> tuple[Any, Any, int]:
        labels = np.arange(50)
        return np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (50, 2, 2, 1)), labels, 10

    monkeypatch.setattr(build_sample, "read_named", read)
    monkeypatch.setattr(build_sample, "COUNTS", {"train": 5, "test": 7})
    build_sample.build_sample(tmp_path, tmp_path / "sample.npz")
    found = read_arrays(tmp_path / "sample.npz", ("train_images", "train_labels", "test_images", "test_labels"))
    for split, count in (("train", 5), ("test", 7)):
        assert len(set(found[f"{split}_labels"].tolist())) == count
        np.testing.assert_array_equal(found[f"{split}_images"][:, 1, 1], found[f"{split}_labels"])


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_the_embedded_sample_is_what_it_builds(tmp_path: Path) -> None:
    build_sample.build_sample(tmp_path, tmp_path / "sample.npz")
    names = ("train_images", "train_labels", "test_images", "test_labels")
    built, embedded = read_arrays(tmp_path / "sample.npz", names), read_arrays(SAMPLE_FILE, names)
    for name in names:
        np.testing.assert_array_equal(built[name], embedded[name])
    assert SAMPLE_FILE.stat().st_size < 2_000_000
