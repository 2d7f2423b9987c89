import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from snnconvert.cli.main import main

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
