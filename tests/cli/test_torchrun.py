"""Commands in several processes give what one gives, end together, and go on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snnconvert.calibration import Calibration
from snnconvert.cli import conversion, measurement
from snnconvert.cli.main import COMMANDS, SHARED, main
from snnconvert.converter.artifact import load
from snnconvert.converter.errors import DataRefused
from snnconvert.evaluation import Shards
from snnconvert.evaluation.marks import Marks

MODEL, DATA = "zoo:fashion-resnet8", "fashion-mnist-sample"
BIN = Path(sys.executable).parent


def command(*words: str) -> int:
    return main(list(words))


@pytest.fixture
def several(start: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Run a command line in two processes with the environment of torchrun."""

    def several(*words: object, work: Callable[..., int] = command) -> list[Any]:
        workers = start(work, *(str(word) for word in words), join=False)
        for worker in workers:
            worker.wait()
        return workers

    return several


def codes(workers: list[Any]) -> list[int]:
    return [worker.wait() for worker in workers]


def leaves(tree: Any) -> Iterator[Any]:
    """Yield all that an object holds, in order."""
    if isinstance(tree, Tensor):
        yield tree.tolist()
    elif isinstance(tree, dict):
        for key in tree:
            yield key
            yield from leaves(tree[key])
    elif isinstance(tree, list | tuple):
        for entry in tree:
            yield from leaves(entry)
    else:
        yield from leaves(vars(tree)) if hasattr(tree, "__dict__") else [tree]


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in ("seconds", "calibration", "artefact")}


def test_a_calibration_is_that_of_one_process(
    several: Callable[..., list[Any]], run: Callable[..., Any], tmp_path: Path
) -> None:
    words = ["calibrate", MODEL, "--data", DATA, "--images", 37, "--batch-size", 5, "--json", "-o"]
    first, second = several(*words, tmp_path / "two.calib")
    assert codes([first, second]) == [0, 0], first.stderr
    assert second.stdout + second.stderr == ""
    alone = run(*words, tmp_path / "one.calib")
    several_said, alone_said = json.loads(first.stdout), alone.document
    one, two = (Calibration.load(tmp_path / f"{name}.calib") for name in ("one", "two"))
    for about in (several_said["about"], alone_said["about"], one.about, two.about):
        assert about.pop("seconds") > 0
    assert timeless(several_said) == timeless(alone_said)
    assert first.stderr == alone.stderr
    assert list(leaves(one)) == list(leaves(two))


def test_a_conversion_that_learns_is_that_of_one_process(
    several: Callable[..., list[Any]], run: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = tmp_path / "short.toml"
    recipe.write_text('corrections = ["bias"]\nimages = 37\n[reconstruction]\niterations = 2\nmixed = false\n')
    words = ["convert", MODEL, "--data", DATA, "--recipe", recipe, "--neuron", "two-phase", "-T", 4, "--json"]
    first, second = several(*words, "--batch-size", 15, "-o", tmp_path / "two.snn")
    assert codes([first, second]) == [0, 0], first.stderr
    assert second.stdout + second.stderr == ""
    alone = run(*words, "--batch-size", 15, "-o", tmp_path / "one.snn")
    assert alone.code == 0, alone.stderr
    one, two = (load(tmp_path / f"{name}.snn")[0].thresholds for name in ("one", "two"))
    assert all(torch.allclose(theta, two.values[name], rtol=1e-4) for name, theta in one.values.items())
    assert json.loads(first.stdout)["calibration"]["images"] == alone.document["calibration"]["images"] == 37
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".snn", ".snn", ".toml"]


def slow_keep(shards: Shards, number: int, marks: Marks) -> None:
    keep(shards, number, marks)
    time.sleep(0.2)


keep = Shards.keep


def slow_command(*words: str) -> int:
    Shards.keep = slow_keep  # type: ignore[method-assign]
    return main(list(words))


@pytest.mark.parametrize(("count", "death"), [(1, signal.SIGKILL), (2, signal.SIGKILL), (2, signal.SIGTERM)])
def test_a_killed_evaluation_goes_on_and_ends_as_if_it_had_not_been(
    start: Callable[..., list[Any]],
    several: Callable[..., list[Any]],
    run: Callable[..., Any],
    artefacts: dict[str, Path],
    tmp_path: Path,
    count: int,
    death: signal.Signals,
) -> None:
    words = ["eval", artefacts["tpp"], "--images", 61, "--batch-size", 4, "--seeds", 2, "--json"]
    texts = [*map(str, words), "--resume", str(tmp_path)]
    workers = start(slow_command, *texts, join=False, count=count)
    deadline = time.monotonic() + 60
    while len(finished := list(tmp_path.glob("*/*.shard"))) < 3:
        assert time.monotonic() < deadline, workers[0].stderr
        time.sleep(0.02)
    os.kill(workers[-1].process.pid, death)
    assert workers[-1].wait() == (-death if death is signal.SIGKILL else 1)
    if death is signal.SIGTERM:
        assert "error: process 1 of 2 was told to end, as torchrun does" in workers[1].stderr
    if count == 2:
        assert workers[0].wait() == 1
        assert "error: process 0 of 2 lost another one while they exchanged results" in workers[0].stderr
        finished = list(tmp_path.glob("*/*.shard"))
    alone = run(*words).document
    assert alone["images"] == 61
    first, second = several(*texts)
    assert codes([first, second]) == [0, 0], first.stderr
    assert second.stdout + second.stderr == ""
    assert timeless(json.loads(first.stdout)) == timeless(alone)
    assert int(first.stderr.split("going on")[1].split()[0]) >= len(finished)
    again = run(*texts)
    assert "going on      16 of 16 batches come from" in again.stderr
    assert timeless(again.document) == timeless(alone)


