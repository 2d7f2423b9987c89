"""The arithmetic is checked on a model that answers from a table, so every figure is known beforehand."""

import json
import statistics
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import DataRefused, ModelRefused, UsageError
from snnconvert.converter.graph import prepare
from snnconvert.converter.thresholds import Thresholds
from snnconvert.evaluation import Evaluation, evaluate

SHAPE = (1, 2, 2)


class Table(nn.Module):
    """Gives each image the class that a table holds at the value of the image's first pixel."""

    def __init__(self, classes: list[int], of: int) -> None:
        super().__init__()
        self.table, self.of = classes, of

    def forward(self, images: Tensor) -> Tensor:
        chosen = [self.table[int(value)] for value in images[:, 0, 0, 0]]
        return nn.functional.one_hot(torch.tensor(chosen), self.of).float()


class FakeSpiking(nn.Module):
    """A spiking network whose classes are a table [seed][t][image]; only the index decides, as in the real one."""

    neuron, steps, end_to_end_steps, interval, levels, spike_type = "fake", 2, 6, 2, 3, "binary"
    executors, input_shapes, shuffle = ("layers", "steps"), (SHAPE,), "none"

    def __init__(self, ann: nn.Module, table: list[list[list[int]]], of: int, streaming: bool = False) -> None:
        super().__init__()
        self.ann, self.table, self.of, self.streaming = ann, table, of, streaming
        self.graph, self.answers_every_step = SimpleNamespace(weight=torch.empty(0)), streaming
        self.stochastic, self.seed = len(table) > 1, 0
        self.calls: list[tuple[int, int, str | None]] = []

    def by_t(self, images: Tensor, index: Tensor) -> Tensor:
        self.calls.append((self.seed, len(images), None))
        rows = [[row[int(i)] for i in index] for row in self.table[self.seed % len(self.table)]]
        return nn.functional.one_hot(torch.tensor(rows), self.of).float()

    def forward(self, images: Tensor, index: Tensor, executor: str | None = None) -> Tensor:
        return self.by_t(images, index)[-1]


def batches(labels: list[int], size: int = 2) -> Any:
    for start in range(0, len(labels), size):
        part = torch.tensor(labels[start : start + size])
        index = torch.arange(start, start + len(part))
        yield index.float()[:, None, None, None].expand(-1, *SHAPE), part, index


LABELS = [0, 1, 2, 0, 1]
ANN = [0, 1, 2, 0, 2]  # 4 of 5
SEEDS = [[[0, 1, 2, 1, 1]], [[0, 1, 0, 1, 2]], [[0, 1, 2, 0, 1]]]  # 4, 2 and 5 of 5; with the ANN 3, 3 and 4


def measured(**options: Any) -> Evaluation:
    return evaluate(FakeSpiking(Table(ANN, 3).eval(), SEEDS, 3), batches(LABELS), **options)  # type: ignore[arg-type]


def test_accuracy_over_seeds() -> None:
    found = measured(seeds=3)
    assert found.ann.top1 == pytest.approx(80)
    assert found.snn.top1 == pytest.approx(statistics.mean([80, 40, 100]))
    assert found.snn.top1_std == pytest.approx(statistics.stdev([80, 40, 100]))
    assert found.snn.agreement == pytest.approx(100 * (3 + 3 + 4) / 15)
    assert (found.seeds, found.images, found.by_t) == (3, 5, None)
    assert (found.ann.top5, found.snn.top5) == (None, None)


def test_the_interval_counts_images_not_seeds() -> None:
    interval = binomtest(4, 5).proportion_ci(0.95, "wilson")
    assert measured(seeds=1).snn.ci95 == pytest.approx((100 * interval.low, 100 * interval.high))
    low, high = measured(seeds=3).snn.ci95
    assert high - low > 50


def test_the_difference_is_paired() -> None:
    difference = measured(seeds=1).snn.difference
    assert difference.points == pytest.approx(0)  # one image won, one lost
    half = 1.959964 * np.sqrt((2 + 2) / 7 / 7)
    assert difference.ci95 == pytest.approx((-100 * half, 100 * half), rel=1e-6)


def test_one_seed_has_no_deviation_and_a_deterministic_network_has_none_to_find() -> None:
    assert measured(seeds=1).snn.top1_std is None
    fixed = FakeSpiking(Table(ANN, 3).eval(), SEEDS[:1], 3)
    found = evaluate(fixed, batches(LABELS), seeds=5)  # type: ignore[arg-type]
    assert (found.seeds, found.snn.top1_std) == (1, 0.0)
    assert fixed.calls == [(0, 2, None), (0, 2, None), (0, 1, None)]


def test_data_is_read_once_and_the_seed_restored() -> None:
    model = FakeSpiking(Table(ANN, 3).eval(), SEEDS, 3)
    model.seed = 1
    evaluate(model, batches(LABELS, 4), seeds=2)  # type: ignore[arg-type]
    assert [seed for seed, _, _ in model.calls] == [1, 2, 1, 2]
    assert model.seed == 1


