"""Two and three processes find what one finds: bit for bit in an observation, to rounding in a reconstruction."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration import Calibration, learning, observe, observe_halves
from snnconvert.calibration.reconstruction import Progress, reconstruct
from snnconvert.calibration.settings import Settings
from snnconvert.converter import processes
from snnconvert.converter.errors import SnnconvertError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.shares import Numbered
from snnconvert.converter.thresholds import Thresholds

SETTINGS = Settings(iterations=6, weight_rate=1e-3, threshold_rate=1e-3, mixed=False)
STEPS = 4


def network() -> PreparedGraph:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5), nn.ReLU())
    return prepare(nn.Sequential(model, nn.Linear(5, 3)).eval(), torch.randn(2, 1, 6, 6))


def batches() -> list[Tensor]:
    x = torch.randn(23, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return list((x * torch.linspace(0.1, 20, 23)[:, None, None, None]).split(3))  # bins grow on the way


def observations() -> list[Calibration]:
    graph, given = network(), batches()
    read: list[int] = []

    def some(numbers: list[int]) -> Iterator[Tensor]:
        for number in numbers:
            read.append(number)
            yield given[number]

    found = [observe(graph, given, about={"data": "noise"}), observe(graph, Numbered(some, len(given)), sample=2)]
    assert read == list(range(len(given)))[processes.rank() :: processes.count()]
    return [*found, observe(graph, iter(given), images=17), *observe_halves(graph, given, sample=3)]


def assert_same(one: Calibration, other: Calibration) -> None:
    assert (one.images, one.sha256, one.about, one.warnings) == (
        other.images,
        other.sha256,
        other.about,
        other.warnings,
    )
    assert (one.weights, list(one.histograms)) == (other.weights, list(other.histograms))
    for name in one.histograms:
        for mine, its in ((one.histograms, other.histograms), (one.moments, other.moments)):
            for field, value in vars(mine[name]).items():
                equal = torch.equal if isinstance(value, Tensor) else bool.__eq__
                assert equal(value, vars(its[name])[field]), (name, field)


@pytest.mark.parametrize("count", [2, 3])
def test_an_observation_does_not_depend_on_the_number_of_processes(
    together: Callable[..., list[Any]], count: int
) -> None:
    alone = observations()
    for found in together(observations, count=count):
        for one, other in zip(alone, found, strict=True):
            assert_same(one, other)


def refusals() -> list[str]:
    graph, given = network(), batches()
    given[1] = given[1] * torch.nan
    few = [given[0][:1]] * 2
    found = []
    for wrong in (given, [], [given[0], given[0][..., :5]], few):
        try:
            observe_halves(graph, wrong)
            found.append("")
        except SnnconvertError as error:
            found.append(f"{type(error).__name__}: {error.message}")
    return found


def test_what_one_process_refuses_all_refuse(together: Callable[..., list[Any]]) -> None:
    alone = refusals()
    assert [text.split(": ")[0] for text in alone] == ["CalibrationRefused", "CalibrationRefused", "DataRefused", ""]
    assert together(refusals) == [alone, alone]


def learned(neuron: str, size: int, checkpoint: Path | None = None, stop: int = -1, worse: float = math.inf) -> Any:
    """Return thresholds, weights and losses after learning, which may get ``worse``; of an interrupted run nothing."""
    graph = network()
    x = torch.randn(23, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    values = {site.name: torch.full((site.channels,), 1.5) for site in graph.sites}
    losses = []

    def report(progress: Progress) -> None:
        losses.append(progress.loss)
        if progress.done == stop:
            raise KeyboardInterrupt

    before = learning._SAVE_EVERY, learning._FAR_WORSE, learning._WORSE
    learning._SAVE_EVERY, learning._FAR_WORSE, learning._WORSE = -1.0, math.inf, worse
    given = Thresholds(values, STEPS, "given", "channel")
    options: dict[str, Any] = {"neuron": neuron, "settings": SETTINGS, "checkpoint": checkpoint, "report": report}
    try:
        found = reconstruct(graph, given, lambda epoch: x.roll(epoch, 0).split(size), **options)
    except KeyboardInterrupt:
        return None
    finally:
        learning._SAVE_EVERY, learning._FAR_WORSE, learning._WORSE = before
    return replace(found, corrections={name: tuple(c) for name, c in found.corrections.items()}), losses


@pytest.mark.parametrize("neuron", ["two-phase", "if"])
@pytest.mark.parametrize("size", [8, 11])  # of the last batches one process has all rows
def test_learning_in_two_processes_is_learning_in_one(
    together: Callable[..., list[Any]], neuron: str, size: int
) -> None:
    one, losses = learned(neuron, size)
    (first, told), (second, also_told) = together(learned, neuron, size)
    assert told == also_told == pytest.approx(losses, rel=1e-5)
    for name, theta in one.values.items():
        assert torch.allclose(first.values[name], theta, rtol=1e-5)
        assert torch.equal(first.values[name], second.values[name])
        assert torch.allclose(first.corrections[name][0], one.corrections[name][0], rtol=1e-4, atol=1e-6)
    for name, weight in one.weights.items():
        assert torch.allclose(first.weights[name], weight, rtol=1e-4, atol=1e-5)
        assert torch.equal(first.weights[name], second.weights[name])
    assert first.source == second.source
    assert first.source["corrections"][0]["images"] == 23


def test_two_processes_make_rates_smaller_together(together: Callable[..., list[Any]]) -> None:
    one, losses = learned("two-phase", 8, worse=1.0)
    (first, told), (second, also_told) = together(learned, "two-phase", 8, None, -1, 1.0)
    about = [found.source["corrections"][0] for found in (one, first, second)]
    assert [each["rates"] for each in about] == [about[0]["rates"]] * 3
    assert about[0]["rates"] < 1
    assert told == also_told == pytest.approx(losses, rel=1e-5)


def interrupted(path: Path) -> Any:
    assert learned("tpp", 11, path, stop=4) is None
    processes.gather(lambda: None)  # nobody goes on before the checkpoint is there
    assert path.exists()
    found, losses = learned("tpp", 11, path)
    whole, _ = learned("tpp", 11)
    processes.gather(lambda: None)
    alike = all(torch.equal(theta, whole.values[name]) for name, theta in found.values.items())
    return alike, len(losses), path.exists(), losses[-1]


def test_an_interrupted_run_of_two_processes_ends_as_if_it_had_not_been(
    together: Callable[..., list[Any]], tmp_path: Path
) -> None:
    first, second = together(interrupted, tmp_path / "state")
    assert first == second == (True, 2, False, first[3])


def test_another_number_of_processes_goes_on(together: Callable[..., list[Any]], tmp_path: Path) -> None:
    assert together(learned, "two-phase", 11, tmp_path / "state", 4) == [None, None]
    found, losses = learned("two-phase", 11, tmp_path / "state")
    assert len(losses) == 2
    whole, _ = learned("two-phase", 11)
    assert all(torch.allclose(theta, whole.values[name], rtol=1e-5) for name, theta in found.values.items())
