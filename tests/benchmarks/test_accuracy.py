"""The accuracies in docs and README are those of the log, and the log is of the recipes that are here."""

import re
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from accuracy import _recipe, document, fingerprint, read  # noqa: E402

LOG = ROOT / "docs" / "accuracy.jsonl"
CELLS = read(LOG)


def learned(cell: dict[str, Any]) -> dict[str, Any]:
    """Return the iterations and the hint that a cell states."""
    step = next((step for step in cell["corrections"] if step["name"] == "reconstruction"), {})
    return {"iterations": step.get("iterations"), "hint": step.get("hint", 0.0)}


def learned_by(recipe: str) -> dict[str, Any]:
    """Return those of a recipe as it is."""
    settings = _recipe(recipe, Namespace(iterations=None, hint=None)).reconstruction
    return {"iterations": getattr(settings, "iterations", None), "hint": getattr(settings, "hint", 0.0)}


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: f"{c['network']}-{c['neuron']}-{c['T']}-{c['recipe']}")
def test_a_cell_is_of_the_recipe_as_it_is(cell: dict[str, Any]) -> None:
    assert cell["made_by"] == fingerprint(_recipe(cell["recipe"], Namespace(**learned(cell))))


def test_the_page_is_that_of_the_log() -> None:
    assert LOG.with_suffix(".md").read_text() == document(CELLS)


def test_readme_shows_cells_of_the_log() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = [line.split("|") for line in readme.splitlines() if "`best`" in line or "`fast` |" in line]
    rows = [[cell.strip() for cell in line[1:-1]] for line in shown if len(line) == 8]
    assert len(rows) >= 4
    for name, *columns in rows:
        neuron, recipe = name.split(",")[0], "best" if "best" in name else "fast"
        stated = re.search(r"([\d,]+) iterations", name)
        wanted = learned_by(recipe)
        wanted |= {"iterations": int(stated[1].replace(",", ""))} if stated else {}
        wanted |= {"hint": 100.0} if "with hints" in name else {}
        for steps, value in zip((1, 2, 4, 8, 16), columns, strict=True):
            matching = [
                c
                for c in CELLS
                if (c["network"], c["neuron"], c["T"], c["recipe"]) == ("cifar10_resnet20", neuron, steps, recipe)
                and (c["calibration_seed"], learned(c)) == (0, wanted)
            ]
            expected = [f"{c['snn']:.2f}" + ("" if c["std"] is None else f" ± {c['std']:.2f}") for c in matching]
            assert ([value] if value else []) == expected, (name, steps)
