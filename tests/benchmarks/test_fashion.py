"""The table of Fashion-MNIST in docs and README is that of the log, and the log is of the networks that are shipped."""

import json
import sys
from pathlib import Path

import pytest

from snnconvert.converter.artifact import load
from snnconvert.model_zoo import shipped

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from fashion import CONVERSIONS, METHODS, page  # noqa: E402

LOG = ROOT / "docs" / "fashion.json"
DOCUMENT = json.loads(LOG.read_text())
ROWS = {row["name"]: row for row in DOCUMENT["rows"] if row["kind"] in ("converted", "direct")}


def test_the_page_is_that_of_the_log() -> None:
    assert LOG.with_suffix(".md").read_text() == page(DOCUMENT)


def test_every_shipped_network_has_a_row_and_every_conversion() -> None:
    assert set(ROWS) == set(shipped()) | {each.name for each in CONVERSIONS}
    assert {load(path)[1]["training"]["method"] for path in shipped().values()} == set(METHODS)
    assert {"ann", "quantised"} < {row["kind"] for row in DOCUMENT["rows"]}


def test_every_network_is_compared_with_the_ann() -> None:
    compared = {pair["second"] for pair in DOCUMENT["pairs"] if pair["first"] == DOCUMENT["rows"][0]["name"]}
    assert {name for name in ROWS if not name.endswith("of-qcfs")} <= compared


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_network_is_small_and_says_how_it_was_trained(name: str) -> None:
    path = shipped()[name]
    assert path.stat().st_size < 1_000_000
    model, about = load(path)
    training = about["training"]
    assert name == f"fashion-{training['method']}-T{model.steps}"
    assert training["command"].startswith(f"snnconvert train {training['method']} ")
    assert (training["data"], training["split"], training["seed"]) == ("fashion-mnist", "train", 0)
    assert ROWS[name]["cost"]["seconds"] == training["seconds"]
    assert ROWS[name]["steps"] == model.steps


def test_shipped_networks_are_light_together() -> None:
    assert sum(path.stat().st_size for path in shipped().values()) < 8_000_000


def test_readme_shows_rows_of_the_log() -> None:
    readme = (ROOT / "README.md").read_text().splitlines()
    (start,) = (n for n, line in enumerate(readme) if line.startswith("| Fashion-MNIST, ANN"))
    ann = DOCUMENT["rows"][0]["top1"]
    heading = [cell.strip() for cell in readme[start].split("|")[1:-1]]
    assert heading[0] == f"Fashion-MNIST, ANN {ann:.2f}"
    steps = [int(cell.removeprefix("T=")) for cell in heading[1:5]]
    shown = {}
    for line in readme[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.split("|")[1:-1])
        shown[_kind(name)] = dict(zip(steps, cells[:4], strict=True))
    rows = {(row["method"], _variant(row["name"]), row["steps"]): row for row in ROWS.values()}
    assert set(shown) == {kind[:2] for kind in rows}
    for kind, cells in shown.items():
        for t, cell in cells.items():
            row = rows.get((*kind, t))
            deviation = f" ± {row['top1_std']:.2f}" if row and row["top1_std"] else ""
            assert cell == (f"{row['top1']:.2f}{deviation}" if row else ""), (kind, t)


def _kind(cell: str) -> tuple[str, str]:
    """Return the method and how it was converted, of the first cell of a row in README."""
    variant = "best" if "recipe best" in cell else "of-qcfs" if "from qcfs" in cell else ""
    return cell.partition(",")[0], variant


def _variant(name: str) -> str:
    return next((end for end in ("best", "of-qcfs") if name.endswith(f"-{end}")), "")


def test_other_seeds_are_of_networks_that_are_shipped() -> None:
    trained = {(row["method"], row["steps"]) for row in ROWS.values() if row["kind"] == "direct"}
    assert {(each["method"], each["steps"]) for each in DOCUMENT["repeats"]} <= trained
    assert all(each["seed"] > 0 for each in DOCUMENT["repeats"])