def test_what_decides_the_result_decides_the_folder(
    run: Callable[..., Any], artefacts: dict[str, Path], tmp_path: Path
) -> None:
    words = ["eval", artefacts["two-phase"], "--images", 12, "--batch-size", 6, "--resume", tmp_path]
    changes: list[list[object]] = [
        [],
        ["--seed", 1],
        ["--batch-size", 5],
        ["--executor", "steps"],
        ["--against", MODEL],
    ]
    for number, change in enumerate(changes):
        for taken in (0, 2 + (change == ["--batch-size", 5])):
            result = run(*words, *change)
            assert result.code == 0, result.stderr
            assert f"going on      {taken} of " in result.stderr
        assert len(list(tmp_path.iterdir())) == number + 1
    shard = next(tmp_path.glob("*/0.shard"))
    shard.write_bytes(b"")
    found = [run(*words, *change) for change in changes]
    assert sorted(each.code for each in found) == [0, 0, 0, 0, 3]
    refused = next(each for each in found if each.code)
    assert "hint: delete it, and its images are evaluated again" in refused.stderr


def damaged_command(*words: str) -> int:
    def damaged(*given: Any, **options: Any) -> None:
        raise DataRefused("image 7 is damaged", "replace it")

    if os.environ["RANK"] == "1":
        measurement.evaluate = damaged  # type: ignore[assignment]
    return main(list(words))


def full_command(*words: str) -> int:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    conversion.save = full
    return main(list(words))


def test_an_error_of_one_process_is_told_once_and_ends_all(
    several: Callable[..., list[Any]], artefacts: dict[str, Path], tmp_path: Path
) -> None:
    first, second = several("eval", artefacts["if"], "--images", 9, "--json", work=damaged_command)
    assert codes([first, second]) == [3, 3]
    assert first.stderr.endswith("error: image 7 is damaged\nhint: replace it\n")
    assert json.loads(first.stdout)["error"]["kind"] == "DataRefused"
    assert second.stdout + second.stderr == ""
    first, second = several("convert", MODEL, "-o", tmp_path / "x.snn", work=full_command)
    assert codes([first, second]) == [3, 3]
    assert first.stderr.count("No space left on device") == 1
    assert second.stderr == ""


def test_an_error_of_all_is_told_once(several: Callable[..., list[Any]], artefacts: dict[str, Path]) -> None:
    words = ["eval", artefacts["if"], "--images", 20]
    for more, code, message in (
        (["--executor", "none"], 2, "error: unknown executor 'none'"),
        (["--no-such-flag"], 2, "error: No such option: --no-such-flag"),
        (["--data", "no-such-folder.npz"], 3, "error: no-such-folder.npz does not exist"),
        (["--max-drop", 0, "--quiet"], 4, "error: expected at most 0 points below the ANN"),
    ):
        first, second = several(*words, *more)
        assert codes([first, second]) == [code, code]
        assert first.stderr.count(message) == 1, first.stderr
        assert second.stdout + second.stderr == ""


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - set(SHARED)))
def test_a_command_that_shares_no_work(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    app_words = {"check": [MODEL], "show": ["x.snn"], "recipe": ["fast"]}.get(name, [])
    monkeypatch.setattr("snnconvert.cli.torchrun.together", lambda work: work())
    for rank in (0, 1):
        for key, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": 1}.items():
            monkeypatch.setenv(key, str(value))
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        result = run(name, *app_words)
        told = f"error: `snnconvert {name}` has no work for 2 processes\nhint: run it without torchrun\n"
        assert (result.code, result.stderr) == (2, "" if rank else told)


def test_torchrun_itself(run: Callable[..., Any], artefacts: dict[str, Path]) -> None:
    words = ["eval", str(artefacts["tpp"]), "--images", "23", "--batch-size", "4", "--json", "--quiet"]
    launcher = [BIN / "torchrun", "--standalone", "--nproc-per-node", "2", "--no-python", BIN / "snnconvert"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [*launcher, *words], capture_output=True, text=True, check=False, env=environment, timeout=180
    )
    assert found.returncode == 0, found.stderr
    assert timeless(json.loads(found.stdout)) == timeless(run(*words).document)


def test_the_module_is_a_program() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "snnconvert.cli.main", "--version"], capture_output=True, text=True, check=False
    )
    assert found.stdout.startswith("snnconvert ")
