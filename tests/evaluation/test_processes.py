"""An evaluation by several processes is that of one, image by image."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import DataRefused
from snnconvert.converter.graph import prepare
from snnconvert.converter.shares import Numbered
from snnconvert.converter.thresholds import Thresholds
from snnconvert.evaluation import Evaluation, Shards, evaluate
from snnconvert.evaluation.accuracy import Batch

SIZE, IMAGES = 5, 23


def batches(numbers: list[int], classes: int = 7) -> Iterator[Batch]:
    draw = torch.Generator().manual_seed(3)
    images, labels = torch.randn(IMAGES, 1, 6, 6, generator=draw), torch.randint(0, classes, (IMAGES,), generator=draw)
    for part in (torch.arange(IMAGES)[number * SIZE : (number + 1) * SIZE] for number in numbers):
        yield images[part], labels[part], part


def measured(neuron: str, given: Any, shards: Shards | None = None, **options: Any) -> Evaluation:
    torch.manual_seed(0)
    graph = prepare(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 7)).eval(), torch.randn(2, 1, 6, 6)
    )
    thresholds = Thresholds({site.name: torch.ones(site.channels) for site in graph.sites}, None, "given", "channel")
    model = convert(graph, thresholds, neuron=neuron, steps=3)
    return evaluate(model, given, seeds=2, shards=shards, **options)


def evaluations(folder: Path | None = None) -> list[dict[str, Any]]:
    numbers = list(range(5))
    shards = None if folder is None else Shards(folder, {"test": "tpp"})
    found = [
        measured("tpp", Numbered(batches, 5), shards).as_json(),
        measured("if", batches(numbers)).as_json(),
        measured("two-phase", list(batches(numbers)), executor="steps").as_json(),
        measured("if", Numbered(batches, 5), alone=True).as_json(),
    ]
    return [each | {"seconds": 0.0} for each in found]


def answers() -> list[list[int]]:
    marks = measured("tpp", Numbered(batches, 5)).marks
    return [marks.labels.tolist(), marks.answers.tolist()]


def test_the_answers_come_in_the_order_of_the_images(together: Callable[..., list[Any]]) -> None:
    labels = torch.cat([part for _, part, _ in batches(list(range(5)))])
    alone = answers()
    assert alone[0] == labels.tolist()
    assert together(answers, count=2) == [alone] * 2


@pytest.mark.parametrize("count", [2, 3])
def test_an_evaluation_does_not_depend_on_the_number_of_processes(
    together: Callable[..., list[Any]], tmp_path: Path, count: int
) -> None:
    alone = evaluations(tmp_path / "one")
    assert [each["images"] for each in alone] == [IMAGES] * 4
    assert together(evaluations, tmp_path / "several", count=count) == [alone] * count
    marks = [Shards(tmp_path / name, {"test": "tpp"}).finished for name in ("one", "several")]
    assert sorted(marks[0]) == sorted(marks[1]) == list(range(5))
    for number, mine in marks[0].items():
        for name, tensor in mine.tensors().items():
            assert torch.equal(tensor, marks[1][number].tensors()[name])


def refused() -> str:
    try:
        measured("if", batches([0, 1, 2, 3, 4], classes=30))
    except DataRefused as error:
        return error.message
    return ""


def broken() -> str:
    given = list(batches([0, 1, 2]))
    given[1][1][0] = 9  # the second process's
    try:
        measured("if", given)
    except DataRefused as error:
        return error.message
    return ""


def test_what_one_process_refuses_all_refuse(together: Callable[..., list[Any]]) -> None:
    assert "expected labels from 0 to 6" in broken()
    assert together(broken) == [broken()] * 2
    assert all("expected labels from 0 to 6" in message for message in together(refused))
