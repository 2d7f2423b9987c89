"""How long a converted network takes next to its own ANN, as ratios within one run.

    python benchmarks/speed.py                        # networks, memory, spikes and the whole command
    python benchmarks/speed.py --start-up --growth    # what a command takes to start; time against T, images, size
    python benchmarks/speed.py --write                # also put what was measured into docs/speed.json and speed.md

Prints one JSON document. Every figure is the median of interleaved repeats, with quartiles. The ANN of a ratio is the
prepared graph, batch norm folded, in the faster of two memory formats; the ANN as it was given stands beside it.
Networks run on the CPU, and on a GPU where there is one. SpikingJelly's columns need the extra ``benchmark``;
checkpoint and images of CIFAR lie in $SNNCONVERT_SHARED (default ../shared), weights and images are random where not.
"""

import argparse
import copy
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import growth
import peer
import torch
from growth import (
    FORMATS,
    NEURONS,
    Subject,
    Times,
    free_bytes,
    in_format,
    interleaved,
    prepared,
    quartiles,
    ratio,
    settler,
    shown,
    spiking,
    table,
)

from snnconvert import load, observe, save
from snnconvert.cli.memory import keep_freed
from snnconvert.converter import integer_synapses, spike_tables

TARGET = Path("docs/speed.json")
MEGABYTE = 1e6
PARTS = ("networks", "spikes", "command", "start_up", "growth")

Rows = dict[str, list[dict[str, Any]]]


def _medians(document: Rows, value_of: Callable[[dict[str, Any]], dict[str, float] | None]) -> list[float]:
    """Return the median of one ratio in each row of the networks on the CPU; GPUs have no bars."""
    rows = [row for network in document["networks"] if network["device"] == "cpu" for row in network["rows"]]
    return [found["median"] for row in rows if (found := value_of(row)) is not None]


BARS: tuple[tuple[str, float, Callable[[Rows], list[float]]], ...] = (
    ("`two-phase` / ANN", 1.15, lambda d: _medians(d, lambda row: row["ratios"]["two-phase"])),
    ("`tpp` / ANN", 1.5, lambda d: _medians(d, lambda row: row["ratios"]["tpp"])),
    ("`if` / ANN, per step", 1, lambda d: _medians(d, lambda row: row["if_per_step"])),
    ("`if` / SpikingJelly's faster mode", 1 / 1.7, lambda d: _medians(d, lambda row: row.get("if_to_peer"))),
    (
        "memory of `if` above its ANN, MB",
        500,
        lambda d: [m["above"] for n in d["networks"] for m in n.get("memory", [])],
    ),
    ("unexplained counts in float64", 0, lambda d: [r["unexplained"] for r in d["spikes"] if r["dtype"] == "float64"]),
    ("share of other counts in float32", 1e-3, lambda d: [r["share"] for r in d["spikes"] if r["dtype"] == "float32"]),
    (
        "`snnconvert eval` / bare loop of the ANN",
        2,
        lambda d: [r["ratio"]["median"] for r in d["command"] if "ratio" in r],
    ),
    ("`snnconvert --help` / imports", 3, lambda d: [r["ratio"]["median"] for r in d["start_up"][:1]]),
    ("`snnconvert convert` / imports", 2, lambda d: [r["ratio"]["median"] for r in d["start_up"][1:]]),
)
"""What is asked for: a name, the largest value that is good enough, and where the values lie in the document."""


def summary(times: Times, steps: int, batch: int) -> dict[str, Any]:
    """Return one row: seconds, and ratios to the faster ANN and to SpikingJelly's faster mode.

    SpikingJelly leaves the memory format to its user: ``if_to_peer`` is for images and weights as they come,
    ``if_to_best_peer`` for the better format.
    """
    middle = {name: statistics.median(seconds) for name, seconds in times.items()}
    ann = min((name for name in times if name.startswith("ANN")), key=middle.__getitem__)
    peers = [name for name in times if name.startswith("SpikingJelly")]
    row = {
        "T": steps,
        "ann": ann,
        "seconds": {name: quartiles(seconds) for name, seconds in times.items()},
        "images_per_second": {name: round(batch / middle[name], 1) for name in (ann, *NEURONS)},
        "ratios": {name: ratio(times[name], times[ann]) for name in NEURONS},
        "if_per_step": ratio(times["if"], times[ann], steps),
    }
    if peers:
        best = min(peers, key=middle.__getitem__)
        usual = min((name for name in peers if name.endswith("contiguous")), key=middle.__getitem__)
        row |= {"if_to_peer": ratio(times["if"], times[usual]), "if_to_best_peer": ratio(times["if"], times[best])}
    return row


