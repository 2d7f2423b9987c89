import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from snnconvert.cli.main import main
from snnconvert.converter.artifact import load, save
from snnconvert.converter.convert import convert
from snnconvert.converter.graph import prepare
from snnconvert.converter.thresholds import Thresholds

MODEL, DATA = "zoo:fashion-resnet8", "fashion-mnist-sample"


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, stdout and stderr."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; anything beside it is an error here."""
        return json.loads(self.stdout)


Run = Callable[..., Result]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run the command line in this process."""

    def run(*words: object) -> Result:
        stdout, stderr = io.StringIO(), io.StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr):
            code = main([str(word) for word in words])
        return Result(code, stdout.getvalue(), stderr.getvalue())

    return run


@pytest.fixture(scope="session")
def calibration(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibration of the embedded network on 100 training images."""
    path = tmp_path_factory.mktemp("calibration") / "fashion.calib"
    result = run("calibrate", MODEL, "--data", DATA, "--images", 100, "-o", path)
    assert result.code == 0, result.stderr
    return path


@pytest.fixture(scope="session")
def artefacts(run: Run, calibration: Path) -> dict[str, Path]:
    """The embedded network as a spiking network of each neuron, T = 4."""
    paths = {}
    for neuron in ("tpp", "two-phase", "if"):
        paths[neuron] = calibration.with_name(f"fashion-{neuron}.snn")
        result = run("convert", MODEL, "--neuron", neuron, "-T", 4, "--calibration", calibration, "-o", paths[neuron])
        assert result.code == 0, result.stderr
    return paths


@pytest.fixture(scope="session")
def direct(artefacts: dict[str, Path]) -> Path:
    """A small network that says it was trained as a spiking one, T = 2; its weights are random."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)).eval()
    graph = prepare(net, torch.randn(2, 1, 28, 28))
    thresholds = Thresholds({site.name: torch.ones(site.channels) for site in graph.sites}, None, "given", "channel")
    about = {
        "model": {"name": "made up", "classes": 10},
        "preprocessing": load(artefacts["if"])[1]["preprocessing"],
        "training": {"method": "made-up", "data": DATA, "split": "train", "images": 900, "epochs": 3, "seconds": 12.5},
    }
    path = artefacts["if"].with_name("direct.snn")
    save(path, convert(graph, thresholds, neuron="if", steps=2), about)
    return path
