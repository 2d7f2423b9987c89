import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from snnconvert.calibration import learning
from snnconvert.cli import conversion
from snnconvert.converter.artifact import load
from snnconvert.converter.neurons import CONVERTIBLE, SHUFFLES
from snnconvert.model_zoo import load_model

MODEL, DATA = "zoo:fashion-resnet8", "fashion-mnist-sample"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The embedded network as a user's own file, in a folder that is not the current one."""
    path = tmp_path / "mine" / "resnet.pt"
    path.parent.mkdir()
    torch.save(load_model(MODEL).model.state_dict(), path)
    return path


def test_a_checkpoint_as_typed(run: Callable[..., Any], checkpoint: Path) -> None:
    result = run("convert", checkpoint, "--neuron", "tpp", "-T", 8)
    assert result.code == 0, result.stderr
    path = checkpoint.with_name("resnet-tpp-T8.snn")
    model, about = load(path)
    assert (model.neuron, model.steps) == ("tpp", 8)
    assert about["model"] == {"name": MODEL, "source": str(checkpoint), "classes": 10}
    assert set(about) == {"model", "preprocessing", "calibration", "recipe", "method", "versions", "proof"}
    for said in ("fashion-resnet8", "10 classes", "1x28x28, mean (0.286)", "equal to the model within", "batch-norm"):
        assert said in result.stderr
    assert str(path) in result.stdout
    assert f"{model.end_to_end_steps}, a result every 8 when pipelined" in result.stdout


def test_a_name_goes_to_the_current_folder_and_tells_all_in_json(run: Callable[..., Any], calibration: Path) -> None:
    result = run("convert", MODEL, "--neuron", "if", "-T", 4, "--calibration", calibration, "--json", "--quiet")
    assert result.code == 0
    assert all(line.startswith("warning: ") for line in result.stderr.splitlines())
    found = result.document
    assert found["artefact"] == "fashion-resnet8-if-T4.snn"
    assert Path(found["artefact"]).is_file()
    assert (found["neuron"], found["steps"], found["end_to_end_steps"], found["levels"]) == ("if", 4, 4, 5)
    assert found["spike_type"] == "binary"
    assert found["sites"] == 7
    assert found["proof"]["relative"] < 1e-4
    assert found["calibration"]["images"] == 100
    assert found["recipe"]["rule"] == "mse"
    assert found["notes"]


def test_data_without_a_calibration_file(run: Callable[..., Any], calibration: Path) -> None:
    words = ("convert", MODEL, "--data", DATA, "--images", 100, "--recipe", "thresholds", "--json", "-o", "a.snn")
    direct = run(*words).document
    assert direct["calibration"]["data"] == DATA
    run("convert", MODEL, "--calibration", calibration, "-o", "b.snn")
    first, second = (load(Path(name))[0].thresholds for name in ("a.snn", "b.snn"))
    assert first.source["sha256"] == second.source["sha256"]
    assert all(torch.equal(first.values[name], second.values[name]) for name in first.values)


def test_images_are_drawn_by_seed(run: Callable[..., Any]) -> None:
    words = ("convert", MODEL, "--data", DATA)
    hashes = [
        run(*words, "--images", 20, "--recipe", "fast", "--seed", seed, "--json", "-o", f"{n}.snn").document
        for n, seed in enumerate((0, 0, 1))
    ]
    first, again, other = (each["calibration"]["sha256"] for each in hashes)
    assert first == again != other


