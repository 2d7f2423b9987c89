import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from snnconvert.cli import main as entry
from snnconvert.cli.main import COMMANDS
from snnconvert.converter import errors
from snnconvert.converter.errors import SnnconvertError

HEAVY = {"torch", "numpy", "scipy", "timm", "torchvision", "safetensors"}


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["convert", "--help"], ["nonsense"]])
def test_words_about_words_import_nothing_heavy(words: list[str]) -> None:
    code = "import sys; from snnconvert.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    loaded = set(python(code, *words).stderr.split())
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("snnconvert")
    found = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert all(name in found.stdout for name in COMMANDS)
    wrong = subprocess.run([command, "convert"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_the_package_is_the_command(run: Callable[..., Any]) -> None:
    command = [sys.executable, "-m", "snnconvert", "recipe", "fast"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, run("recipe", "fast").stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_for_itself_and_each_flag(run: Callable[..., Any], command: str) -> None:
    words = (COMMANDS[command].__doc__ or "").split()
    result = run(command, "--help")
    assert result.code == 0
    assert " ".join(words[:4]) in result.stdout
    assert words
    parameters = typer.main.get_command(entry.app).commands[command].params  # type: ignore[attr-defined]
    assert [each.name for each in parameters if not each.help] == []


def test_version(run: Callable[..., Any]) -> None:
    result = run("--version")
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.startswith("snnconvert ")


def test_no_words_show_the_help(run: Callable[..., Any]) -> None:
    result = run()
    assert result.code == 2
    assert "demo" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["evil"], "No such command 'evil'. Did you mean 'eval'?", "`snnconvert --help`"),
        (["convert", "x.pt", "--neurons", "if"], "No such option: --neurons", "`snnconvert convert --help`"),
        (["convert", "x.pt", "-T", "0"], "Invalid value for '-T' / '--steps'", "`snnconvert convert --help`"),
        (["show"], "Missing argument 'FILE'", "`snnconvert show --help`"),
    ],
)
def test_wrong_words(run: Callable[..., Any], words: list[str], message: str, hint: str) -> None:
    result = run(*words)
    assert (result.code, result.stdout) == (2, "")
    error, line = result.stderr.splitlines()
    assert error.startswith("error: " + message)
    assert line.startswith("hint: " + hint)
    assert run(*words, "--json").document["error"]["exit_code"] == 2


def raising(error: BaseException) -> Callable[..., None]:
    def command(json: bool = False) -> None:
        raise error

    return command


ERRORS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SnnconvertError)]


@pytest.fixture
def fail(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command that raises an error."""

    def fail(error: BaseException, *words: str) -> Any:
        app = typer.Typer()
        app.callback()(entry._every_command)
        app.command("work")(raising(error))
        monkeypatch.setattr(entry, "app", app)
        return run(*words, "work", "--json")

    return fail


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_its_exit_code(fail: Callable[..., Any], kind: type[SnnconvertError]) -> None:
    result = fail(kind("expected a, got b", "do c"))
    assert result.code == kind.exit_code
    assert result.stderr == "error: expected a, got b\nhint: do c\n"
    expected = {"kind": kind.__name__, "message": "expected a, got b", "hint": "do c", "exit_code": kind.exit_code}
    assert result.document == {"error": expected}


def test_the_unexpected_asks_for_a_report_and_hides_the_traceback(fail: Callable[..., Any]) -> None:
    result = fail(KeyError("weights"))
    assert result.code == 1
    assert result.stderr.startswith("error: unexpected KeyError: 'weights'\nhint: please report")
    assert "Traceback" not in result.stderr
    assert "raise error" in fail(KeyError("weights"), "--debug").stderr


def test_a_file_that_cannot_be_written(fail: Callable[..., Any]) -> None:
    result = fail(PermissionError(13, "Permission denied", "/x.snn"))
    assert result.code == 3
    assert "Permission denied: '/x.snn'" in result.stderr


def test_interruption(fail: Callable[..., Any]) -> None:
    result = fail(KeyboardInterrupt())
    assert result.code == 130
    assert json.loads(result.stdout)["error"]["message"] == "interrupted"
