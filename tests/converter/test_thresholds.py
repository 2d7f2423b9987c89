"""Thresholds know which network and which window they are for."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.errors import CalibrationRefused
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import Correction
from snnconvert.converter.thresholds import Thresholds, norms


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


def test_corrections_that_fit_pass(graph: PreparedGraph, thresholds: Thresholds) -> None:
    given = {
        "1": Correction(bias=torch.zeros(4), potential=torch.ones(4), height=torch.ones(1)),
        "3": Correction(bias=torch.zeros(8, 5), height=torch.ones(5)),
    }
    weights = {"_0_weight_value": torch.ones(4, 3), "_4_bias_value": torch.zeros(2)}
    replace(thresholds, corrections=given, weights=weights, neuron="if").check(graph, 8, "if")
    replace(thresholds, corrections={"3": Correction()}).check(graph, 8, "tpp")


def test_a_potential_may_differ_for_each_neuron() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6, 2)).eval()
    graph = prepare(model, torch.randn(2, 1, 4, 5))
    thresholds = Thresholds({"1": torch.ones(1)}, None, "given", "layer")
    for shape in ((4,), (4, 2, 3)):
        replace(thresholds, corrections={"1": Correction(potential=torch.ones(shape))}).check(graph, 8, "if")
    with pytest.raises(CalibrationRefused, match=r"1: expected .* \[4\] or \[4, 2, 3\], got .* \[4, 3, 2\]"):
        replace(thresholds, corrections={"1": Correction(potential=torch.ones(4, 3, 2))}).check(graph, 8, "if")


@pytest.mark.parametrize(
    ("site", "correction", "message"),
    [
        ("2", Correction(), "a correction of 2, which is no site of this network\nhint: calibrate this network again"),
        ("1", Correction(bias=torch.ones(5)), r"1: expected a finite bias of shape \[4\] or \[8, 4\], got .* \[5\]"),
        ("1", Correction(bias=torch.ones(1)), r"bias of shape \[4\] or \[8, 4\], got .* \[1\]"),
        ("1", Correction(bias=torch.ones(7, 4)), r"bias of shape \[4\] or \[8, 4\], got .* \[7, 4\]"),
        ("1", Correction(bias=torch.ones(4, 8)), r"bias of shape \[4\] or \[8, 4\], got .* \[4, 8\]"),
        ("3", Correction(potential=torch.tensor(1.0)), r"3: expected a finite potential of shape \[5\].*got .* \[\]"),
        ("3", Correction(potential=torch.ones(2, 5)), r"finite potential of shape \[5\].*got .* \[2, 5\]"),
        ("3", Correction(height=torch.ones(4)), r"finite height of shape \[1\] or \[5\], got .* \[4\]"),
        ("1", Correction(bias=torch.full((4,), torch.nan)), "1: expected a finite bias .*got NaN or infinity"),
        (
            "1",
            Correction(potential=torch.full((4,), torch.inf)),
            "1: expected a finite potential .*got NaN or infinity",
        ),
        ("3", Correction(height=torch.full((1,), -torch.inf)), "3: expected a finite height .*got NaN or infinity"),
    ],
)
def test_corrections_that_do_not_fit_are_refused(
    graph: PreparedGraph, thresholds: Thresholds, site: str, correction: Correction, message: str
) -> None:
    with pytest.raises(CalibrationRefused, match=message):
        replace(thresholds, corrections={site: correction}).check(graph, 8, "if")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("_0_weight_value", torch.ones(3, 4), "changed weights '_0_weight_value' that do not fit this network"),
        ("_9_weight_value", torch.ones(4, 3), "changed weights '_9_weight_value' that do not fit"),
        ("site_0", torch.ones(1), "changed weights 'site_0' that do not fit"),
        (
            "_0_weight_value",
            torch.full((4, 3), torch.nan),
            "changed weights '_0_weight_value' that are NaN or infinite",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    graph: PreparedGraph, thresholds: Thresholds, name: str, value: Tensor, message: str
) -> None:
    with pytest.raises(CalibrationRefused, match=message):
        replace(thresholds, weights={name: value}).check(graph, 8, "if")


def test_corrections_for_another_neuron_are_refused(graph: PreparedGraph, thresholds: Thresholds) -> None:
    found = replace(thresholds, neuron="two-phase", corrections={"1": Correction(bias=torch.ones(4))})
    found.check(graph, 8, "two-phase")
    message = "corrections for 'two-phase' neurons, got 'tpp'\nhint: correct them again for these neurons"
    with pytest.raises(CalibrationRefused, match=message):
        found.check(graph, 8, "tpp")


def test_corrections_take_the_type_of_the_network_too(graph: PreparedGraph, thresholds: Thresholds) -> None:
    third = torch.tensor([1 / 3] * 4).double()
    weights = {"_0_weight_value": torch.full((4, 3), 1 / 3).double()}
    given = replace(thresholds, corrections={"1": Correction(third, height=third)}, weights=weights, neuron="if")
    found = given.to(graph)
    assert found.corrections["1"].potential is None
    for tensor in (found.corrections["1"].bias, found.corrections["1"].height, found.weights["_0_weight_value"]):
        assert tensor is not None
        assert tensor.dtype == torch.float32
        assert (tensor == torch.tensor(1 / 3)).all()
    assert (found.neuron, found.steps, found.source) == ("if", 8, {"images": 10})
    assert third.dtype == torch.float64


def test_thresholds_of_the_same_sites_with_other_weights_are_refused(
    graph: PreparedGraph, thresholds: Thresholds
) -> None:
    replace(thresholds, network=norms(graph)).check(graph, 8, "tpp")
    nearly = tuple(norm * (1 + 1e-6) for norm in norms(graph))
    replace(thresholds, network=nearly).check(graph, 8, "tpp")
    other = (norms(graph)[0] * 1.01, *norms(graph)[1:])
    with pytest.raises(CalibrationRefused, match="same sites but other weights\nhint: calibrate this network"):
        replace(thresholds, network=other).check(graph, 8, "tpp")


@pytest.mark.parametrize(
    ("bursts", "message"),
    [
        (
            {"2": 4},
            "bursts of 4 spikes at 2: no site, or no whole number from 1 to 256\nhint: calibrate this network again",
        ),
        ({"3": 0}, "bursts of 0 spikes at 3"),
        ({"1": 2, "3": -2}, "bursts of -2 spikes at 3"),
        ({"3": 2.0}, r"bursts of 2\.0 spikes at 3"),
        ({"3": True}, "bursts of True spikes at 3"),
        ({"3": "4"}, "bursts of '4' spikes at 3"),
    ],
)
def test_bursts_that_are_none_are_refused(
    graph: PreparedGraph, thresholds: Thresholds, bursts: dict[str, Any], message: str
) -> None:
    replace(thresholds, bursts={"1": 1, "3": 16}).check(graph, 8, "tpp")
    with pytest.raises(CalibrationRefused, match=message):
        replace(thresholds, bursts=bursts).check(graph, 8, "tpp")


def test_bursts_stay_when_the_type_of_number_changes(graph: PreparedGraph, thresholds: Thresholds) -> None:
    assert replace(thresholds, bursts={"1": 4}).to(graph).bursts == {"1": 4}
