from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snnconvert.model_zoo import load_model, open_dataset

MODEL, DATA = "zoo:fashion-resnet8", "fashion-mnist-sample"


def test_the_data_are_those_of_the_calibration(run: Callable[..., Any], artefacts: dict[str, Path]) -> None:
    result = run("eval", artefacts["tpp"], "--images", 60, "--seeds", 2, "--json", "--quiet")
    assert (result.code, result.stderr) == (0, "")
    found = result.document
    assert found["data"] == {"name": DATA, "split": "test"}
    assert (found["images"], found["seeds"], found["neuron"], found["steps"]) == (60, 2, "tpp", 4)
    assert found["snn"]["ci95"][0] < found["snn"]["top1"] < found["snn"]["ci95"][1]
    assert found["by_t"] is None


def test_the_anns_accuracy_is_the_models_own(run: Callable[..., Any], artefacts: dict[str, Path]) -> None:
    loaded = load_model(MODEL)
    data = open_dataset(DATA, split="test", preprocessing=loaded.preprocessing)
    with torch.no_grad():
        right = [loaded.model(x).argmax(1).eq(y) for x, y, _ in data.batches(100, limit=100, seed=3)]
    found = run("eval", artefacts["two-phase"], "--images", 100, "--seed", 3, "--json").document
    assert found["ann"]["top1"] == pytest.approx(100 * float(torch.cat(right).float().mean()))


def test_streaming_networks_answer_at_every_step(run: Callable[..., Any], artefacts: dict[str, Path]) -> None:
    found = run("eval", artefacts["if"], "--images", 40, "--json").document
    assert len(found["by_t"]) == 4
    assert found["by_t"][-1] == found["snn"]["top1"]
    assert "top-1 after t steps" in run("eval", artefacts["if"], "--images", 40).stdout


def test_several_artefacts_make_one_table(run: Callable[..., Any], artefacts: dict[str, Path]) -> None:
    words = ["eval", *artefacts.values(), "--images", 40]
    result = run(*words)
    lines = [line.split()[0] for line in result.stdout.splitlines() if "fashion" in line and "images" not in line]
    assert lines[:4] == ["ANN", *(path.stem for path in artefacts.values())]
    documents = run(*words, "--json").document["evaluations"]
    assert [each["neuron"] for each in documents] == list(artefacts)
    assert len({each["ann"]["top1"] for each in documents}) == 1


@pytest.mark.parametrize("executor", ["counts", "layers", "steps"])
def test_executors_agree(run: Callable[..., Any], artefacts: dict[str, Path], executor: str) -> None:
    words = ["eval", artefacts["two-phase"], "--images", 30, "--json"]
    found = run(*words, "--executor", executor).document
    assert found["executor"] == executor
    assert found["snn"] == run(*words).document["snn"]


def test_an_executor_that_cannot_run_the_network(run: Callable[..., Any], artefacts: dict[str, Path]) -> None:
    result = run("eval", artefacts["if"], "--executor", "counts", "--images", 10)
    assert result.code == 2
    assert "counts executor needs two-phase neurons" in result.stderr


def test_a_missed_bar_is_exit_code_4_with_the_figures(run: Callable[..., Any], artefacts: dict[str, Path]) -> None:
    words = ["eval", artefacts["if"], "--images", 100, "--json", "--quiet"]
    assert run(*words, "--max-drop", 100).code == 0
    found = run(*words)
    drop = found.document["ann"]["top1"] - found.document["snn"]["top1"]
    assert drop > 0, "the bar below needs a network that is worse than its ANN"
    assert run(*words, "--max-drop", drop).code == 0
    missed = run(*words, "--max-drop", drop / 2)
    assert missed.code == 4
    assert missed.document["error"]["kind"] == "BarMissed"
    assert missed.document["snn"] == found.document["snn"]
    assert missed.stderr.startswith("error: expected at most")


def test_another_ann_to_compare_with(run: Callable[..., Any], artefacts: dict[str, Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = load_model(MODEL, pretrained=False).model.state_dict()
    torch.save(state, tmp_path / "untrained.pt")
    found = run(
        "eval", artefacts["two-phase"], "--images", 100, "--against", tmp_path / "untrained.pt", "--json"
    ).document
    assert found["ann"]["top1"] < 40
    assert found["snn"]["difference"]["points"] == pytest.approx(found["snn"]["top1"] - found["ann"]["top1"])


def test_an_ann_that_expects_other_images_is_a_warning(
    run: Callable[..., Any], artefacts: dict[str, Path], tmp_path: Path
) -> None:
    run("convert", MODEL, "--mean", "0.5", "-o", tmp_path / "x.snn")
    words = ["eval", tmp_path / "x.snn", "--data", DATA, "--images", 10, "--quiet", "--json"]
    assert run(*words).stderr == ""
    assert "zoo:fashion-resnet8 expects images as 1x28x28, mean (0.286)" in run(*words, "--against", MODEL).stderr


def test_data_of_the_users_own(run: Callable[..., Any], artefacts: dict[str, Path], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    np.savez(
        tmp_path / "mine.npz",
        images=generator.integers(0, 256, (12, 36, 36), np.uint8),
        labels=generator.integers(0, 10, 12),
    )
    words = ["eval", artefacts["tpp"], "--data", tmp_path / "mine.npz", "--json"]
    assert run(*words, "--resize", 28).document["images"] == 12
    assert run(*words).code == 3


def test_without_data_the_images_have_to_be_named(run: Callable[..., Any], tmp_path: Path) -> None:
    run("convert", MODEL, "-o", tmp_path / "x.snn")
    result = run("eval", tmp_path / "x.snn")
    assert result.code == 2
    assert "name the test images with --data" in result.stderr
    assert run("eval", tmp_path / "x.snn", "--data", DATA, "--images", 10).code == 0


def test_the_artefact_is_not_touched(run: Callable[..., Any], artefacts: dict[str, Path]) -> None:
    before = artefacts["tpp"].read_bytes()
    assert run("eval", artefacts["tpp"], "--images", 10).code == 0
    assert artefacts["tpp"].read_bytes() == before


def test_seeds(run: Callable[..., Any], tmp_path: Path, calibration: Path) -> None:
    run("convert", MODEL, "-T", 1, "--calibration", calibration, "--seed", 5, "-o", tmp_path / "x.snn")
    words = ["eval", tmp_path / "x.snn", "--json", "--quiet"]
    assert run(*words, "--seeds", 1, "--images", 20).document["snn"]["top1_std"] is None
    alone, stated, other = (
        run(*words, "--data", DATA, "--images", 100, "--seeds", 2, *flags).document["snn"]
        for flags in ([], ["--seed", 0], ["--seed", 1])
    )
    assert alone["top1_std"] is not None
    assert stated != other
    again = run(*words, "--data", DATA, "--images", 100, "--seeds", 2, "--seed", 0).document["snn"]
    assert again == stated != alone, "the artefact's own seed is 5"


def test_record_writes_the_accuracy_into_the_artefact_and_nothing_else_changes(
    run: Callable[..., Any], artefacts: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.snn"
    copy.write_bytes(artefacts["two-phase"].read_bytes())
    found = run("eval", copy, "--images", 40, "--record", "--json").document
    about = run("show", copy, "--json").document["about"]
    assert about["measured"]["top1"] == found["snn"]["top1"]
    assert about["measured"]["data"] == f"{DATA} (test)"
    assert run("eval", copy, "--images", 40, "--json").document["snn"] == found["snn"]
    assert "measured" not in run("show", artefacts["two-phase"], "--json").document["about"]
