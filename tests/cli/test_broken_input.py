"""Every kind of broken input ends in exit code 2 or 3, with one message and no traceback."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from snnconvert.model_zoo import load_model

MODEL, DATA = "zoo:fashion-resnet8", "fashion-mnist-sample"
Words = list[object]


@dataclass(frozen=True)
class Workshop:
    """Where broken things are made, and the whole things they are made of."""

    folder: Path
    artefact: Path
    calibration: Path

    def file(self, name: str, content: bytes | str = b"") -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def checkpoint(self, change: Callable[[dict[str, torch.Tensor]], Any] = lambda state: state) -> Path:
        state = dict(load_model(MODEL).model.state_dict())
        torch.save(change(state), self.folder / "model.pt")
        return self.folder / "model.pt"

    def arrays(self, **changes: Any) -> Path:
        """An .npz of 8 images; a change to None leaves the array out."""
        arrays: dict[str, Any] = {"images": np.zeros((8, 28, 28), np.uint8), "labels": np.zeros(8, np.int64)}
        kept = {name: array for name, array in (arrays | changes).items() if array is not None}
        np.savez(self.folder / "data.npz", **kept)
        return self.folder / "data.npz"

    def truncated(self, path: Path) -> Path:
        whole = path.read_bytes()
        return self.file("cut" + path.suffix, whole[: len(whole) // 2])


class RunsCode:
    """An object whose unpickling makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def of_the_future(shop: Workshop) -> Path:
    with safe_open(shop.artefact, "pt") as file:
        header = json.loads(file.metadata()["snnconvert"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path = shop.folder / "future.snn"
    save_file(tensors, path, {"snnconvert": json.dumps(header | {"format": header["format"] + 1})})
    return path


def foreign(shop: Workshop) -> Path:
    save_file({"weight": torch.ones(3)}, shop.folder / "foreign.snn")
    return shop.folder / "foreign.snn"


def wrong_shape(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return state | {"conv1.weight": torch.ones(16, 3, 3, 3)}


def not_a_number(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state["conv1.weight"][0, 0, 0, 0] = torch.nan
    return state


def strange_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"strange.{name}": value for name, value in state.items()}


def empty_classes(shop: Workshop) -> Path:
    (shop.folder / "images" / "cat").mkdir(parents=True)
    return shop.folder / "images"


def broken_image(shop: Workshop) -> Path:
    (shop.folder / "images" / "cat").mkdir(parents=True)
    (shop.folder / "images" / "cat" / "1.png").write_bytes(b"\x89PNG no more")
    return shop.folder / "images"


def convert(*words: object) -> Words:
    return ["convert", MODEL, *words]


def code_checkpoint(shop: Workshop) -> Path:
    torch.save(RunsCode(shop.folder / "executed"), shop.folder / "code.pt")
    return shop.folder / "code.pt"


SILENT_MODULE = "import torch\nnet = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))\n"

MODELS: dict[str, tuple[Callable[[Workshop], Words], int, str]] = {
    "no such file": (lambda shop: ["convert", shop.folder / "none.pt"], 3, "none.pt does not exist"),
    "a folder": (lambda shop: ["convert", shop.folder], 3, "is a folder"),
    "an empty file": (lambda shop: ["convert", shop.file("x.pt")], 3, "x.pt is empty"),
    "a text": (lambda shop: ["convert", shop.file("x.pt", "Dear diary")], 3, "not a PyTorch checkpoint"),
    "a truncated checkpoint": (lambda shop: ["convert", shop.truncated(shop.checkpoint())], 3, "truncated or damaged"),
    "a pickle with code": (lambda shop: ["convert", code_checkpoint(shop)], 3, "needs code"),
    "a pickled module": (
        lambda shop: ["convert", shop.checkpoint(lambda state: load_model(MODEL).model)],
        3,
        "needs code",
    ),
    "a list": (lambda shop: ["convert", shop.checkpoint(lambda state: [1, 2])], 3, "expected tensors by name"),
    "unknown keys": (lambda shop: ["convert", shop.checkpoint(strange_keys)], 3, "architecture"),
    "a wrong shape": (lambda shop: ["convert", shop.checkpoint(wrong_shape), "--arch", MODEL], 3, "conv1.weight"),
    "another architecture": (
        lambda shop: ["convert", shop.checkpoint(), "--arch", "zoo:resnet20"],
        3,
        "does not fit zoo:resnet20",
    ),
    "weights that are NaN": (lambda shop: ["convert", shop.checkpoint(not_a_number)], 3, "NaN or infinite"),
    "a truncated safetensors": (
        lambda shop: ["convert", shop.file("x.safetensors", b"\x10\0\0")],
        3,
        "not a complete safetensors",
    ),
    "no activation": (
        lambda shop: [
            "convert",
            f"{shop.file('silent_module.py', SILENT_MODULE).stem}:net",
            "--size",
            "1x28x28",
            "--mean",
            0,
            "--std",
            1,
        ],
        3,
        "no activation",
    ),
    "an unknown model": (lambda shop: ["convert", "resnet19"], 2, "unknown architecture 'resnet19'"),
    "an unknown module": (lambda shop: ["convert", "no.such:factory"], 3, "no.such"),
}

FLAGS: dict[str, tuple[Callable[[Workshop], Words], int, str]] = {
    "T = 0": (lambda shop: convert("-T", 0), 2, "greater than or equal to 1"),
    "T = -1": (lambda shop: convert("-T", -1), 2, "greater than or equal to 1"),
    "T = x": (lambda shop: convert("-T", "x"), 2, "valid integer"),
    "an unknown neuron": (lambda shop: convert("--neuron", "tp"), 2, "unknown neuron 'tp'"),
    "an unknown rule": (lambda shop: convert("--rule", "mean"), 2, "unknown rule 'mean'"),
    "an unknown shuffle": (lambda shop: convert("--shuffle", "all"), 2, "unknown shuffle 'all'"),
    "an unknown recipe": (lambda shop: convert("--recipe", "bets"), 2, "unknown recipe 'bets'"),
    "a recipe and another neuron": (
        lambda shop: convert("--recipe", "optimal", "--neuron", "tpp"),
        2,
        "means --neuron",
    ),
    "an unknown device": (lambda shop: convert("--device", "tpu"), 2, "expected --device cpu"),
    "a size that is none": (lambda shop: convert("--size", "28"), 2, "size must be three"),
    "a mean of too many channels": (lambda shop: convert("--mean", "0,0,0"), 2, "mean must be 1"),
    "no images": (lambda shop: convert("--data", DATA, "--images", 0), 2, "greater than or equal to 1"),
    "images without data": (lambda shop: convert("--images", 10), 2, "--images has no meaning without --data"),
    "a calibration and data": (
        lambda shop: convert("--calibration", shop.calibration, "--data", DATA),
        2,
        "exclude each other",
    ),
    "an unknown option": (lambda shop: convert("--stepz", 3), 2, "No such option: --stepz"),
    "no model": (lambda shop: ["convert"], 2, "Missing argument 'MODEL'"),
    "an output that exists": (lambda shop: convert("-o", shop.artefact), 2, "exists already"),
    "an output that is something else": (
        lambda shop: convert("-o", shop.file("thesis.txt", "years"), "--force"),
        3,
        "is not overwritten",
    ),
    "an output folder": (lambda shop: convert("-o", shop.folder), 2, "expected a file to write"),
}

CALIBRATIONS: dict[str, tuple[Callable[[Workshop], Words], int, str]] = {
    "of another model": (
        lambda shop: ["convert", "zoo:resnet20", "--random-weights", "--calibration", shop.calibration],
        3,
        "another network",
    ),
    "truncated": (lambda shop: convert("--calibration", shop.truncated(shop.calibration)), 3, "truncated"),
    "missing": (lambda shop: convert("--calibration", shop.folder / "none.calib"), 3, "none.calib does not exist"),
    "an artefact": (lambda shop: convert("--calibration", shop.artefact), 3, "not a .calib file"),
}

DATASETS: dict[str, tuple[Callable[[Workshop], Words], int, str]] = {
    "an unknown name": (lambda shop: convert("--data", "fashion-mnist-simple"), 2, "unknown data set"),
    "a missing file": (lambda shop: convert("--data", shop.folder / "none.npz"), 3, "none.npz does not exist"),
    "an empty folder": (lambda shop: convert("--data", shop.folder), 3, "expected one sub-folder of images per class"),
    "a folder of empty classes": (
        lambda shop: [
            *("convert", "zoo:resnet20", "--random-weights", "--data", empty_classes(shop)),
        ],
        3,
        "images/cat",
    ),
    "a broken image": (
        lambda shop: ["convert", "zoo:resnet20", "--random-weights", "--resize", 32, "--data", broken_image(shop)],
        3,
        "1.png",
    ),
    "no labels": (lambda shop: convert("--data", shop.arrays(labels=None)), 3, "no array labels"),
    "float images": (lambda shop: convert("--data", shop.arrays(images=np.zeros((8, 28, 28)))), 3, "uint8.*float64"),
    "more images than labels": (
        lambda shop: convert("--data", shop.arrays(labels=np.zeros(7, np.int64))),
        3,
        "expected 8 labels",
    ),
    "colour for a grey network": (
        lambda shop: convert("--data", shop.arrays(images=np.zeros((8, 28, 28, 3), np.uint8))),
        3,
        "expects 1 channels, these images have 3",
    ),
    "a truncated archive": (lambda shop: convert("--data", shop.truncated(shop.arrays())), 3, "truncated"),
    "labels out of range": (
        lambda shop: ["eval", shop.artefact, "--data", shop.arrays(labels=np.full(8, 10))],
        3,
        "largest label is 10",
    ),
    "images of another size": (
        lambda shop: ["eval", shop.artefact, "--data", shop.arrays(images=np.zeros((8, 32, 32), np.uint8))],
        3,
        "28x28 pixels, these have 32x32",
    ),
}

ARTEFACTS: dict[str, tuple[Callable[[Workshop], Words], int, str]] = {
    "missing": (lambda shop: ["eval", shop.folder / "none.snn"], 3, "none.snn does not exist"),
    "a folder": (lambda shop: ["show", shop.folder], 3, "is a folder"),
    "empty": (lambda shop: ["eval", shop.file("x.snn")], 3, "not a .snn file"),
    "truncated": (lambda shop: ["eval", shop.truncated(shop.artefact)], 3, "truncated"),
    "foreign": (lambda shop: ["eval", foreign(shop)], 3, "not a .snn file"),
    "of the future": (lambda shop: ["eval", of_the_future(shop)], 3, "upgrade snnconvert"),
    "a checkpoint": (lambda shop: ["show", shop.checkpoint()], 3, "not a .snn file"),
    "an unknown executor": (lambda shop: ["eval", shop.artefact, "--executor", "gpu"], 2, "unknown executor 'gpu'"),
    "no seeds": (lambda shop: ["eval", shop.artefact, "--seeds", 0], 2, "greater than or equal to 1"),
    "a bar below zero": (lambda shop: ["eval", shop.artefact, "--max-drop", -1], 2, "greater than or equal to 0"),
    "another ANN of other classes": (
        lambda shop: ["eval", shop.artefact, "--against", shop.checkpoint(strange_keys), "--images", 10],
        3,
        "architecture",
    ),
}

CASES = {
    f"{kind}: {name}": case
    for kind, cases in {
        "model": MODELS,
        "flags": FLAGS,
        "calibration": CALIBRATIONS,
        "data": DATASETS,
        "artefact": ARTEFACTS,
    }.items()
    for name, case in cases.items()
}


@pytest.fixture
def shop(tmp_path: Path, artefacts: dict[str, Path], calibration: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path, artefacts["two-phase"], calibration)


@pytest.mark.parametrize("name", CASES)
def test_broken_input_is_refused_with_one_message(run: Callable[..., Any], shop: Workshop, name: str) -> None:
    make, code, message = CASES[name]
    before = shop.artefact.read_bytes()
    result = run(*make(shop), "--json", "--quiet")
    assert result.code == code, result.stderr
    error = result.document["error"]
    assert error["exit_code"] == code
    assert re.search(message, error["message"] + "\n" + (error["hint"] or "")), error
    assert result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
    assert shop.artefact.read_bytes() == before
    assert not list(shop.folder.glob("*T8.snn"))


def test_there_are_enough_kinds() -> None:
    assert len(CASES) >= 20


def test_code_in_a_checkpoint_runs_only_with_trust(run: Callable[..., Any], shop: Workshop) -> None:
    path, trace = code_checkpoint(shop), shop.folder / "executed"
    assert run("convert", path).code == 3
    assert not trace.exists()
    assert run("convert", path, "--trust").code == 3
    assert trace.exists()
