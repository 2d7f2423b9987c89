"""`snnconvert doctor`: what this machine runs, and what would make it faster."""

import os
import platform
from pathlib import Path
from typing import Any

import typer

from snnconvert.converter.errors import SnnconvertError

from . import options
from .output import Output, Table

COMPARED = ("numbers", "different")
LIBRARIES = ("snnconvert", "torch", "torchvision", "timm")
TORCHVISION_KEEPS = {
    "fashion-mnist": "FashionMNIST/raw/t10k-labels-idx1-ubyte",
    "mnist": "MNIST/raw/t10k-labels-idx1-ubyte",
    "cifar10": "cifar-10-batches-py/test_batch",
    "cifar100": "cifar-100-python/test",
}
"""The last file of each data set that torchvision unpacks: a download that failed leaves a folder without it."""


def doctor(json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Say what this machine runs, check its compiled neurons, and name what would make it faster."""
    out = Output(json=json, quiet=quiet)
    found: dict[str, Any] = {
        "versions": _versions(),
        "processor": _processor(),
        "compiled": _compiled(),
        "integers": _integers(),
        "tables": _tables_of_spikes(),
        "triton": _triton(),
        "devices": _devices(),
        "neurons": _neurons(),
        "cache": _cache(),
        "data": _data(),
    }
    advice = _advice(found)
    out.result(found | {"advice": advice}, *_tables(found, advice))
    wrong = [each for part in ("compiled", "triton") for each in found[part]["check"] if each["different"]]
    if wrong:
        words = ", ".join(f"{each['neuron']} {each['different']:,} of {each['numbers']:,}" for each in wrong)
        out.complain(
            f"compiled neurons give other numbers than plain torch: {words}",
            f"remove {found['cache']['folder']}, so that they are compiled anew; if they stay wrong, please report it",
        )
        raise typer.Exit(SnnconvertError.exit_code)


def _versions() -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _processor() -> dict[str, Any]:
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "name": next(names, platform.processor() or platform.machine()),
        "cores": usable or 1,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _compiled() -> dict[str, Any]:
    from snnconvert.converter import native, native_check
    from snnconvert.converter.fused import compiler

    functions, reason = native.library()
    compared = [each._asdict() for each in native_check.check()]
    return {"available": functions is not None, "compiler": compiler(), "reason": reason, "check": compared}


def _integers() -> dict[str, Any]:
    from snnconvert.converter.integer_synapses import available

    fast = available()
    reason = "in whole numbers, on a CPU" if fast else "in floats: this processor has no AVX-512 VNNI"
    return {"available": fast, "reason": reason}


def _tables_of_spikes() -> dict[str, Any]:
    from snnconvert.converter import native, spike_tables

    functions = native.library().functions
    if spike_tables.available():
        return {"available": True, "reason": "looked up in tables, on a CPU"}
    if functions is None:
        why = "nothing is compiled"
    else:
        why = "their sums are wrong here" if functions.has_tables() else "this processor has no AVX-512"
    return {"available": False, "reason": f"as other counts: {why}"}


def _triton() -> dict[str, Any]:
    import torch

    from snnconvert.converter import native_check, triton_neurons

    module, reason = triton_neurons.kernels()
    compared = [each._asdict() for each in native_check.check("cuda")] if torch.cuda.is_available() else []
    return {
        "available": module is not None,
        "reason": reason,
        "check": compared,
        "given_up": native_check.given_up(),
    }


def _devices() -> list[dict[str, Any]]:
    import torch

    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [
        {"device": f"cuda:{number}", "name": each.name, "memory": each.total_memory}
        for number, each in enumerate(found)
    ]


def _neurons() -> list[dict[str, str]]:
    import torch

    from snnconvert.converter import native_check
    from snnconvert.converter.neurons import CONVERTIBLE

    devices = ("cpu", "cuda") if torch.cuda.device_count() else ("cpu",)
    return [
        {"neuron": name, "device": device, "executor": native_check.executor(name), "path": native_check.path(device)}
        for device in devices
        for name in CONVERTIBLE
    ]


def _cache() -> dict[str, Any]:
    from snnconvert.converter.native import cache_folder

    folder = cache_folder()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    return {"folder": str(folder), "writable": nearest.is_dir() and os.access(nearest, os.W_OK)}


def _data() -> list[dict[str, str]]:
    """Return the data sets that open without a download, and where they lie."""
    from snnconvert.model_zoo.named_data import DEBIAN, SAMPLE, default_root

    found, root = {SAMPLE: "embedded"}, default_root()
    if DEBIAN.is_dir():
        found["fashion-mnist"] = str(DEBIAN)
    found |= {name: str((root / last).parent) for name, last in TORCHVISION_KEEPS.items() if (root / last).exists()}
    return [{"name": name, "where": where} for name, where in found.items()]


def _advice(found: dict[str, Any]) -> list[str]:
    """Return what would help on this machine, a line each."""
    advice, processor = [], found["processor"]
    if found["compiled"]["compiler"] is None:
        advice.append("install g++ (Debian: apt install g++): tpp evaluates several times faster")
    if not found["cache"]["writable"]:
        folder = found["cache"]["folder"]
        advice.append(f"{folder} cannot be written to, so each process compiles the neurons anew: set XDG_CACHE_HOME")
    if found["compiled"]["compiler"] is not None and not found["compiled"]["available"]:
        advice.append(f"neurons run without compiled functions: {found['compiled']['reason']}")
    if found["devices"] and not found["triton"]["available"]:
        advice.append("install triton (pip install triton): without it neurons run as plain torch on a GPU")
    for neuron, reason in found["triton"]["given_up"].items():
        advice.append(f"{neuron} runs without Triton on a GPU, please report it: {reason}")
    if processor["threads"] == 1 < processor["cores"]:
        advice.append(f"torch uses 1 thread of {processor['cores']} cores: unset OMP_NUM_THREADS, or set it to more")
    return advice


def _tables(found: dict[str, Any], advice: list[str]) -> list[Table]:
    processor, compiled, triton, cache = (found[part] for part in ("processor", "compiled", "triton", "cache"))
    cores = f"{processor['cores']} cores, of which torch uses {processor['threads']}, {processor['instructions']}"
    machine = [
        *((name, version or "missing") for name, version in found["versions"].items()),
        ("processor", f"{processor['name']}, {cores}"),
        *((each["device"], f"{each['name']}, {each['memory'] / 2**30:.0f} GiB") for each in found["devices"]),
        *([] if found["devices"] else [("cuda", "torch sees no CUDA device")]),
        ("cache", cache["folder"] + ("" if cache["writable"] else ", which cannot be written to")),
    ]
    checked = [
        (
            each["neuron"],
            device,
            "OTHER BITS" if each["different"] else "same bits",
            *(f"{each[name]:,}" for name in COMPARED),
        )
        for device, part in (("cpu", compiled), ("cuda", triton))
        for each in part["check"]
    ]
    libraries = [
        ("C", compiled["reason"]),
        ("convolutions of counts", found["integers"]["reason"]),
        ("convolutions of binary spikes", found["tables"]["reason"]),
        ("Triton, for GPUs", triton["reason"]),
    ]
    tables = [
        Table("machine", ("what", "value"), machine, words=2),
        Table("neurons", ("neuron", "device", "executor", "by"), [tuple(row.values()) for row in found["neurons"]], 4),
        Table("compiled neurons", ("what", "value"), libraries, words=2),
        Table("compiled neurons beside plain torch", ("neuron", "device", "answer", *COMPARED), checked, words=3),
        Table("data sets without download", ("name", "where"), [tuple(row.values()) for row in found["data"]], words=2),
        Table("what would help", ("advice",), [(line,) for line in advice]),
    ]
    return [table for table in tables if table.rows]
