import os
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.converter.errors import DataRefused, UsageError
from snnconvert.model_zoo.image_data import ImageData, Labels
from snnconvert.model_zoo.preprocessing import Preprocessing

PREPROCESSING = Preprocessing((1, 2, 2), (0.0,), (1 / 255,))


def data(count: int = 10, *, files: bool = False, reads: list[int] | None = None) -> ImageData:
    """Images whose every pixel is the image's position; those that are read are put into ``reads``."""

    def read(positions: Labels) -> torch.Tensor:
        if reads is not None:
            reads.extend(positions.tolist())
        return torch.from_numpy(positions.astype(np.uint8))[:, None, None, None].expand(-1, 1, 2, 2)

    return ImageData("numbers", "test", 3, np.arange(count) % 3, PREPROCESSING, read, files=files)


def test_batches_in_order() -> None:
    batches = list(data().batches(4))
    assert [len(labels) for _, labels, _ in batches] == [4, 4, 2]
    images, labels, positions = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert (images.dtype, labels.dtype, positions.dtype) == (torch.float32, torch.int64, torch.int64)
    assert positions.tolist() == list(range(10))
    assert labels.tolist() == [position % 3 for position in range(10)]
    torch.testing.assert_close(images[:, 0, 1, 1], positions.float())


def test_classes_are_called_by_name_or_number() -> None:
    named = replace(data(), names=("crane", "", "heron", "crane"))
    assert [named.class_name(label) for label in range(5)] == ["crane (0)", "1", "heron", "crane (3)", "4"]
    assert data().class_name(2) == "2"


def test_a_digest_is_that_of_labels_and_images() -> None:
    def other(position: int) -> ImageData:
        return replace(numbers, read=lambda chosen: numbers.read(np.where(chosen == position, 0, chosen)))

    numbers = data(100)
    assert data(100).digest() == replace(numbers, name="copy", split="", files=True).digest() == numbers.digest()
    changed = [data(99), replace(numbers, labels=numbers.labels[::-1]), other(99), other(33)]
    assert len({each.digest() for each in (numbers, *changed)}) == 5
    assert len(data(3).digest()) == len(numbers.digest())


def test_images_that_cannot_be_read_have_a_digest() -> None:
    def damaged(positions: Labels) -> torch.Tensor:
        raise DataRefused("damaged")

    found = {replace(data(count), read=damaged).digest() for count in (9, 10)}
    assert len(found | {data(10).digest()}) == 3


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
    with pytest.raises(UsageError, match="expected a number of workers of at least 0, got -1"):
        data().batches(4, workers=-1)


@given(st.integers(1, 40), st.integers(1, 7), st.data())
def test_any_partition_of_the_numbers_gives_each_image_once(count: int, batch_size: int, draw: st.DataObject) -> None:
    owners = draw.draw(st.lists(st.integers(0, 2), min_size=40, max_size=40))
    limit, seed = draw.draw(st.none() | st.integers(1, count)), draw.draw(st.none() | st.integers(0, 9))
    whole = [batch[2].tolist() for batch in data(count).batches(batch_size, limit=limit, seed=seed)]
    reads: list[int] = []
    for owner in range(3):
        numbers = [number for number in reversed(range(40)) if owners[number] == owner]
        chosen = data(count, reads=reads).batches(batch_size, limit=limit, seed=seed, numbers=numbers)
        expected = [whole[number] for number in sorted(numbers) if number < len(whole)]
        assert [batch[2].tolist() for batch in chosen] == expected
    assert Counter(reads) == Counter(position for batch in whole for position in batch)


def test_numbers_beyond_the_last_are_not_there() -> None:
    def positions(numbers: range | list[int] | set[int]) -> list[int]:
        return [position for batch in data().batches(4, numbers=numbers) for position in batch[2].tolist()]

    assert positions(range(1, 10**15, 2)) == [4, 5, 6, 7]
    assert positions({-1, 2, 3}) == [8, 9]
    assert positions([]) == []


def test_images_go_to_the_device_as_bytes_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = Preprocessing.__call__

    def watched(self: Preprocessing, images: torch.Tensor) -> torch.Tensor:
        seen.append((images.dtype, images.device.type))
        return original(self, images)

    monkeypatch.setattr(Preprocessing, "__call__", watched)
    for images, labels, positions in data().batches(5, device=torch.device("meta")):
        assert (images.dtype, images.device.type, images.shape) == (torch.float32, "meta", (5, 1, 2, 2))
        assert (labels.device.type, positions.device.type) == ("cpu", "cpu")
    assert seen == [(torch.uint8, "meta")] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("workers", [0, 2])
def test_cuda_gives_the_bits_of_the_cpu(workers: int) -> None:
    numbers = data(256, files=True)
    numbers.preprocessing = Preprocessing((1, 2, 2), (0.485,), (0.229,))
    device = torch.device("cuda")
    both = zip(numbers.batches(100), numbers.batches(100, device=device, workers=workers), strict=True)
    for cpu, cuda in both:
        assert cuda[0].is_cuda
        assert all(torch.equal(a, b.cpu()) for a, b in zip(cpu, cuda, strict=True))


def test_workers_do_not_change_what_comes() -> None:
    def chosen(workers: int) -> list[tuple[torch.Tensor, ...]]:
        reads: list[int] = []
        numbers = data(50, files=True, reads=reads)
        found = list(numbers.batches(4, limit=41, seed=3, epoch=1, first=2, numbers=range(1, 11), workers=workers))
        assert bool(reads) == (workers == 0)  # read in this process
        return found

    one = chosen(0)
    assert len(one) == 10
    for workers in (1, 3):
        assert all(
            torch.equal(a, b) for x, y in zip(one, chosen(workers), strict=True) for a, b in zip(x, y, strict=True)
        )


def test_images_in_memory_are_read_in_this_process() -> None:
    reads: list[int] = []
    list(data(reads=reads).batches(4, workers=2))
    assert reads == list(range(10))


def test_a_refusal_in_a_worker_arrives_as_it_was() -> None:
    def read(positions: Labels) -> torch.Tensor:
        if 5 in positions:
            raise DataRefused(f"image 5 is damaged in {os.getpid()}", "remove it")
        return torch.zeros(len(positions), 1, 2, 2, dtype=torch.uint8)

    numbers = ImageData("numbers", "", 3, np.arange(10) % 3, PREPROCESSING, read, files=True)
    batches = numbers.batches(4, workers=2)
    assert next(batches)[2].tolist() == [0, 1, 2, 3]
    with pytest.raises(DataRefused, match="image 5 is damaged") as found:
        next(batches)
    assert type(found.value) is DataRefused
    assert found.value.hint == "remove it"
    assert str(os.getpid()) not in found.value.message