def test_a_recipe_learns_and_says_so(run: Callable[..., Any], tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "mine"\nimages = 60\ncorrections = ["bias", "ftbc"]\n[reconstruction]\niterations = 3\n')
    words = ("convert", MODEL, "--data", DATA, "--neuron", "two-phase", "-T", 2, "--recipe", recipe)
    result = run(*words, "-o", "mine.snn", "--json")
    assert result.code == 0, result.stderr
    steps = result.document["calibration"]["corrections"]
    assert [(step["name"], step["images"]) for step in steps] == [("bias", 60), ("reconstruction", 60)]
    assert result.document["method"]["reconstruction"]["iterations"] == 3
    assert "3 of 3, loss" in result.stderr
    assert "ftbc, a correction of if neurons" in result.stderr
    learned = steps[-1]
    assert f"reconstruction, on 60 images, loss {learned['loss_before']:.3g} -> {learned['loss']:.3g}" in result.stderr
    assert not Path("mine.checkpoint").exists()
    model, _ = load(Path("mine.snn"))
    assert model.thresholds.weights
    assert model.thresholds.neuron == "two-phase"
    assert result.document["adequacy"]["images"] == 60
    assert [e["site"] for e in result.document["attribution"]["sites"]] == [s.name for s in model.graph.sites]
    ranked = [e["own"] for e in run("show", "mine.snn", "--json").document["about"]["attribution"]["sites"]]
    assert ranked == sorted(ranked, reverse=True)
    shown = run("show", "mine.snn").stdout
    assert "where the error comes from" in shown
    assert "weights" in shown
    again = run("recipe", "mine.snn")
    assert again.code == 0
    assert 'name = "mine"' in again.stdout
    assert run("recipe", recipe).stdout == again.stdout


def test_rates_that_ruin_a_network_are_said(run: Callable[..., Any], tmp_path: Path) -> None:
    recipe = tmp_path / "mad.toml"
    recipe.write_text("images = 60\n[reconstruction]\niterations = 2\nweight_rate = 1e9\nthreshold_rate = 50.0\n")
    words = ("convert", MODEL, "--data", DATA, "--neuron", "two-phase", "-T", 2, "--recipe", recipe)
    result = run(*words, "--json")
    assert result.code == 0, result.stderr
    assert "the loss grew; again from the start, with 0.25 times the rates" in result.stderr
    assert "warning: the recipe's rates of learning made the loss grow, even with 1/16 of them" in result.stderr
    assert "corrected" not in result.stderr
    assert result.document["calibration"]["corrections"][-1]["kept"] is False


def test_interrupted_learning_says_how_to_go_on(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, checkpoint = tmp_path / "mine.toml", tmp_path / "x.snn.checkpoint"
    text = "images = 60\n[reconstruction]\niterations = {}\n"
    recipe.write_text(text.format(4))
    words = ("convert", MODEL, "--data", DATA, "--neuron", "two-phase", "-T", 2, "-o", tmp_path / "x.snn")

    def interrupted(self: Any, progress: Any) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(learning, "_SAVE_EVERY", -1.0)
        patch.setattr(conversion._Report, "__call__", interrupted)
        stopped = run(*words, "--recipe", recipe)
    assert stopped.code == 130
    assert f"the same command goes on from {checkpoint}" in stopped.stderr
    assert "going on" not in run(*words[:-1], tmp_path / "y.snn", "--recipe", "fast", "--images", 60).stderr
    recipe.write_text(text.format(5))
    other = run(*words, "--recipe", recipe)
    assert other.code == 3
    assert "by its iterations (4 there, 5 here)\n" in other.stderr
    assert "hint: repeat the command that began it" in other.stderr
    recipe.write_text(text.format(4))
    again = run(*words, "--recipe", recipe)
    assert again.code == 0, again.stderr
    assert f"going on      from {checkpoint}" in again.stderr
    assert "4 of 4, loss" in again.stderr
    assert not checkpoint.exists()


def test_the_fewest_steps_within_a_drop(run: Callable[..., Any]) -> None:
    words = ("convert", MODEL, "--data", DATA, "--images", 60, "--recipe", "fast", "--neuron", "two-phase", "--json")
    result = run(*words, "--max-drop", 15, "-T", 4)
    assert result.code == 0, result.stderr
    found = result.document
    assert found["artefact"] == "fashion-resnet8-within-15.snn"
    searched = found["search"]
    assert searched["validation_images"] == 200
    tried = [point["steps"] for point in searched["curve"]]
    assert tried in ([1], [1, 2], [1, 2, 4, 3])
    assert searched["best"] in searched["curve"]
    assert searched["best"]["score"] >= searched["ann"] - 15
    fewer = [point for point in searched["curve"] if point["steps"] < searched["best"]["steps"]]
    assert all(point["score"] < searched["ann"] - 15 for point in fewer)
    model, about = load(Path(found["artefact"]))
    assert (model.neuron, model.steps) == ("two-phase", searched["best"]["steps"])
    assert about["search"] == searched
    shown = run("show", found["artefact"]).stdout
    assert f"200 held-out training images; the ANN's is {searched['ann']:.2f}" in shown
    assert f"{searched['best']['score']:.2f}" in shown
    assert "name bias, images 50" in shown
    missed = run(*words, "--max-drop", 0, "-T", 1, "-o", "missed.snn")
    assert missed.code == 4
    assert "no network up to T=1 stays within 0 points" in missed.stderr
    assert [point["steps"] for point in missed.document["search"]["curve"]] == [1]
    assert missed.document["error"]["kind"] == "BarMissed"
    assert not Path("missed.snn").exists()
    assert run("convert", MODEL, "--max-drop", 1).code == 2


def test_without_images_a_recipe_that_needs_them_is_refused(run: Callable[..., Any], calibration: Path) -> None:
    result = run("convert", MODEL, "--calibration", calibration, "--recipe", "fast")
    assert result.code == 2
    assert "recipe 'fast' looks at training images, and none are given" in result.stderr
    assert "add --data, or use --recipe thresholds" in result.stderr
    result = run("convert", MODEL, "--calibration", calibration, "--mixed-steps", 1.5)
    assert result.code == 2
    assert "recipe 'thresholds' with mixed steps looks at training images, and none are given" in result.stderr


def test_mixed_steps_are_said_shown_and_used(run: Callable[..., Any]) -> None:
    words = ("convert", MODEL, "--data", DATA, "--images", 60, "--recipe", "fast", "-T", 4, "--neuron", "two-phase")
    result = run(*words, "--mixed-steps", 1.5, "-o", "mixed.snn", "--json")
    assert result.code == 0, result.stderr
    found, (model, _) = result.document, load(Path("mixed.snn"))
    bursts, account = model.thresholds.bursts, model.thresholds.source["mixed_steps"]
    assert bursts
    longest, ratio = max(bursts.values()), account["times_the_spikes"]
    assert 1 < ratio <= 1.5
    assert f"bursts at {len(bursts)} of 7 sites, {ratio:.2f} times the spikes" in result.stderr
    assert found["calibration"]["mixed_steps"] == account
    assert (found["recipe"]["mixed_steps"], found["method"]["mixed_steps"]) == (1.5, 1.5)
    assert (found["levels"], found["spike_type"]) == (4 * longest + 1, f"binary, bursts of up to {longest} a step")
    shown = run("show", "mixed.snn", "--json").document
    assert {site["name"]: site["burst"] for site in shown["sites"] if site["burst"] > 1} == bursts
    said = run("show", "mixed.snn").stdout
    assert f"bursts of up to {longest} a step" in said
    assert "mixed_steps budget 1.5" in said
    assert all(f"{name} {burst}" in said for name, burst in bursts.items())
    assert "mixed_steps = 1.5" in run("recipe", "mixed.snn").stdout


def test_mixed_steps_that_cannot_be_are_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    words = ("convert", MODEL, "--data", DATA, "--images", 20)
    result = run(*words, "--mixed-steps", 1.5, "--shuffle", "shared")
    assert result.code == 2
    assert "--shuffle re-orders single spikes, and mixed steps let sites fire bursts" in result.stderr
    for budget, message in (
        (0.5, "Invalid value for '--mixed-steps'"),
        ("nan", "Invalid value for '--mixed-steps'"),
        ("inf", "so many times the spikes, 1 or more, got inf"),
    ):
        result = run(*words, "--mixed-steps", budget)
        assert result.code == 2
        assert message in result.stderr
    recipe = tmp_path / "mixed.toml"
    recipe.write_text('name = "mixed"\nmixed_steps = 2.0\n')
    result = run(*words, "--recipe", recipe, "--shuffle", "shared", "--neuron", "two-phase", "-T", 2)
    assert result.code == 2
    assert "--shuffle re-orders single spikes, and mixed steps let sites fire bursts" in result.stderr
    assert not list(tmp_path.glob("*.snn"))


def test_one_image_has_no_halves_to_compare(run: Callable[..., Any]) -> None:
    result = run("convert", MODEL, "--data", DATA, "--images", 1, "--recipe", "fast", "--json")
    assert result.code == 0, result.stderr
    assert "adequacy" not in result.document
    assert "not known: too few images to halve" in result.stderr
    assert result.document["method"]["images"] == 1


def test_optimal_searches_among_its_own_neurons(run: Callable[..., Any]) -> None:
    result = run("convert", MODEL, "--data", DATA, "--recipe", "optimal", "--max-drop", 99, "-T", 2, "--json")
    assert result.code == 0, result.stderr
    assert {point["neuron"] for point in result.document["search"]["curve"]} == {"if"}
    refused = run("recipe", result.document["artefact"])
    assert refused.code == 2
    assert "was made with --recipe optimal, which chooses neurons and their start as well" in refused.stderr
    assert "--recipe optimal is no list of settings" in run("recipe", "optimal").stderr


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (["-T", 2], {"steps": 2}),
        (["--rule", "max"], {"rule": "max"}),
        (["--rule", "percentile"], {"rule": "percentile"}),
        (["--rule", "percentile", "--percentile", 90], {"rule": "percentile", "percentile": 90.0}),
        (["--per", "layer"], {"per": "layer"}),
    ],
)
def test_flags_of_the_thresholds_change_them(
    run: Callable[..., Any], calibration: Path, flags: list[object], changed: dict[str, Any]
) -> None:
    run("convert", MODEL, "--calibration", calibration, "-o", "plain.snn")
    result = run("convert", MODEL, "--calibration", calibration, "-o", "changed.snn", "--json", *flags)
    assert result.code == 0, result.stderr
    assert changed.items() <= result.document["recipe"].items()
    plain, other = (load(Path(name))[0].thresholds.values for name in ("plain.snn", "changed.snn"))
    assert any(plain[name].shape != other[name].shape or not plain[name].equal(other[name]) for name in plain)


