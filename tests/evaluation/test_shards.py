"""Finished batches are not run again, and only those of the same evaluation are taken."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snnconvert.converter.errors import ArtefactRefused, UsageError
from snnconvert.converter.shares import Numbered
from snnconvert.converter.tensor_file import write_tensors
from snnconvert.evaluation import Shards, evaluate
from snnconvert.evaluation.accuracy import Batch
from snnconvert.evaluation.marks import Marks

from .test_accuracy import ANN, LABELS, SEEDS, FakeSpiking, Table, batches

IDENTITY = {"artefact": "a", "seed": 0}


def model() -> Any:
    return FakeSpiking(Table(ANN, 3).eval(), SEEDS, 3)


def figures(found: Any) -> dict[str, Any]:
    document: dict[str, Any] = found.as_json()
    return document | {"seconds": 0.0}


class Killed(Exception):
    """Raised between two batches."""


def until(number: int) -> Iterator[Batch]:
    for done, batch in enumerate(batches(LABELS)):
        if done == number:
            raise Killed
        yield batch


@pytest.mark.parametrize("done", [0, 1, 2])
def test_an_interrupted_evaluation_goes_on(tmp_path: Path, done: int) -> None:
    with pytest.raises(Killed):
        evaluate(model(), until(done), seeds=3, shards=Shards(tmp_path, IDENTITY))
    shards = Shards(tmp_path, IDENTITY)
    assert sorted(shards.finished) == list(range(done))
    again, read = model(), []

    def rest(numbers: list[int]) -> Iterator[Batch]:
        read.extend(numbers)
        return (list(batches(LABELS))[number] for number in numbers)

    found = evaluate(again, Numbered(rest, 3), seeds=3, shards=shards)
    assert figures(found) == figures(evaluate(model(), batches(LABELS), seeds=3))
    assert found.images == len(LABELS)
    assert read == list(range(done, 3))
    assert len(again.calls) == 3 * (3 - done)
    idle = model()
    assert figures(evaluate(idle, batches(LABELS), seeds=3, shards=Shards(tmp_path, IDENTITY))) == figures(found)
    assert idle.calls == []


def test_a_network_alone_goes_on_too(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        evaluate(model(), until(2), seeds=3, alone=True, shards=Shards(tmp_path, IDENTITY))
    shards = Shards(tmp_path, IDENTITY)
    assert sorted(shards.finished) == [0, 1]
    found = evaluate(model(), batches(LABELS), seeds=3, alone=True, shards=shards)
    assert figures(found) == figures(evaluate(model(), batches(LABELS), seeds=3, alone=True))
    assert found.marks.labels.tolist() == LABELS


def test_another_evaluation_has_another_folder(tmp_path: Path) -> None:
    evaluate(model(), batches(LABELS), seeds=3, shards=Shards(tmp_path, IDENTITY))
    other = Shards(tmp_path, IDENTITY | {"seed": 1})
    assert other.finished == {}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    shards = Shards(tmp_path, IDENTITY)
    evaluate(model(), batches(LABELS), seeds=3, shards=shards)
    return shards.folder


def cut(folder: Path) -> None:
    path = folder / "1.shard"
    path.write_bytes(path.read_bytes()[:-10])


def change(folder: Path) -> None:
    path = folder / "1.shard"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def rename(folder: Path) -> None:
    (folder / "1.shard").rename(folder / "7.shard")


def move_in(folder: Path) -> None:
    other = Shards(folder.parent, {"artefact": "b"})
    evaluate(model(), batches(LABELS), seeds=3, shards=other)
    shutil.copy(other.folder / "1.shard", folder / "1.shard")


def empty(folder: Path) -> None:
    document = {"format": 1, "evaluation": folder.name, "batch": 1}
    write_tensors(folder / "1.shard", {"labels": torch.zeros(2)}, "snnconvert.shard", document)


def foreign(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "is not a .shard file, or is truncated"),
        (change, "is a damaged .shard file: its content is not what was written"),
        (rename, "it is of another evaluation, or another batch"),
        (move_in, "it is of another evaluation, or another batch"),
        (empty, "is a damaged .shard file: marks of labels"),
        (foreign, "notes.txt is no shard of an evaluation\nhint: move it"),
    ],
)
def test_what_is_no_shard_is_refused(finished: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(finished)
    with pytest.raises(ArtefactRefused, match=message) as refused:
        Shards(finished.parent, IDENTITY)
    assert "delete it" in str(refused.value) or "move it" in str(refused.value)


def test_a_shard_that_was_being_written_is_passed_over(finished: Path) -> None:
    (finished / ".1.shard.abc").write_bytes(b"half")
    assert sorted(Shards(finished.parent, IDENTITY).finished) == [0, 1, 2]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a folder to resume from, got the file"):
        Shards(tmp_path / "file", IDENTITY)


def test_marks_come_back_as_they_were() -> None:
    labels, snn = np.arange(4), np.zeros((2, 3, 4), np.int64)
    flat, seeds = np.ones(4, bool), np.ones((2, 4), bool)
    for ann, *top5 in ((labels + 1, None, None), (labels + 1, flat, seeds), (None, None, None), (None, None, seeds)):
        marks = Marks(labels, ann, snn, *top5)
        again = Marks.of(marks.tensors())
        for name, value in vars(marks).items():
            assert value is getattr(again, name) is None or np.array_equal(value, getattr(again, name))
    whole = Marks(labels, labels, snn, flat, seeds).tensors()
    with pytest.raises(ValueError, match="ann of shape"):
        Marks.of(whole | {"ann": torch.zeros(4)})
    for name in ("ann", "ann_top5", "snn_top5", "labels", "snn"):
        with pytest.raises(ValueError, match="marks of"):
            Marks.of({key: value for key, value in whole.items() if key != name})
