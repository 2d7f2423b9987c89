import numpy as np
import pytest
import torch

from snnconvert.converter.errors import DataRefused, UsageError
from snnconvert.model_zoo.image_data import ImageData, Labels
from snnconvert.model_zoo.preprocessing import Preprocessing

PREPROCESSING = Preprocessing((1, 2, 2), (0.0,), (1 / 255,))


def data(count: int = 10) -> ImageData:
    """Images whose every pixel is the image's position."""

    def read(positions: Labels) -> torch.Tensor:
        return torch.from_numpy(positions.astype(np.uint8))[:, None, None, None].expand(-1, 1, 2, 2)

    return ImageData("numbers", "test", 3, np.arange(count) % 3, PREPROCESSING, read)


def test_batches_in_order() -> None:
    batches = list(data().batches(4))
    assert [len(labels) for _, labels, _ in batches] == [4, 4, 2]
    images, labels, positions = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert (images.dtype, labels.dtype, positions.dtype) == (torch.float32, torch.int64, torch.int64)
    assert positions.tolist() == list(range(10))
    assert labels.tolist() == [position % 3 for position in range(10)]
    torch.testing.assert_close(images[:, 0, 1, 1], positions.float())


def test_a_limit_takes_the_first() -> None:
    assert torch.cat([positions for _, _, positions in data().batches(4, limit=5)]).tolist() == [0, 1, 2, 3, 4]


def test_a_seed_chooses_at_random_and_repeatably() -> None:
    def chosen(seed: int, batch_size: int) -> list[int]:
        batches = list(data(200).batches(batch_size, limit=50, seed=seed))
        for images, labels, positions in batches:
            torch.testing.assert_close(images[:, 0, 0, 0], positions.float())
            assert torch.equal(labels, positions % 3)
        result: list[int] = torch.cat([positions for _, _, positions in batches]).tolist()
        return result

    first = chosen(0, 7)
    assert len(set(first)) == 50
    assert max(first) >= 100
    assert first == chosen(0, 50) != chosen(1, 50)


def test_fewer_images_than_asked_for_is_said() -> None:
    numbers = data()
    assert sum(len(labels) for _, labels, _ in numbers.batches(4, limit=10)) == 10
    assert numbers.warnings == []
    assert sum(len(labels) for _, labels, _ in numbers.batches(4, limit=11)) == 10
    assert numbers.warnings == ["numbers: 11 images were asked for, there are 10"]


def test_labels_beyond_the_models_classes_are_refused() -> None:
    data().check_labels(3)
    with pytest.raises(DataRefused, match=r"numbers: the largest label is 2, the model has 2 classes \(0 to 1\)"):
        data().check_labels(2)


def test_refuses_counts_below_one_before_anything_is_read() -> None:
    with pytest.raises(UsageError, match="expected a batch size of at least 1, got 0"):
        data().batches(0)
    with pytest.raises(UsageError, match="expected a number of images of at least 1, got 0"):
        data().batches(4, limit=0)
