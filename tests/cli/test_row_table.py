import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snnconvert.cli.row_table import engineering, flat, recognise_csv, table, write_csv
from snnconvert.converter.errors import Refused
from snnconvert.evaluation import Row

NONE = np.zeros(1, np.int64)
ANN = Row("net, large", "ann", "", 92.5, (91.0, 94.0), 2000, NONE, NONE, macs=8_347_840, energy={"lemaire": 4.248e8})
SNN = Row(
    *("x", "direct", "mt-lif", 90.0, (88.0, 92.0), 2000, NONE, NONE),
    top1_std=0.5,
    seeds=3,
    steps=4,
    end_to_end_steps=4,
    first_answer=1,
    interval=4,
    levels_per_step=2,
    spike_type="binary",
    neurons=100,
    spikes_per_neuron=0.25,
    synaptic_operations=4.2e6,
    macs=432_896,
    operations_images=500,
    weight_bits=77,
    energy={"horowitz-45nm": 6.2e6, "lemaire": 3.2e8},
    cost={"kind": "training", "seconds": 812.3, "images": 55000, "epochs": 15},
)


def test_the_table_in_words() -> None:
    made = table("title", [ANN, SNN])
    ann, snn = (dict(zip(made.columns, row, strict=True)) for row in made.rows)
    assert (made.title, made.words) == ("title", 4)
    assert snn == {
        "network": "x",
        "kind": "direct",
        "method": "mt-lif",
        "spikes": "binary",
        "T": "4",
        "end to end": "4",
        "levels/step": "2",
        "top-1": "90.00 ± 0.50",
        "95 % interval": "[88.0, 92.0]",
        "spikes/neuron": "0.250",
        "synaptic ops": "4.2 M",
        "MACs": "432.9 k",
        "horowitz-45nm": "6.2 uJ",
        "lemaire": "320 uJ",
        "weights": "77 bit",
        "made in": "812.3 s",
    }
    known = {name: text for name, text in ann.items() if text}
    assert known == {
        "network": "net, large",
        "kind": "ann",
        "top-1": "92.50",
        "95 % interval": "[91.0, 94.0]",
        "MACs": "8.348 M",
        "lemaire": "424.8 uJ",
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 J"),
        (1.5e-12, "1.5 pJ"),
        (2e-9, "2 nJ"),
        (0.0042, "4.2 mJ"),
        (999, "999 J"),
        (1000, "1 kJ"),
        (2.5e9, "2.5 GJ"),
        (3e15, "3000 TJ"),
        (None, ""),
    ],
)
def test_engineering_numbers(value: float | None, text: str) -> None:
    assert engineering(value, "J") == text


def test_columns_are_flat_and_name_their_units() -> None:
    line = flat(SNN)
    assert line == {
        "name": "x",
        "kind": "direct",
        "method": "mt-lif",
        "top1_percent": 90.0,
        "top1_std_points": 0.5,
        "ci95_low_percent": 88.0,
        "ci95_high_percent": 92.0,
        "images": 2000,
        "seeds": 3,
        "steps": 4,
        "end_to_end_steps": 4,
        "first_answer_steps": 1,
        "interval_steps": 4,
        "levels_per_step": 2,
        "spike_type": "binary",
        "neurons": 100,
        "spikes_per_neuron": 0.25,
        "synaptic_operations": 4.2e6,
        "macs": 432_896,
        "operations_images": 500,
        "weight_bits": 77,
        "energy_horowitz-45nm_picojoules": 6.2e6,
        "energy_lemaire_picojoules": 3.2e8,
        "cost_kind": "training",
        "cost_seconds": 812.3,
        "cost_images": 55000,
        "cost_epochs": 15,
    }
    assert list(flat(ANN)) == list(line)


def test_a_file_comes_back_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write_csv(path, [ANN, SNN])
    with path.open(newline="") as file:
        ann, snn = csv.DictReader(file)
    assert snn == {name: "" if value is None else str(value) for name, value in flat(SNN).items()}
    assert (ann["name"], ann["steps"], ann["cost_kind"], ann["energy_horowitz-45nm_picojoules"]) == (
        *("net, large", "", ""),
        "",
    )
    recognise_csv(path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write_csv(path, [ANN])
    assert [each.name for each in tmp_path.iterdir()] == ["rows.csv"]
    before = path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        write_csv(path, [ANN, replace(ANN, name="\udcff")])
    assert path.read_bytes() == before
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_csv(folder, [ANN])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder.csv", "rows.csv"]


@pytest.mark.parametrize("text", ["", "name,grade\n", "kind,name\n", "\x00\n"])
def test_other_files_are_not_taken_for_rows(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(Refused, match="x does not begin with the columns of a comparison"):
        recognise_csv(tmp_path / "x")