def measure(subject: Subject, steps: Iterable[int], repeats: int, device: str = "cpu") -> dict[str, Any]:
    """Measure one network at each T."""
    graph, images = prepared(subject, device)
    calibration = observe(graph, [images])
    given = copy.deepcopy(subject.model).to(device)
    rows = []
    for t in steps:
        runs: dict[str, Callable[[], Any]] = {f"ANN, {name}": in_format(graph.module, images, name) for name in FORMATS}
        runs |= {f"as given, {name}": in_format(given, images, name) for name in FORMATS}
        models = {name: spiking(graph, calibration, name, t) for name in NEURONS}
        runs |= {name: partial(model, images) for name, model in models.items()}
        values = models["if"].schedule.values_per_image * len(images) * t
        modes = "sm" if 2 * values * images.element_size() < free_bytes(device) else "s"
        runs |= peer.runs(graph, calibration, images, t, modes)
        rows.append(summary(interleaved(runs, repeats, settler(device)), t, len(images)))
    return {
        "network": subject.name,
        "weights": subject.weights,
        "input": list(images.shape),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "rows": rows,
    }


def memory(subject: Subject, steps: Iterable[int], threads: int, folder: Path) -> list[dict[str, Any]]:
    """Measure the peak memory of an `if` network and of its ANN, each alone in a process that opens the artefact."""
    graph, images = prepared(subject)
    calibration = observe(graph, [images])
    rows = []
    for t in steps:
        artefact = folder / "if.snn"
        save(artefact, spiking(graph, calibration, "if", t), {})
        peaks = {}
        for which in ("ann", "if"):
            words = [sys.executable, __file__, "--peak-of", which, str(artefact), str(len(images))]
            peaks[which] = round(int(peer.quietly(*words, threads=threads)) / MEGABYTE)
        rows.append({"T": t, **peaks, "above": peaks["if"] - peaks["ann"]})
    return rows


def peak_of(which: str, artefact: str, batch: str) -> int:
    """Return the largest memory of this process in bytes after one batch through the ANN or the network."""
    model, _ = load(artefact)
    images = torch.randn(int(batch), *model.input_shapes[0])
    with torch.no_grad():
        (model.ann if which == "ann" else model)(images)
    # not ru_maxrss: that begins with what the parent had when it started this process
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def machine(threads: int) -> dict[str, Any]:
    """Return what figures depend on."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    compiler = shutil.which("cc") or shutil.which("clang")
    whole = "whole numbers" if integer_synapses.available() else "floats"
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout if compiler else "none"
    return {
        "cpu": next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
        ),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "convolutions of binary spikes": "tables" if spike_tables.available() else whole,
        "of counts": whole,
        "spikingjelly": peer.version(),
        "compiler": said.splitlines()[0],
    }


def measure_part(part: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return the rows of one part of the document."""
    shared, repeats, threads = options.shared, options.repeats, options.threads
    if part == "growth":
        return growth.growth(shared, repeats)
    if part == "start_up":
        return peer.start_up(folder, repeats, threads)
    if part == "command":
        return [peer.whole_command(growth.cifar_resnet20(shared, 2), shared, folder, min(repeats, 3), threads)]
    if part == "spikes":
        if peer.version() is None:
            return []
        few = growth.cifar_resnet20(shared, 4)
        return [peer.same_spikes(few, t, dtype) for dtype in (torch.float64, torch.float32) for t in (8, 32)]
    rows = []
    for subject in (growth.resnet(18, 4), growth.cifar_resnet20(shared, 100)):
        rows.append(measure(subject, options.steps, repeats))
        rows[-1]["memory"] = memory(subject, options.steps, threads, folder)
        if torch.cuda.is_available():
            rows.append(measure(subject, options.steps, repeats, "cuda"))
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    rows[0]["bandwidth"] = [growth.bandwidth(device, repeats) for device in devices]
    return rows


HEAD = f"""# Speed: a converted network next to its own ANN

`python benchmarks/speed.py --write` measures and writes this page, with `--start-up` and `--growth` those parts
([speed.json](speed.json)).

Medians of interleaved repeats of one process, with [quartiles]; freed memory stays with the process, for all alike
(`cli/memory.py`). ANN: the prepared graph, batch norm folded, in the faster memory format (named beside it); *as
given*: the network as it was loaded, contiguous / channels last. Neurons are compiled; where a part says so, so are
convolutions of nothing but binary spikes, which look up sums in tables (`converter/spike_tables.py`), and those of
counts run in whole numbers if that pays (`converter/integer_synapses.py`); all else runs as in the ANN.
`two-phase` and `tpp` run in the counts executor. SpikingJelly runs the same graph, thresholds and initial potential,
in its step modes s and m, contiguous / channels last; where its columns are empty, install it with `{peer.HOW}`, or
mode m had too little memory.
"""

TITLES = dict(zip(PARTS, ("Networks", "Same spikes", "Whole command", "Start-up", "Growth"), strict=True))
PAGES: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
    "networks": lambda rows: [line for row in rows for line in network_page(row)],
    "spikes": peer.spikes_page,
    "command": peer.timed_page,
    "start_up": peer.timed_page,
    "growth": growth.page,
}


