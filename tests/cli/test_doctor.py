"""`snnconvert doctor` on this machine, and on machines that lack something."""

import os
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from snnconvert.cli import doctor
from snnconvert.converter import fused, integer_synapses, native, native_check, spike_tables, triton_neurons
from snnconvert.converter.fused import compiler
from snnconvert.converter.native_check import Comparison
from snnconvert.converter.neurons import CONVERTIBLE
from snnconvert.converter.triton_neurons import Kernels
from snnconvert.model_zoo import named_data
from snnconvert.model_zoo.libraries import torchvision

Run = Callable[..., Any]
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler was found")


@pytest.fixture
def fresh() -> Iterator[None]:
    """Look for compiled functions anew, and forget afterwards what was found."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.fixture
def no_compiler(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (native, native_check, fused):
        monkeypatch.setattr(module, "compiler", lambda: None)


@needs_compiler
def test_this_machine(run: Run) -> None:
    result = run("doctor", "--quiet")
    assert (result.code, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    for neuron in CONVERTIBLE:
        assert [neuron, "cpu", "same", "bits"] in [line[:4] for line in lines]
    assert [
        "if",
        "cpu",
        "layers,",
        "all",
        "steps",
        "of",
        "a",
        "few",
        "images",
        "at",
        "a",
        "time",
        "compiled",
        "C",
    ] in lines
    assert ["two-phase", "cpu", "counts,", "one", "pass", "compiled", "C"] in lines
    assert native.library().reason in result.stdout
    assert ["torch", torch.__version__] in lines


@needs_compiler
def test_this_machine_in_json(run: Run) -> None:
    found = run("doctor", "--json").document
    assert set(found) == {
        "versions",
        "processor",
        "compiled",
        "integers",
        "tables",
        "triton",
        "devices",
        "neurons",
        "cache",
        "data",
        "advice",
    }
    assert found["versions"]["snnconvert"] == metadata.version("snnconvert")
    assert found["processor"]["threads"] == torch.get_num_threads()
    assert found["compiled"]["check"] == [each._asdict() for each in native_check.check()]
    assert len(found["devices"]) == torch.cuda.device_count()
    module, reason = triton_neurons.kernels()
    assert (found["triton"]["available"], found["triton"]["reason"]) == (module is not None, reason)
    on_cpu = {each["neuron"]: each["path"] for each in found["neurons"] if each["device"] == "cpu"}
    assert on_cpu == dict.fromkeys(CONVERTIBLE, "compiled C")


@needs_compiler
def test_a_wrong_answer_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [Comparison("if", 4096, 0), Comparison("tpp", 4096, 1234)]
    monkeypatch.setattr(native_check, "check", lambda: wrong)
    result = run("doctor")
    assert result.code == 1
    assert "OTHER BITS" in result.stdout
    error, hint = result.stderr.splitlines()
    assert error == "error: compiled neurons give other numbers than plain torch: tpp 1,234 of 4,096"
    assert hint.startswith(f"hint: remove {native.cache_folder()}, so that they are compiled anew")
    result = run("doctor", "--json")
    assert (result.code, result.document["compiled"]["check"][1]["different"]) == (1, 1234)


def test_without_a_compiler(run: Run, no_compiler: None) -> None:
    result = run("doctor")
    assert result.code == 0
    assert "no C++ compiler was found" in result.stdout
    assert "install g++ (Debian: apt install g++): tpp evaluates several times faster" in result.stdout
    assert "same bits" not in result.stdout
    found = run("doctor", "--json").document
    assert found["compiled"] == {
        "available": False,
        "compiler": None,
        "reason": "no C++ compiler was found",
        "check": [],
    }
    assert {each["path"] for each in found["neurons"]} == {"plain torch"}


def test_a_compiler_that_fails(run: Run, fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cc"
    path.write_text("#!/bin/sh\necho no licence >&2\nexit 1\n")
    path.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for module in (native, fused):
        monkeypatch.setattr(module, "compiler", lambda: str(path))
    found = run("doctor", "--json").document
    words = f"neurons run without compiled functions: {path} did not compile them: no licence"
    assert [line for line in found["advice"] if "neurons" in line] == [words]


@needs_compiler
def test_a_cache_that_cannot_be_written(run: Run, fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = run("doctor", "--json").document
    folder = str(tmp_path / "file" / "snnconvert")
    assert found["cache"] == {"folder": folder, "writable": False}
    assert found["compiled"]["available"]
    about = [line for line in found["advice"] if "thread" not in line]
    assert about == [f"{folder} cannot be written to, so each process compiles the neurons anew: set XDG_CACHE_HOME"]
    assert f"{folder}, which cannot be written to" in run("doctor").stdout


@pytest.mark.parametrize(("threads", "cores", "advised"), [(1, 4, True), (1, 1, False), (4, 4, False), (2, 8, False)])
def test_idle_cores(run: Run, monkeypatch: pytest.MonkeyPatch, threads: int, cores: int, advised: bool) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    found = run("doctor", "--json").document
    line = f"torch uses 1 thread of {cores} cores: unset OMP_NUM_THREADS, or set it to more"
    assert (line in found["advice"]) == advised
    assert any("OMP_NUM_THREADS" in each for each in found["advice"]) == advised


def test_a_machine_with_a_gpu(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(name="Imaginary 9000", total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: device)
    result = run("doctor")
    assert "Imaginary 9000, 24 GiB" in result.stdout
    assert "torch sees no CUDA device" not in result.stdout
    found = run("doctor", "--json").document
    assert found["devices"] == [{"device": "cuda:0", "name": "Imaginary 9000", "memory": 24 * 2**30}]
    assert [(each["neuron"], each["device"]) for each in found["neurons"]] == [
        (name, device) for device in ("cpu", "cuda") for name in CONVERTIBLE
    ]


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("triton", [False, True])
def test_triton_is_named_and_advised_where_there_is_a_gpu(
    run: Run, monkeypatch: pytest.MonkeyPatch, gpu: bool, triton: bool
) -> None:
    device = SimpleNamespace(name="Imaginary 9000", total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(gpu))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: device)
    kernels = Kernels(triton_neurons, "triton 7") if triton else Kernels(None, "triton cannot be imported: gone")
    monkeypatch.setattr(triton_neurons, "kernels", lambda: kernels)
    assert kernels.reason in run("doctor").stdout
    found = run("doctor", "--json").document
    line = "install triton (pip install triton): without it neurons run as plain torch on a GPU"
    assert (line in found["advice"]) == (gpu and not triton)
    paths = {each["path"] for each in found["neurons"] if each["device"] == "cuda"}
    assert paths == ({native_check.path("cuda")} if gpu else set())
    assert (not gpu) or (native_check.path("cuda").startswith("Triton") == triton)


def test_kernels_that_are_wrong_on_this_gpu(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    check = native_check.check
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        native_check, "check", lambda device="cpu": [Comparison("tpp", 7654, 0)] if device == "cuda" else check()
    )
    monkeypatch.setattr(native_check, "given_up", lambda: {"tpp": "ArithmeticError: other numbers"})
    result = run("doctor")
    assert result.code == 0  # what took its place is right
    assert ["tpp", "cuda", "same", "bits", "7,654", "0"] in [line.split() for line in result.stdout.splitlines()]
    advice = "tpp runs without Triton on a GPU, please report it: ArithmeticError: other numbers"
    assert advice in run("doctor", "--json").document["advice"]


def test_data_sets_that_are_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian, root = tmp_path / "debian", tmp_path / "root"
    monkeypatch.setattr(named_data, "DEBIAN", debian)
    monkeypatch.setenv("SNNCONVERT_DATA", str(root))
    (root / "MNIST" / "raw").mkdir(parents=True)  # what a download that failed leaves

    def found() -> dict[str, str]:
        return {each["name"]: each["where"] for each in run("doctor", "--json").document["data"]}

    assert found() == {"fashion-mnist-sample": "embedded"}
    debian.mkdir()
    assert found()["fashion-mnist"] == str(debian)
    for last in doctor.TORCHVISION_KEEPS.values():
        (root / last).parent.mkdir(parents=True, exist_ok=True)
        (root / last).touch()
    assert found() == {
        "fashion-mnist-sample": "embedded",
        "fashion-mnist": str(root / "FashionMNIST" / "raw"),
        "mnist": str(root / "MNIST" / "raw"),
        "cifar10": str(root / "cifar-10-batches-py"),
        "cifar100": str(root / "cifar-100-python"),
    }


def test_the_files_are_those_of_torchvision() -> None:
    datasets = torchvision().datasets
    for name, folder in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        assert doctor.TORCHVISION_KEEPS[name] == f"{folder.base_folder}/{folder.test_list[-1][0]}"
    for name, kind in (("mnist", datasets.MNIST), ("fashion-mnist", datasets.FashionMNIST)):
        last = kind.resources[-1][0].removesuffix(".gz")
        assert doctor.TORCHVISION_KEEPS[name] == f"{kind.__name__}/raw/{last}"


def test_a_library_that_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without(name: str) -> str:
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    assert ["timm", "missing"] in [line.split() for line in run("doctor").stdout.splitlines()]
    assert run("doctor", "--json").document["versions"]["timm"] is None


@pytest.mark.parametrize("fast", [True, False])
def test_how_convolutions_of_counts_run_is_said(fast: bool, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_synapses, "available", lambda: fast)
    result = run("doctor", "--quiet")
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("convolutions of counts"))
    assert ("in whole numbers" in line, "no AVX-512 VNNI" in line) == (fast, not fast)
    assert run("doctor", "--json").document["integers"]["available"] is fast


@pytest.mark.parametrize(
    ("available", "functions", "words"),
    [
        (True, None, "looked up in tables, on a CPU"),
        (False, None, "as other counts: nothing is compiled"),
        (False, SimpleNamespace(has_tables=lambda: 0), "as other counts: this processor has no AVX-512"),
        (False, SimpleNamespace(has_tables=lambda: 1), "as other counts: their sums are wrong here"),
    ],
)
def test_how_convolutions_of_binary_spikes_run_is_said(
    available: bool, functions: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spike_tables, "available", lambda: available)
    monkeypatch.setattr(native, "library", lambda: native.Library(functions, "for a test"))
    assert doctor._tables_of_spikes() == {"available": available, "reason": words}
