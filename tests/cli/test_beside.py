"""One table of all kinds of networks, its files, and directly trained networks with and without an ANN beside them."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnconvert.cli import beside, measurement, subject
from snnconvert.converter.artifact import load, save
from snnconvert.converter.errors import UsageError
from snnconvert.evaluation import Row
from snnconvert.model_zoo import load_model, open_dataset

MODEL, DATA = "zoo:fashion-resnet8", "fashion-mnist-sample"
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def compared(run: Run, artefacts: dict[str, Path], direct: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three converted networks and a direct one, with --json, --csv and --report."""
    folder = tmp_path_factory.mktemp("compared")
    words = ["eval", artefacts["tpp"], artefacts["if"], "--beside", f"{direct},{artefacts['two-phase']}"]
    words += ["--images", 60, "--seeds", 2, "--seed", 1, "--quiet", "--json"]
    result = run(*words, "--csv", folder / "rows.csv", "--report", folder / "page.html")
    assert (result.code, result.stderr) == (0, "")
    return result.document | {"folder": folder}


def test_rows_of_every_kind(compared: Any) -> None:
    rows = compared["rows"]
    assert [(row["kind"], row["name"]) for row in rows] == [
        ("ann", MODEL),
        ("quantised", f"{MODEL}, 5 levels"),
        *(("converted", f"fashion-{neuron}") for neuron in ("tpp", "if")),
        ("direct", "direct"),
        ("converted", "fashion-two-phase"),
    ]
    assert [row["method"] for row in rows] == ["", "thresholds of fashion-tpp", "tpp", "if", "made-up", "two-phase"]
    assert {row["images"] for row in rows} == {60}
    assert {row["operations_images"] for row in rows if row["kind"] in ("converted", "direct")} == {60}
    assert set(rows[0]["energy"]) == {"horowitz-45nm", "lemaire"}
    assert rows[4]["cost"] == {"kind": "training", "seconds": 12.5, "images": 900, "epochs": 3}
    assert (rows[2]["cost"]["images"], rows[2]["cost"]["seconds"] > 0) == (100, True)


def test_the_evaluations_are_those_without_a_table(compared: Any, run: Run, artefacts: dict[str, Path]) -> None:
    words = ["eval", artefacts["if"], "--images", 60, "--seed", 1, "--json"]
    alone = run(*words).document
    beside = compared["evaluations"][1]
    assert {**alone, "seconds": 0} == {**beside, "seconds": 0}
    assert compared["rows"][3]["top1"] == alone["snn"]["top1"]
    assert compared["rows"][0]["top1"] == alone["ann"]["top1"]
    assert len(compared["evaluations"]) == 4


def test_the_quantised_ann_is_a_two_phase_network_without_corrections(compared: Any) -> None:
    quantised, two_phase = compared["rows"][1], compared["rows"][-1]
    assert quantised["top1"] == two_phase["top1"]  # both have thresholds of the same calibration and nothing else


def test_a_direct_network_is_compared_with_the_ann_of_the_first_converted_one(
    compared: Any, run: Run, direct: Path
) -> None:
    beside = compared["evaluations"][2]
    assert beside["artefact"] == str(direct)
    assert beside["ann"] == compared["evaluations"][0]["ann"]
    assert beside["snn"]["difference"]["points"] == pytest.approx(beside["snn"]["top1"] - beside["ann"]["top1"])
    assert (beside["calibration"], beside["training"]["method"]) == ({}, "made-up")


def test_every_pair_of_rows(compared: Any) -> None:
    names = [row["name"] for row in compared["rows"]]
    expected = [(first, second) for number, first in enumerate(names) for second in names[number + 1 :]]
    assert [(pair["first"], pair["second"]) for pair in compared["pairs"]] == expected
    beside = {(pair["first"], pair["second"]): pair for pair in compared["pairs"]}
    pair = beside[MODEL, "fashion-if"]
    assert pair["agreement"] == pytest.approx(compared["evaluations"][1]["snn"]["agreement"])
    difference = compared["evaluations"][1]["snn"]["difference"]["points"]
    assert pair["only_second"] - pair["only_first"] == pytest.approx(60 * difference / 100)
    assert 0 < pair["p_value"] <= 1