def bars(rows: Rows) -> list[dict[str, Any]]:
    """Return each bar, the worst value that was measured, and whether it is met; None where nothing was."""
    found = []
    for name, limit, values_of in BARS:
        values = values_of({key: [] for key in PARTS} | rows)
        worst = max(values, default=None)
        found.append({"bar": name, "limit": limit, "worst": worst, "met": None if worst is None else worst <= limit})
    return found


def network_page(network: dict[str, Any]) -> list[str]:
    """Return the lines of one network."""
    rows = network["rows"]
    size = "x".join(map(str, network["input"]))
    columns = ["T", "ANN, ms", "as given, ms", *(f"{name} / ANN" for name in NEURONS), "if / ANN / T"]
    lines = [f"### {network['network']}, {size}, {network['device']} (weights: {network['weights']})", ""]
    cells = []
    for row in rows:
        middle = {name: f"{1000 * value['median']:.4g}" for name, value in row["seconds"].items()}
        given = " / ".join(middle[f"as given, {name}"] for name in FORMATS)
        ratios = [shown(row["ratios"][name]) for name in NEURONS]
        peers = [middle.get(f"SpikingJelly {m}, {f}", "") for m in "sm" for f in FORMATS]
        best = [" / ".join(peers[:2]), " / ".join(peers[2:])]
        best += [shown(row.get(name)) for name in ("if_to_peer", "if_to_best_peer")]
        ann = f"{middle[row['ann']]} ({row['ann'].removeprefix('ANN, ')})"
        cells.append([row["T"], ann, given, *ratios, shown(row["if_per_step"]), middle["if"], *best])
    columns += ["if, ms", "SpikingJelly s, ms", "SpikingJelly m, ms", "if / faster mode", "in the faster format"]
    lines += table(columns, cells)
    cells = [[row["T"], *row["images_per_second"].values()] for row in rows]
    lines += ["Images a second:", "", *table(["T", "ANN", *NEURONS], cells)]
    if "memory" in network:
        lines += ["Peak memory of a process, MB:", ""]
        lines += table(["T", "ANN", "if", "above"], (m.values() for m in network["memory"]))
    for each in network.get("bandwidth", []):
        speeds = ", ".join(f"{name} {value}" for name, value in each["gigabytes_per_second"].items())
        lines += [f"One large site on {each['device']}, T={each['T']}, in GB/s that must move at least: {speeds}.", ""]
    return lines


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def document(parts: dict[str, Any]) -> str:
    """Return the page of what was measured."""
    rows: Rows = {name: part["rows"] for name, part in parts.items()}
    lines = [HEAD]
    verdicts = {None: "not measured", True: "met", False: "**not met**"}
    lines += table(
        ["bar", "limit", "worst", ""],
        ([b["bar"], b["limit"], _figure(b["worst"]), verdicts[b["met"]]] for b in bars(rows)),
    )
    for name, part in parts.items():
        facts = ", ".join(f"{key} {value}" for key, value in part["machine"].items())
        load = " to ".join(f"{part[key][0]:.2f}" for key in ("load_at_start", "load_at_end"))
        lines += [f"## {TITLES[name]}", "", f"{facts}; {part['repeats']} repeats; load {load}.", ""]
        lines += PAGES[name](part["rows"])
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part in PARTS:
        parser.add_argument(f"--{part.replace('_', '-')}", dest="parts", action="append_const", const=part)
    parser.add_argument("--steps", nargs="+", type=int, default=[4, 8, 32, 64])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("SNNCONVERT_SHARED", "../shared")))
    parser.add_argument("--write", action="store_true", help=f"replace these parts of {TARGET}, and write the page")
    parser.add_argument("--peak-of", nargs=3, metavar=("WHICH", "ARTEFACT", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print(peak_of(*options.peak_of))
        return
    torch.set_num_threads(options.threads)
    keep_freed()
    parts: dict[str, Any] = {}
    for part in options.parts or PARTS[:3]:
        facts = {"machine": machine(options.threads), "repeats": options.repeats, "load_at_start": os.getloadavg()}
        with tempfile.TemporaryDirectory() as folder:
            rows = measure_part(part, options, Path(folder))
        parts[part] = {**facts, "load_at_end": os.getloadavg(), "rows": rows}
    known = json.loads(TARGET.read_text()) if options.write and TARGET.exists() else {}
    merged = json.loads(json.dumps({name: (known | parts)[name] for name in PARTS if name in known | parts}))
    print(json.dumps(merged | {"bars": bars({name: part["rows"] for name, part in merged.items()})}, indent=2))
    if options.write:
        TARGET.write_text(json.dumps(merged, indent=1) + "\n")
        TARGET.with_suffix(".md").write_text(document(merged))


if __name__ == "__main__":
    main()
