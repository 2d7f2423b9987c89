"""The main job on a real checkpoint and real images; needs the shared folder, and skips without it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snnconvert import convert, evaluate, load_model, observe, open_dataset, prepare, thresholds_from_batch_norm
from snnconvert.calibration import Calibration
from snnconvert.converter.graph import PreparedGraph
from snnconvert.model_zoo import ImageData

SHARED = Path(os.environ.get("SNNCONVERT_SHARED", Path(__file__).parents[2] / "shared"))
NEEDED = ("weights/cifar10_resnet20.pt", "data/cifar10_train_0.npz", "data/cifar10_test.npz")
IMAGES = 500

pytestmark = pytest.mark.skipif(
    not all((SHARED / name).exists() for name in NEEDED), reason=f"{SHARED} lacks one of {', '.join(NEEDED)}"
)


@pytest.fixture(scope="module")
def opened() -> tuple[PreparedGraph, Calibration, ImageData]:
    """Return ResNet-20 prepared, calibrated on 1,000 training images, and the test images."""
    loaded = load_model(str(SHARED / NEEDED[0]))
    assert (loaded.name, loaded.classes) == ("zoo:resnet20", 10)
    train, test = (
        open_dataset(str(SHARED / name), split="test", preprocessing=loaded.preprocessing) for name in NEEDED[1:]
    )
    graph = prepare(loaded.model, next(test.batches(2))[0])
    assert len(graph.sites) == 19
    return graph, observe(graph, train.batches(100, limit=1000)), test


def batches(test: ImageData) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    return test.batches(100, limit=IMAGES)


@pytest.mark.parametrize(
    ("neuron", "steps", "drop"),
    [("two-phase", 8, 5), ("two-phase", 32, 1.5), ("tpp", 8, 17), ("tpp", 32, 2.5), ("if", 8, 30)],
)
def test_accuracy_is_near_the_anns(
    opened: tuple[PreparedGraph, Calibration, ImageData], neuron: str, steps: int, drop: float
) -> None:
    graph, calibration, test = opened
    model = convert(graph, calibration.thresholds(graph, steps=steps), neuron=neuron, steps=steps)
    found = evaluate(model, batches(test))
    assert found.ann.top1 > 89
    assert found.snn.difference.points > -drop


def test_thresholds_without_data_serve(opened: tuple[PreparedGraph, Calibration, ImageData]) -> None:
    graph, _, test = opened
    for neuron, drop in (("two-phase", 11), ("tpp", 24)):
        model = convert(graph, thresholds_from_batch_norm(graph, steps=8), neuron=neuron, steps=8)
        assert evaluate(model, batches(test)).snn.difference.points > -drop


def test_the_executors_differ_in_few_counts_of_float32_and_in_no_class(
    opened: tuple[PreparedGraph, Calibration, ImageData],
) -> None:
    graph, calibration, test = opened
    model = convert(graph, calibration.thresholds(graph, steps=8), neuron="two-phase", steps=8)
    images, _, index = next(test.batches(20))
    reference = model.activity(images, index=index, executor="steps")
    for executor in ("counts", "layers"):
        found = model.activity(images, index=index, executor=executor)
        different = sum(int((found[name] != reference[name]).sum()) for name in reference)
        assert different < 1e-3 * sum(counts.numel() for counts in reference.values())
        classes = [model(images, index=index, executor=e).argmax(1) for e in (executor, "steps")]
        assert torch.equal(*classes)