def test_the_csv_has_the_rows(compared: Any) -> None:
    with (compared["folder"] / "rows.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == [row["name"] for row in compared["rows"]]
    for line, row in zip(lines, compared["rows"], strict=True):
        assert float(line["top1_percent"]) == row["top1"]
        assert line["energy_lemaire_picojoules"] == str(row["energy"].get("lemaire", ""))
    assert sorted(path.name for path in compared["folder"].iterdir()) == ["page.html", "rows.csv"]


def test_the_page_shows_every_network(compared: Any) -> None:
    page = (compared["folder"] / "page.html").read_text()
    assert all(row["name"] in page for row in compared["rows"])
    assert f"image {first_image(1)} of {DATA} (test)" in " ".join(page.split())


def first_image(seed: int) -> int:
    data = open_dataset(DATA, split="test", preprocessing=load_model(MODEL).preprocessing)
    return int(next(data.batches(1, limit=60, seed=seed))[2])


def test_the_table(run: Run, artefacts: dict[str, Path], direct: Path) -> None:
    result = run("eval", artefacts["two-phase"], "--beside", direct, "--images", 20)
    assert result.code == 0, result.stderr
    title, names, _, *lines = result.stdout.splitlines()
    assert title == (
        f"fashion-two-phase and 1 more on {DATA} (test), 20 images; "
        "operations and energy of one image, mean over the first 20"
    )
    assert all(name in names for name in ("kind", "T", "top-1", "synaptic ops", "horowitz-45nm", "lemaire"))
    assert [line.split("  ")[0] for line in lines] == [MODEL, f"{MODEL}, 5 levels", "fashion-two-phase", "direct"]
    assert "top-1 after t steps" not in result.stdout


def test_csv_alone_gives_the_rows_of_the_artefacts(run: Run, artefacts: dict[str, Path], tmp_path: Path) -> None:
    words = ["eval", artefacts["if"], "--images", 20, "--json"]
    for _ in range(2):  # an earlier run's file may be written again
        found = run(*words, "--csv", tmp_path / "rows.csv")
        assert found.code == 0, found.stderr
    assert [row["kind"] for row in found.document["rows"]] == ["ann", "quantised", "converted"]
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 4
    assert "rows" not in run(*words).document


def test_operations_are_counted_on_the_first_images(
    run: Run, direct: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("snnconvert.cli.beside.COUNTED", 7)
    words = ["eval", direct, "--json", "--csv", tmp_path / "rows.csv", "--images"]
    many, few = (run(*words, images).document["rows"][0] for images in (50, 7))
    assert (many["images"], many["operations_images"]) == (50, 7)
    assert many["synaptic_operations"] == few["synaptic_operations"]
    monkeypatch.setattr("snnconvert.cli.beside.COUNTED", 50)
    assert run(*words, 50).document["rows"][0]["synaptic_operations"] != few["synaptic_operations"]


def test_two_windows_have_two_quantised_anns(run: Run, calibration: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"t{steps}{name}.snn" for steps, name in ((1, ""), (2, ""), (2, "-again"))]
    for path in paths:
        assert run("convert", MODEL, "-T", path.stem[1], "--calibration", calibration, "-o", path).code == 0
    rows = run("eval", *paths, "--images", 10, "--json", "--csv", tmp_path / "rows.csv").document["rows"]
    assert [row["name"] for row in rows if row["kind"] == "quantised"] == [f"{MODEL}, 2 levels", f"{MODEL}, 3 levels"]
    assert [row["steps"] for row in rows] == [None, 1, 2, 1, 2, 2]


def test_another_ann_has_no_operations(run: Run, artefacts: dict[str, Path], direct: Path, tmp_path: Path) -> None:
    words = ["--images", 10, "--json", "--csv", tmp_path / "rows.csv", "--against", MODEL]
    rows = run("eval", direct, *words).document["rows"]
    assert [row["kind"] for row in rows] == ["ann", "direct"]
    assert (rows[0]["macs"], rows[0]["energy"], rows[0]["name"]) == (None, {}, MODEL)
    rows = run("eval", artefacts["if"], *words).document["rows"]
    assert [(row["kind"], row["macs"] is None) for row in rows[:2]] == [("ann", True), ("quantised", False)]


def test_the_images_are_compared_with_the_calibration_of_the_artefacts(
    run: Run, artefacts: dict[str, Path], calibration: Path, direct: Path
) -> None:
    words = ["eval", artefacts["if"], "--beside", direct, "--calibration", calibration, "--images", 40, "--json"]
    found = run(*words).document["evaluations"]
    assert ["drift" in each for each in found] == [True, False]


def test_a_direct_network_alone_has_no_ann(run: Run, direct: Path) -> None:
    found = run("eval", direct, "--images", 50, "--json").document
    assert (found["ann"], found["snn"]["difference"], found["snn"]["agreement"]) == (None, None, None)
    assert found["snn"]["ci95"][0] < found["snn"]["top1"] < found["snn"]["ci95"][1]
    result = run("eval", direct, "--images", 50)
    assert f"{found['snn']['top1']:.2f}" in result.stdout
    assert "ANN made" not in result.stdout
    assert "trained, 900" in result.stdout


def test_a_direct_network_goes_on_after_an_interruption(
    run: Run, artefacts: dict[str, Path], direct: Path, tmp_path: Path
) -> None:
    words = ["eval", direct, "--images", 40, "--batch-size", 10, "--json", "--resume", tmp_path]
    alone, again = run(*words), run(*words)
    assert "4 of 4 batches" in again.stderr
    assert alone.document["snn"] == again.document["snn"]
    beside = run(*words, artefacts["if"])
    assert "0 of 4 batches" in beside.stderr, "the ANN is another one, so the marks are"
    assert beside.document["evaluations"][0]["ann"] is not None
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()].__len__() == 3


def test_a_bar_needs_an_ann(run: Run, direct: Path, artefacts: dict[str, Path]) -> None:
    result = run("eval", direct, "--images", 10, "--max-drop", 5)
    assert result.code == 2
    assert "--max-drop compares with an ANN, and these networks come from none" in result.stderr
    words = ["eval", direct, "--images", 10, "--max-drop"]
    assert run(*words, 5, "--against", MODEL).code == 4
    assert run(*words, 5, "--beside", artefacts["if"]).code == 4
    assert run(*words, 100, "--beside", artefacts["if"]).code == 0


def test_a_bar_is_for_the_artefacts_and_not_for_those_beside(
    run: Run, direct: Path, artefacts: dict[str, Path]
) -> None:
    words = ["eval", artefacts["two-phase"], "--images", 40, "--max-drop", 30, "--quiet"]
    assert run(*words, "--beside", direct).code == 0
    assert run(*words, direct).code == 4


def test_the_accuracy_of_a_direct_network_is_recorded_without_an_ann(run: Run, direct: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.snn"
    copy.write_bytes(direct.read_bytes())
    found = run("eval", copy, "--images", 30, "--record", "--json").document
    measured = load(copy)[1]["measured"]
    assert measured["top1"] == found["snn"]["top1"]
    assert "ann" not in measured
    assert load(copy)[1]["training"] == load(direct)[1]["training"]


@pytest.fixture
def zoo(direct: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A zoo that ships the direct network, as zoo:fashion-made-up-T2."""
    path = tmp_path / "fashion-made-up-T2.snn"
    path.write_bytes(direct.read_bytes())
    monkeypatch.setattr("snnconvert.model_zoo.spiking.DATA", tmp_path)
    return path


def test_names_are_taken_for_artefacts(run: Run, artefacts: dict[str, Path], zoo: Path, direct: Path) -> None:
    words = ["--images", 30, "--json"]
    alone = run("eval", direct, *words).document["snn"]
    for name in ("zoo:fashion-made-up", "zoo:fashion-made-up-T2"):
        assert run("eval", name, *words).document["snn"] == alone
    assert run("eval", "made-up", "--data", DATA, *words).document["snn"] == alone
    rows = run("eval", artefacts["if"], "--beside", f"made-up,{artefacts['if']}", *words).document["rows"]
    assert [row["name"] for row in rows[2:]] == ["fashion-if", "fashion-made-up-T2"]


def test_a_name_that_nothing_has(run: Run, artefacts: dict[str, Path], zoo: Path) -> None:
    for words in (["dsr"], [artefacts["if"], "--beside", "dsr"]):
        result = run("eval", *words, "--images", 10)
        assert result.code == 2
        assert "no spiking network is called 'dsr'" in result.stderr
        assert "zoo:fashion-made-up-T2" in result.stderr


def test_a_shipped_network_is_not_written_into(run: Run, zoo: Path, direct: Path) -> None:
    before = zoo.read_bytes()
    for word in ("zoo:fashion-made-up", zoo):
        result = run("eval", word, "--images", 10, "--record")
        assert result.code == 2
        assert "fashion-made-up-T2.snn is shipped with snnconvert, so --record does not write into it" in result.stderr
    assert zoo.read_bytes() == before
    measurement.check_recordable([direct])


@pytest.mark.parametrize("flag", ["--csv", "--report"])
def test_a_file_of_something_else_is_not_overwritten(run: Run, direct: Path, tmp_path: Path, flag: str) -> None:
    mine = tmp_path / "mine"
    mine.write_text("name,grade\nme,1\n")
    result = run("eval", direct, "--images", 10, flag, mine)
    assert result.code == 3
    assert f"{mine} exists and is not an earlier output" in result.stderr
    assert f"state another file with {flag}" in result.stderr
    assert "evaluated" not in result.stderr
    assert mine.read_text() == "name,grade\nme,1\n"
    result = run("eval", direct, "--images", 10, flag, tmp_path)
    assert (result.code, "got the folder" in result.stderr) == (2, True)


def test_a_report_may_be_written_again(run: Run, direct: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert run("eval", direct, "--images", 10, "--report", tmp_path / "new" / "page.html").code == 0


def test_artefacts_that_name_different_data(run: Run, direct: Path, artefacts: dict[str, Path], tmp_path: Path) -> None:
    model, about = load(direct)
    about["training"]["data"] = "mnist"
    other = tmp_path / "other.snn"
    save(other, model, about)
    result = run("eval", artefacts["if"], other, "--images", 10)
    assert result.code == 2
    assert "the artefacts name different data sets: fashion-mnist-sample, mnist" in result.stderr
    found = run("eval", artefacts["if"], "--beside", other, "--images", 10, "--json")
    assert {each["data"]["name"] for each in found.document["evaluations"]} == {DATA}
    about["training"]["data"] = "/somewhere"
    save(other, model, about)
    result = run("eval", other)
    assert (result.code, "was not trained on a data set that has a name" in result.stderr) == (2, True)


def test_an_artefact_that_does_not_say_how_it_was_made(run: Run, direct: Path, tmp_path: Path) -> None:
    model, about = load(direct)
    silent = tmp_path / "silent.snn"
    for missing, said in (("training", "calibration"), ("preprocessing", "preprocessing")):
        save(silent, model, {name: value for name, value in about.items() if name != missing})
        for more in ([], ["--data", DATA]):
            result = run("eval", silent, *more)
            assert result.code == 3
            assert f"does not say what its {said} was" in result.stderr


def test_the_first_converted_artefact_is_the_reference(direct: Path, artefacts: dict[str, Path]) -> None:
    found = subject.find_artefacts([str(direct)], [str(direct), str(artefacts["if"]), str(artefacts["tpp"])], None)
    assert found == subject.Chosen([direct], [artefacts["if"], artefacts["tpp"]], artefacts["if"], DATA)
    assert subject.find_artefacts([str(direct)], [], "else").reference is None
    with pytest.raises(UsageError, match="no spiking network is called ''"):
        subject.find_artefacts([str(direct)], [""], None)


def test_processes_share_the_table(
    run: Run, start: Callable[..., list[Any]], direct: Path, artefacts: dict[str, Path], tmp_path: Path
) -> None:
    words = ["eval", artefacts["tpp"], "--beside", direct, "--images", 23, "--batch-size", 4, "--seeds", 2, "--json"]
    texts = [*map(str, words), "--csv", str(tmp_path / "rows.csv")]
    first, second = start(command, *texts, join=False)
    assert [first.wait(), second.wait()] == [0, 0], first.stderr
    assert second.stdout + second.stderr == ""
    alone, found = run(*words).document, json.loads(first.stdout)
    assert found["pairs"] == alone["pairs"]
    for mine, theirs in zip(found["rows"], alone["rows"], strict=True):
        assert mine == {name: pytest.approx(value) for name, value in theirs.items()}
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + len(alone["rows"])


def command(*words: str) -> int:
    from snnconvert.cli.main import main

    return main(list(words))


def test_rows_that_share_a_name_are_numbered() -> None:
    row = Row("net", "ann", "", 90.0, (88.0, 92.0), 1, np.zeros(1, np.int64), np.zeros(1, np.int64))
    names = [each.name for each in beside._distinct([row, replace(row, name="x"), row])]
    assert names == ["net #1", "x", "net #2"]


def test_two_files_are_two_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--csv and --report are both"):
        beside.check_files(tmp_path / "a", tmp_path / "b" / ".." / "a")