@pytest.mark.parametrize(
    "flags", [["--initial-potential", 0], ["--shuffle", "per-neuron"], ["--shuffle", "shared"], ["--recipe", "optimal"]]
)
def test_flags_of_the_neuron_change_its_answer(run: Callable[..., Any], flags: list[object]) -> None:
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    run("convert", MODEL, "--neuron", "if", "-T", 4, "-o", "plain.snn")
    assert run("convert", MODEL, "--neuron", "if", "-T", 4, "-o", "changed.snn", *flags).code == 0
    plain, changed = (load(Path(name))[0](images) for name in ("plain.snn", "changed.snn"))
    assert not torch.equal(plain, changed)


def test_flags_of_the_model_reach_the_artefact(run: Callable[..., Any], checkpoint: Path) -> None:
    flags = ["--arch", MODEL, "--size", "1x32x32", "--resize", 34, "--mean", "0.5", "--std", "0.25"]
    found = run("convert", checkpoint, *flags, "--json").document["preprocessing"]
    assert found == {"size": [1, 32, 32], "resize": 34, "mean": [0.5], "std": [0.25], "interpolation": "bilinear"}
    assert run("convert", MODEL, "--weights", checkpoint, "--json").document["model"]["source"] == str(checkpoint)
    random = run("convert", MODEL, "--random-weights", "--json", "-o", "random.snn").document
    assert random["model"]["source"] == "random weights"


def test_force_overwrites_an_earlier_output(run: Callable[..., Any]) -> None:
    assert run("convert", MODEL).code == 0
    assert run("convert", MODEL).code == 2
    assert run("convert", MODEL, "--force").code == 0


def test_help_names_every_neuron_and_shuffle(run: Callable[..., Any]) -> None:
    from snnconvert.calibration import PER, RULES

    words = run("convert", "--help").stdout
    assert [name for name in (*CONVERTIBLE, *SHUFFLES, *RULES, *PER) if name not in words] == []


def test_the_document_is_the_only_thing_on_stdout(run: Callable[..., Any]) -> None:
    result = run("convert", MODEL, "--json")
    assert json.loads(result.stdout)["neuron"] == "tpp"
    assert "model" in result.stderr
