from collections.abc import Callable
from pathlib import Path
from typing import Any

from snnconvert.converter.artifact import load


def test_an_artefact(run: Callable[..., Any], artefacts: dict[str, Path]) -> None:
    result = run("show", artefacts["tpp"])
    assert result.code == 0, result.stderr
    model, about = load(artefacts["tpp"])
    for said in ("tpp", about["model"]["name"], about["versions"]["torch"], about["calibration"]["sha256"]):
        assert said in result.stdout
    assert all(name in result.stdout for name in model.thresholds.values)


def test_an_artefact_in_json(run: Callable[..., Any], artefacts: dict[str, Path]) -> None:
    found = run("show", artefacts["if"], "--json").document
    model, about = load(artefacts["if"])
    assert found["about"] == about
    assert (found["neuron"], found["steps"], found["notes"]) == ("if", 4, list(model.graph.notes))
    for site in found["sites"]:
        theta = model.thresholds.values[site["name"]]
        spread = {"min": float(theta.min()), "median": float(theta.median()), "max": float(theta.max())}
        assert site["threshold"] == spread | {"count": theta.numel()}


def test_a_calibration(run: Callable[..., Any], calibration: Path) -> None:
    assert "fashion-mnist-sample" in run("show", calibration).stdout
    found = run("show", calibration, "--json").document
    assert (found["images"], found["about"]["data"]) == (100, "fashion-mnist-sample")
