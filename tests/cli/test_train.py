"""`snnconvert train` from words to files, for every method."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snnconvert.cli import training
from snnconvert.converter.artifact import load
from snnconvert.converter.fused import Fused
from snnconvert.model_zoo import Preprocessing, load_model, open_dataset
from snnconvert.model_zoo.baselines import METHODS
from snnconvert.model_zoo.named_data import SAMPLE_FILE

Run = Callable[..., Any]
FEW = (
    "--data",
    "fashion-mnist-sample",
    "--images",
    200,
    "--epochs",
    1,
    "-T",
    2,
    "--arch",
    "fashion-resnet8",
    "--exact",
)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neurons run as plain torch: compiling them would take longer than all tests."""
    monkeypatch.setattr(Fused, "__call__", lambda self, *args: self.function(*args))


@pytest.fixture(scope="module")
def trained(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A document for each method, of a network trained on few images."""
    found, folder = {}, tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fused, "__call__", lambda self, *args: self.function(*args))
        for method, kind in METHODS.items():
            path = folder / (f"{method}.snn" if kind.spikes else f"{method}.safetensors")
            result = run("train", method, *FEW, "-o", path, "--json")
            assert result.code == 0, result.stderr
            found[method] = result.document
    return found


@pytest.mark.parametrize("method", [name for name, kind in METHODS.items() if kind.spikes])
def test_an_artefact_comes_out(method: str, trained: dict[str, Any]) -> None:
    document = trained[method]
    path, log = Path(document["artefact"]), Path(document["log"])
    made = document["training"]
    assert (made["method"], made["images"], made["validation"]["images"]) == (method, 180, 20)
    assert (made["data"], made["split"], made["epochs"], made["seed"]) == ("fashion-mnist-sample", "train", 1, 0)
    preprocessing = Preprocessing.from_json(document["preprocessing"])
    assert made["digest"] == open_dataset(made["data"], split="train", preprocessing=preprocessing).digest()
    words = "--data fashion-mnist-sample --arch fashion-resnet8 --steps 2 --epochs 1 --images 200 --exact"
    assert made["command"] == f"snnconvert train {method} {words}"
    network, about = load(path)
    assert about["training"] == made
    assert network.steps == 2
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    (record,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert record["validation_top1"] == made["validation"]["top1"]
    assert record["loss"] > 0
    assert sorted(p.name for p in path.parent.glob(f"{method}.*")) == sorted([path.name, log.name])  # no checkpoint


def test_many_steps_inherit_what_few_learned(run: Run, tmp_path: Path) -> None:
    few, many = tmp_path / "few.snn", tmp_path / "many.snn"
    assert run("train", "lif", *FEW, "-o", few, "--keep").code == 0
    kept = few.with_name("few.snn.checkpoint")
    result = run("train", "lif", *FEW, "-T", 4, "--inherit", kept, "--rate", 0.01, "-o", many, "--json")
    assert result.code == 0, result.stderr
    assert "inherited     lif, T=2, " in result.stderr
    first, second = (load(path)[1]["training"] for path in (few, many))
    assert (second["epochs"], first["epochs"], second["seconds"] > first["seconds"]) == (2, 1, True)
    assert second["inherited"].startswith("lif, T=2, ")
    assert f"--inherit {kept}" in second["command"]
    assert not many.with_name("many.snn.checkpoint").exists()
    result = run("train", "lif", *FEW, "--inherit", kept, "-o", few, "--force")
    assert result.code == 2
    assert "is the checkpoint of" in result.stderr
    result = run("train", "lif", *FEW, "--inherit", few, "-o", tmp_path / "other.snn")
    assert result.code == 3
    assert "`train --keep` leaves a checkpoint" in result.stderr
    result = run("train", "mt-lif", *FEW, "--inherit", kept, "-o", tmp_path / "other.snn")
    assert result.code == 2
    assert "method was lif, is mt-lif" in result.stderr


def test_an_ann_trains_weights_that_convert(trained: dict[str, Any], run: Run, tmp_path: Path) -> None:
    path = Path(trained["ann"]["artefact"])
    model = load_model(str(path), arch="fashion-resnet8").model
    assert float(dict(model.named_buffers())["bn1.running_mean"].abs().sum()) > 0
    result = run(
        "convert", path, "--arch", "fashion-resnet8", "--neuron", "two-phase", "-T", 4, "-o", tmp_path / "a.snn"
    )
    assert result.code == 0, result.stderr
    assert "trained by ann" in trained["ann"]["model"]["source"]


def test_the_ann_in_a_trained_network_converts(trained: dict[str, Any], run: Run, tmp_path: Path) -> None:
    path = trained["qcfs"]["artefact"]
    words = ("convert", path, "--neuron", "two-phase", "-T", 2, "-o", tmp_path / "a.snn")
    result = run(*words)
    assert result.code == 0, result.stderr
    x = torch.randn(4, 1, 28, 28)
    again, original = load(tmp_path / "a.snn")[0], load(Path(path))[0]
    assert torch.allclose(again(x), original(x), atol=1e-5)  # theta is the largest value of the activation
    assert again.thresholds.rule == "cap"
    seen = tmp_path / "seen.npz"
    with np.load(SAMPLE_FILE) as file:
        np.savez(seen, images=file["train_images"], labels=file["train_labels"])
    result = run("eval", tmp_path / "a.snn", "--data", seen, "--images", 5, "--json")
    said = f"a.snn comes from an ANN that was trained on images of {seen}, so its accuracy there"
    assert said in result.stderr
    assert result.document["caution"].startswith(said)
    refused = run("convert", trained["lif"]["artefact"], "-o", tmp_path / "b.snn")
    assert refused.code == 3
    assert "was trained as a spiking network (lif)" in refused.stderr


def test_words_for_people(run: Run, tmp_path: Path) -> None:
    result = run("train", "slssnn", *FEW, "-o", tmp_path / "a.snn")
    assert result.code == 0
    for words in ("epoch 1/1", "slssnn: spike-train-level blocks", "180 images of fashion-mnist-sample (train)"):
        assert words in result.stderr
    assert "validation" in result.stdout
    again = run("train", "slssnn", *FEW, "-o", tmp_path / "a.snn")
    assert again.code == 2
    assert "exists already" in again.stderr
    forced = run(
        "train", "slssnn", *FEW, "-o", tmp_path / "a.snn", "--force", "--quiet", "--set", "threshold=1.5", "--json"
    )
    assert (forced.code, forced.stderr) == (0, "")
    assert "--steps 2 --set threshold=1.5 --epochs 1" in forced.document["training"]["command"]
    assert forced.document["training"]["settings"] == {"threshold": 1.5}


def test_a_killed_run_goes_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("train", "slssnn", *FEW, "--epochs", 2, "--json")
    whole = run(*words, "-o", tmp_path / "whole.snn")
    assert whole.code == 0, whole.stderr

    def killed(self: Any, record: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training._Report, "__call__", killed)
        run(*words, "-o", tmp_path / "a.snn")
    checkpoint = tmp_path / "a.snn.checkpoint"
    assert checkpoint.is_file()
    assert not (tmp_path / "a.snn").exists()
    other = run(*words, "-o", tmp_path / "a.snn", "--seed", 1)
    assert other.code == 2
    assert "is of another training: seed was 0, is 1" in other.stderr
    fewer = run(*words, "-o", tmp_path / "a.snn", "--validation", 19)
    assert fewer.code == 2  # else what was trained on would validate
    assert "images was fashion-mnist-sample, 180 and 20" in fewer.stderr
    again = run(*words, "-o", tmp_path / "a.snn")
    assert again.code == 0, again.stderr
    assert "epoch 1/2" not in again.stderr
    assert not checkpoint.exists()
    assert len((tmp_path / "a.snn.jsonl").read_text().splitlines()) == 2
    (one, _), (other_network, _) = load(tmp_path / "whole.snn"), load(tmp_path / "a.snn")
    pairs = zip(one.state_dict().values(), other_network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("liff", *FEW), 2, "did you mean 'lif'?"),
        (("lif", *FEW, "--set", "leek=1"), 2, "got 'leek=1'"),
        (("lif", *FEW, "--set", "leak=2"), 2, "0 < leak <= 1"),
        (("lif", *FEW, "--arch", "resnet9000"), 2, "resnet9000"),
        (("lif", *FEW, "--validation", 200), 3, "200 images for validation leave 0 of 200"),
        (("lif", *FEW, "--rate", 0), 2, "a rate above 0"),
        (("lif", *FEW, "--rate", -1), 2, "Invalid value for '--rate'"),
        (("lif", *FEW, "--rate", "nan"), 2, "'--rate'"),
        (("lif", *FEW, "--data", "nothing"), 2, "unknown data set 'nothing'"),
        (("lif", *FEW, "--rate", 1e30), 3, "train with a smaller --rate"),
        (("lif", *FEW, "--rate", 1e9), 3, "train with a smaller --rate"),
    ],
)
def test_words_that_are_wrong(words: tuple[Any, ...], code: int, message: str, run: Run, tmp_path: Path) -> None:
    result = run("train", *words, "-o", tmp_path / "a.snn")
    assert result.code == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "a.snn").exists()
