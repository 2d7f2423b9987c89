"""Thresholds know which network and which window they are for."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.errors import CalibrationRefused
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.thresholds import Thresholds


@pytest.fixture
def graph() -> PreparedGraph:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU6(), nn.Linear(5, 2))
    return prepare(model.eval(), torch.randn(2, 3))


@pytest.fixture
def thresholds() -> Thresholds:
    values = {"1": torch.ones(4), "3": torch.full((1,), 6.0)}
    return Thresholds(values, 8, "mse", "channel", {"images": 10}, ("a warning",))


def test_thresholds_that_fit_pass(graph: PreparedGraph, thresholds: Thresholds) -> None:
    thresholds.check(graph, 8, "if")
    replace(thresholds, steps=None).check(graph, 3, "if")


def test_another_window_is_refused(graph: PreparedGraph, thresholds: Thresholds) -> None:
    with pytest.raises(CalibrationRefused, match="these mse thresholds were computed for T=8, got T=4\nhint: compute"):
        thresholds.check(graph, 4, "if")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"3": None}, r"1 of 2 sites have none \(3\), 0 have no site \(-\)"),
        ({"5": torch.ones(1)}, r"0 of 2 sites have none \(-\), 1 have no site \(5\)"),
        ({"1": torch.ones(5)}, r"1 has 4 channels, its thresholds have shape \[5\]"),
        ({"1": torch.ones(4, 1)}, r"1 has 4 channels, its thresholds have shape \[4, 1\]"),
        ({"1": torch.tensor(1.0)}, r"its thresholds have shape \[\]"),
        ({"1": torch.zeros(4)}, r"1: a threshold must be a positive number, got 0.0"),
        ({"1": torch.tensor([1.0, -2.5, 1.0, 1.0])}, r"1: a threshold must be a positive number, got -2.5"),
        ({"1": torch.tensor([torch.nan])}, "1: a threshold is NaN or infinite"),
        ({"1": torch.tensor([torch.inf])}, "1: a threshold is NaN or infinite"),
        ({"3": torch.tensor([1.0, 6.5, 2.0, 3.0, 4.0])}, "3 passes at most 6, but a threshold is 6.5"),
    ],
)
def test_thresholds_that_do_not_fit_are_refused(
    graph: PreparedGraph, thresholds: Thresholds, change: dict[str, Tensor | None], message: str
) -> None:
    values = {name: theta for name, theta in (thresholds.values | change).items() if theta is not None}
    with pytest.raises(CalibrationRefused, match=message):
        replace(thresholds, values=values).check(graph, 8, "if")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_they_take_the_type_of_the_network(graph: PreparedGraph, thresholds: Thresholds, dtype: torch.dtype) -> None:
    graph.module.to(dtype)
    found = thresholds.to(graph)
    assert {theta.dtype for theta in found.values.values()} == {dtype}
    assert replace(found, values=thresholds.values) == thresholds
