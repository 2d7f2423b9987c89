"""README's commands and Python run as they stand, in order, in an empty folder."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from snnconvert.cli.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_two_set_up_commands_are_targets_of_the_makefile() -> None:
    made = [line.split()[1] for line in commands() if line.startswith("make ")]
    assert made == ["demo", "test"]
    assert "$(BIN)/snnconvert demo" in MAKEFILE
    assert "TESTS = $(BIN)/python -m pytest" in MAKEFILE
    assert "test: .venv/installed\n\t$(TESTS)\n" in MAKEFILE


def test_every_command_is_one_that_a_test_can_run() -> None:
    for line in commands():
        assert line.startswith(("make ", "snnconvert ", "python benchmarks/")), line
        if line.startswith("python benchmarks/"):
            assert (ROOT / line.split()[1]).exists()


def test_the_commands_run_one_after_the_other(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], torchvision_resnet18: Callable[[Path], None]
) -> None:
    torchvision_resnet18(empty_folder / "resnet18.pt")
    for line in commands():
        program, *words = shlex.split(line)
        if program == "snnconvert" and words != ["demo"]:
            assert main(words) == 0, f"{line}\n{capsys.readouterr().err}"
    assert list(empty_folder.glob("*.snn"))


@pytest.fixture
def torchvision_resnet18() -> Callable[[Path], None]:
    """Save a ResNet-18 as a user has it: a bare state_dict."""

    def save(path: Path) -> None:
        import torch

        from snnconvert.model_zoo.libraries import torchvision

        torch.manual_seed(0)
        torch.save(torchvision().models.resnet18().state_dict(), path)

    return save


def test_the_python_block_runs(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks("python")
    exec(compile(block, "README.md", "exec"), {})
    assert "top1" in capsys.readouterr().out
