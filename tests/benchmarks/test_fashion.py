"""The table of Fashion-MNIST in docs and README is that of the log, and the log is of the networks that are shipped."""

import json
import sys
from pathlib import Path

import pytest

from snnconvert.converter.artifact import load
from snnconvert.model_zoo import shipped

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from fashion import METHODS, NEURONS, STEPS, page  # noqa: E402

LOG = ROOT / "docs" / "fashion.json"
DOCUMENT = json.loads(LOG.read_text())
ROWS = {(row["method"], row["steps"]): row for row in DOCUMENT["rows"] if row["kind"] in ("converted", "direct")}


def test_the_page_is_that_of_the_log() -> None:
    assert LOG.with_suffix(".md").read_text() == page(DOCUMENT)


def test_every_shipped_network_has_a_row_and_every_conversion() -> None:
    trained = {(load(path)[1]["training"]["method"], load(path)[0].steps) for path in shipped().values()}
    assert set(ROWS) == trained | {(neuron, steps) for neuron in NEURONS for steps in STEPS}
    assert {method for method, _ in trained} == set(METHODS)


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_network_is_small_and_says_how_it_was_trained(name: str) -> None:
    path = shipped()[name]
    assert path.stat().st_size < 1_000_000
    model, about = load(path)
    training = about["training"]
    assert name == f"fashion-{training['method']}-T{model.steps}"
    assert training["command"].startswith(f"snnconvert train {training['method']} ")
    assert (training["data"], training["split"], training["seed"]) == ("fashion-mnist", "train", 0)
    assert ROWS[training["method"], model.steps]["cost"]["seconds"] == training["seconds"]


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
        shown[name.partition(",")[0]] = dict(zip(steps, cells[:4], strict=True))
    assert set(shown) == {method for method, _ in ROWS}
    for method, cells in shown.items():
        for t, cell in cells.items():
            row = ROWS.get((method, t))
            deviation = f" ± {row['top1_std']:.2f}" if row and row["top1_std"] else ""
            assert cell == (f"{row['top1']:.2f}{deviation}" if row else ""), (method, t)
