"""Learning that ruins a network: it begins anew with smaller rates, or is not kept."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snnconvert.calibration import learning
from snnconvert.calibration.reconstruction import Progress, reconstruct
from snnconvert.calibration.settings import Settings
from snnconvert.calibration.student import Student
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.thresholds import Thresholds

FAST = Settings(weight_rate=1e-2, threshold_rate=1e-2)


class Stop(Exception):
    """Raised inside ``report``."""


def batches(x: Tensor) -> Any:
    def of(epoch: int) -> Iterable[Tensor]:
        return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))].split(50)

    return of


def loss(graph: PreparedGraph, given: Thresholds, x: Tensor, settings: Settings, neuron: str = "two-phase") -> float:
    """Return the loss on the batches that learning compares, as the moments before it does."""
    student = Student(graph, given, neuron, settings, {})
    return sum(float(student.loss((part,)).detach()) for part in list(batches(x)(0))[:4]) / 4


def same(a: Thresholds, b: Thresholds) -> bool:
    """Return whether thresholds, corrections and weights are bit-equal."""
    parts = [
        {**t.values, **t.weights, **{(k, i): x for k, c in t.corrections.items() for i, x in enumerate(c)}}
        for t in (a, b)
    ]
    one, other = ({key: x for key, x in part.items() if x is not None} for part in parts)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("iterations", [1, 2, 100])
@pytest.mark.parametrize("rate", [0.01, 0.3, 1e30])
def test_no_rate_and_no_number_of_steps_makes_the_loss_grow(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, rate: float, iterations: int
) -> None:
    settings = replace(FAST, iterations=iterations, weight_rate=rate, threshold_rate=rate)
    told: list[Progress] = []
    given = many[:800]
    found = reconstruct(graph, thresholds, batches(given), neuron="two-phase", settings=settings, report=told.append)
    about = found.source["corrections"][-1]
    rates = about["rates"]
    assert about["loss_before"] == pytest.approx(loss(graph, thresholds, given, settings), rel=1e-3)
    assert about["loss"] == pytest.approx(loss(graph, found, given, settings), rel=1e-3)
    assert about["loss"] <= about["loss_before"]
    assert min(p.rates for p in told) == rates
    words = f"with 1/{1 / rates:.0f} of them"
    if not about["kept"]:
        assert rates == 1 / 16
        assert same(found, thresholds)
        assert found.warnings == (
            f"the recipe's rates of learning made the loss grow, even {words}: nothing learned is kept",
        )
    else:
        assert not same(found, thresholds)
        assert told[-1].done == iterations
        grew = (f"the recipe's rates of learning made the loss grow: learned {words}",)
        assert found.warnings == (grew if rates < 1 else ())
    if iterations == 100:
        assert (about["kept"], rates < 1) == {0.01: (True, False), 0.3: (True, True), 1e30: (False, True)}[rate]


@pytest.mark.parametrize("neuron", ["tpp", "if"])
def test_what_ruins_other_neurons_is_not_kept(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, neuron: str
) -> None:
    settings = replace(FAST, iterations=4, weight_rate=1e9, threshold_rate=50.0)
    found = reconstruct(graph, thresholds, batches(many[:200]), neuron=neuron, settings=settings)
    assert same(found, thresholds)
    assert not found.source["corrections"][-1]["kept"]


def test_after_an_interruption_rates_stay_smaller(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "_SAVE_EVERY", -1.0)
    settings = replace(FAST, iterations=30, weight_rate=0.3, threshold_rate=0.3)

    def halt(progress: Progress) -> None:
        if progress.rates < 1 and progress.done == 5:
            raise Stop

    def run(**more: Any) -> Thresholds:
        return reconstruct(graph, thresholds, batches(many[:200]), neuron="two-phase", settings=settings, **more)

    whole = run()
    with pytest.raises(Stop):
        run(checkpoint=tmp_path / "state", report=halt)
    found = run(checkpoint=tmp_path / "state")
    assert whole.source["corrections"][-1]["rates"] < 1
    assert same(found, whole)
    assert (found.source, found.warnings) == (whole.source, whole.warnings)
