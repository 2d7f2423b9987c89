"""Compiling neurons: once, by what is there, safely; and plain torch where that does not work."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from snnconvert.converter import native, native_check
from snnconvert.converter.fused import compiler
from snnconvert.converter.native import Library
from snnconvert.converter.neurons import CONVERTIBLE, NEURONS, Noise, Place

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler was found")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Begin with an empty cache, and forget afterwards what came of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native.library.cache_clear()
    yield tmp_path / "cache" / "snnconvert"
    native.library.cache_clear()


def script(path: Path, *lines: str) -> str:
    path.write_text("\n".join(("#!/bin/sh", *lines)))
    path.chmod(0o755)
    return str(path)


def runs_plainly() -> None:
    """Check that neurons answer without compiled functions."""
    x, noise = torch.tensor([[0.2, 0.6, 9.0]]), Noise(0, torch.arange(1))
    for kind in ("two-phase", "tpp"):
        assert NEURONS[kind](torch.ones(3), 4, Place(0, 2)).window(x, noise)[0, 2] == 4
    train, _ = NEURONS["if"](torch.ones(3), 1, Place(0, 2)).spike_train(torch.zeros(1, 3), x[None], 0, noise)
    assert train.tolist() == [[[0, 0, 1]]]
    assert native_check.check() == []


def runs_compiled() -> None:
    """Check that all neurons answer by compiled functions, with the bits of plain torch."""
    found = native_check.check()
    assert [(each.neuron, each.different) for each in found] == [(name, 0) for name in CONVERTIBLE], (
        native.library().reason
    )


def test_without_a_compiler_torch_computes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "compiler", lambda: None)
    assert native.library() == Library(None, "no C++ compiler was found")
    runs_plainly()
    assert not cache.exists()


def test_a_compiler_that_fails_is_named_with_its_words(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = script(tmp_path / "gcc-1", r"printf 'no space left, caf\351 open' >&2", "exit 1")  # Latin-1
    monkeypatch.setattr(native, "compiler", lambda: path)
    found = native.library()
    assert found == Library(None, f"{path} did not compile them: no space left, caf\N{REPLACEMENT CHARACTER} open")
    runs_plainly()
    assert list(cache.iterdir()) == []


def test_a_compiler_that_is_gone_or_makes_nothing_is_a_reason(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (str(tmp_path / "gone"), script(tmp_path / "idle", "exit 0")):
        native.library.cache_clear()
        monkeypatch.setattr(native, "compiler", lambda path=path: path)
        assert native.library().functions is None
        assert native.library().reason.startswith(f"{path} did not compile them: ")
        assert "No such file" in native.library().reason
    runs_plainly()


def test_a_missing_source_is_a_reason(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "compiler", lambda: "g++")
    monkeypatch.setattr(native, "SOURCES", (*native.SOURCES, tmp_path / "gone.c"))
    found = native.library()
    assert found.functions is None
    assert "No such file" in found.reason
    runs_plainly()


@needs_compiler
@pytest.mark.parametrize("what", ["cache", "home"])
def test_what_cannot_be_kept_is_compiled_in_each_process(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    if what == "cache":
        (tmp_path / "cache").write_text("a file")
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", no_home)
    reason = native.library().reason
    assert "in each process anew, because they cannot be kept" in reason
    assert {"cache": "Not a directory", "home": "Could not determine home directory"}[what] in reason
    runs_compiled()


@needs_compiler
def test_a_compiler_without_threads_will_do(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(tmp_path / "cc", f'case "$*" in *-fopenmp*) exit 1;; esac; exec {compiler()} "$@"')
    monkeypatch.setattr(native, "compiler", lambda: path)
    assert native.library().functions is not None, native.library().reason
    runs_compiled()


@needs_compiler
def test_it_is_compiled_once_and_again_where_the_file_is_damaged(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    path = script(tmp_path / "cc", f'echo run >> {log}; exec {compiler()} "$@"')
    monkeypatch.setattr(native, "compiler", lambda: path)
    assert native.library().functions is not None
    digest, made = sorted(cache.iterdir())
    assert native.library().reason == f"compiled by {path}, kept in {made}"
    native.library.cache_clear()
    assert native.library().functions is not None
    assert log.read_text() == "run\n"
    whole = made.read_bytes()
    for damage in (b"", b"no library", whole[:64], whole[: len(whole) // 2], whole[:-1] + b"?"):
        # elsewhere: what is loaded already is found by its name, and must not be written to
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"other-{len(damage)}-{damage[-1:].hex()}"))
        other = native.cache_folder() / made.name
        other.parent.mkdir(parents=True)
        other.write_bytes(damage)
        other.with_name(digest.name).write_bytes(digest.read_bytes())
        log.write_text("")
        native.library.cache_clear()
        assert native.library().functions is not None, native.library().reason
        assert log.read_text() == "run\n"
        assert len(other.read_bytes()) == len(whole)
        runs_compiled()


def compile_at_once(folder: str, name: str) -> tuple[bool, bool]:
    """Compile when the other process is there too; return whether there are functions, and whether they are right."""
    os.environ["XDG_CACHE_HOME"] = folder
    Path(folder, name).touch()
    until = time.monotonic() + 60
    while len(list(Path(folder).glob("process *"))) < 2 and time.monotonic() < until:
        time.sleep(0.001)
    native.library.cache_clear()
    runs_compiled()
    return native.library().functions is not None, str(folder) in native.library().reason


@needs_compiler
def test_two_processes_may_compile_at_once(tmp_path: Path, start: Callable[..., Any]) -> None:
    workers = [start(compile_at_once, str(tmp_path), f"process {n}", count=1, join=False)[0] for n in range(2)]
    assert [worker.result for worker in workers] == [(True, True)] * 2
    left = sorted(path.suffix for path in (tmp_path / "snnconvert").iterdir())
    assert left == [".sha256", ".so"]  # and nothing beside


def in_threads(counts: tuple[int, ...]) -> list[list[int]]:
    """Return how many numbers differ from plain torch, of each neuron model in each number of threads."""
    found = []
    for count in counts:
        torch.set_num_threads(count)
        found.append([each.different for each in native_check.check()])
    return found


@needs_compiler
def test_threads_change_nothing(start: Callable[..., Any]) -> None:
    (worker,) = start(in_threads, (1, 2, 3, 5), count=1, join=False)
    assert worker.result == [[0, 0, 0]] * 4


def test_the_sources_are_installed() -> None:
    begins = [source.read_text().partition(" in ")[0] for source in native.SOURCES]
    assert begins == ["/* The neurons of one site", "/* Convolutions of binary spikes by look-up"]