def test_a_streaming_network_answers_at_every_step() -> None:
    model = FakeSpiking(Table(ANN, 3).eval(), [[[1, 1, 2, 1, 0], [0, 1, 2, 0, 0]]], 3, streaming=True)
    found = evaluate(model, batches(LABELS))  # type: ignore[arg-type]
    assert found.by_t == pytest.approx([40, 80])
    assert found.marks.answers.tolist() == [0, 1, 2, 0, 0]
    assert found.snn.top1 == pytest.approx(80)
    assert evaluate(model, batches(LABELS), executor="steps").by_t is None  # type: ignore[arg-type]


def test_a_shuffled_network_answers_after_its_window() -> None:
    model = FakeSpiking(Table(ANN, 3).eval(), [[[1, 1, 2, 1, 0], [0, 1, 2, 0, 0]]], 3, streaming=True)
    model.answers_every_step = False
    assert evaluate(model, batches(LABELS)).by_t is None  # type: ignore[arg-type]


def test_top5_from_six_classes() -> None:
    class Ranked(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.arange(6.0, 0.0, -1).expand(len(images), 6)

    model = FakeSpiking(Ranked().eval(), [[[0, 0, 0]]], 6)
    found = evaluate(model, batches([4, 5, 0]))  # type: ignore[arg-type]
    assert found.ann.top1 == pytest.approx(100 / 3)
    assert found.ann.top5 == pytest.approx(200 / 3)
    assert found.snn.top5 is not None


def test_another_ann_to_compare_with() -> None:
    found = measured(against=Table(LABELS, 3).eval())
    assert found.ann.top1 == 100
    assert found.snn.agreement == pytest.approx(80)
    with pytest.raises(UsageError, match="training mode"):
        measured(against=Table(LABELS, 3))
    with pytest.raises(ModelRefused, match="has 3 classes, the network to compare with 7"):
        measured(against=Table(LABELS, 7).eval())


def test_json_has_the_promised_keys() -> None:
    found = json.loads(json.dumps(measured(seeds=2).as_json()))
    assert set(found) == {
        *("ann", "snn", "by_t", "neuron", "steps", "end_to_end_steps", "interval", "levels", "spike_type"),
        *("executor", "seeds", "images", "seconds"),
    }
    assert set(found["ann"]) == {"top1", "top5"}
    assert set(found["snn"]) == {"top1", "top5", "top1_std", "ci95", "agreement", "difference"}
    assert len(found["snn"]["ci95"]) == len(found["snn"]["difference"]["ci95"]) == 2
    assert found["seconds"] > 0


def test_the_answers_to_each_image_are_kept() -> None:
    found = measured(seeds=3)
    assert found.marks.labels.tolist() == LABELS
    assert found.marks.ann is not None
    assert found.marks.ann.tolist() == ANN
    assert found.marks.snn[:, -1].tolist() == [seed[-1] for seed in SEEDS]
    assert found.marks.answers.tolist() == SEEDS[0][-1]


def test_a_network_that_comes_from_no_ann_is_evaluated_alone() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise AssertionError("its weights are no ANN's")

    model = FakeSpiking(Broken().eval(), SEEDS, 3)
    found = evaluate(model, batches(LABELS), alone=True, seeds=3)  # type: ignore[arg-type]
    assert (found.ann, found.snn.agreement, found.snn.difference, found.marks.ann) == (None, None, None, None)
    beside = measured(seeds=3).snn
    assert (found.snn.top1, found.snn.top1_std, found.snn.ci95) == (beside.top1, beside.top1_std, beside.ci95)
    assert json.loads(json.dumps(found.as_json()))["ann"] is None
    with pytest.raises(UsageError, match="an ANN to compare with was given, and none is to be run"):
        measured(against=Table(LABELS, 3).eval(), alone=True)


def test_top5_of_a_network_alone() -> None:
    model = FakeSpiking(nn.Identity(), [[[0, 0, 5]]], 6)
    found = evaluate(model, batches([0, 0, 5]), alone=True)  # type: ignore[arg-type]
    assert found.snn.top5 == 100


@pytest.mark.parametrize(
    ("labels", "message"), [([], "got none"), ([0, 3], "labels from 0 to 2.* got 0 to 3"), ([-1, 0], "got -1 to 0")]
)
def test_labels_that_do_not_fit(labels: list[int], message: str) -> None:
    with pytest.raises(DataRefused, match=message):
        evaluate(FakeSpiking(Table(ANN, 3).eval(), SEEDS, 3), batches(labels))  # type: ignore[arg-type]


def test_images_that_do_not_fit() -> None:
    graph = prepare(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)), torch.randn(2, *SHAPE))
    thresholds = Thresholds({site.name: torch.ones(1) for site in graph.sites}, None, "given", "layer")
    small = [(torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64), torch.arange(2))]
    with pytest.raises(DataRefused, match="takes images of shape 1x2x2, got 3x8x8"):
        evaluate(convert(graph, thresholds, neuron="if", steps=2), small)


def test_logits_that_are_not_finite() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 3), float("nan"))

    with pytest.raises(DataRefused, match="logits of the ANN are not all finite"):
        measured(against=Broken().eval())


def test_at_least_one_seed() -> None:
    with pytest.raises(UsageError, match="at least one seed, got 0"):
        measured(seeds=0)
