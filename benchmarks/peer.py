"""The other side of a ratio: SpikingJelly's neurons in our prepared graph, and bare Python commands.

SpikingJelly (extra ``benchmark``) gets what we run: the prepared graph, where pools stand before activations, with the
same thresholds and initial potential. Each site becomes scaler, IFNode, scaler, as its own converter writes it. It runs
step by step (its mode "s": T passes) or layer by layer (mode "m": time folded into the batch around what is
stateless); the image goes through the first layer at every step, because nothing there says that it stays the same.
"""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import torch
from growth import (
    CHECKPOINT,
    FORMATS,
    TEST,
    TRAIN,
    Subject,
    in_format,
    interleaved,
    prepared,
    quartiles,
    ratio,
    shown,
    spiking,
    table,
)
from torch import Tensor, nn

from snnconvert import observe
from snnconvert.calibration import Calibration
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.graph.sites import site_of
from snnconvert.converter.thresholds import Thresholds
from snnconvert.model_zoo import cifar_resnet

HOW = "pip install '.[benchmark]'"
START = 0.5
"""The initial potential in units of the threshold, which is 1 behind the scaler."""

TIE = 1e-9
"""In units of the threshold: closer to it, the last bits of a sum decide whether a neuron fires."""

IMPORTS = """
import torch
try:
    import torchvision
except RuntimeError:  # built for another torch; what it looks up is enough
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision
import timm
"""

BARE_LOOP = """
import json, runpy, sys
import numpy as np, torch
source, weights, data, mean, std = json.loads(sys.argv[1])
model = runpy.run_path(source)["CifarResNet"](20)
model.load_state_dict(torch.load(weights, weights_only=True))
model.eval()
mean, std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
file = np.load(data)
images, labels = torch.from_numpy(file["images"]).permute(0, 3, 1, 2), torch.from_numpy(file["labels"])
right = 0
with torch.no_grad():
    for start in range(0, len(images), 100):
        logits = model((images[start : start + 100].float() / 255 - mean) / std)
        right += int((logits.argmax(1) == labels[start : start + 100]).sum())
print(100 * right / len(images))
"""


def version() -> str | None:
    """Return the version of SpikingJelly, None where it is not installed."""
    try:
        return metadata.version("spikingjelly")
    except metadata.PackageNotFoundError:
        return None


def _part(name: str) -> Any:
    return import_module(f"spikingjelly.activation_based.{name}")


class Population(nn.Module):
    """SpikingJelly's neurons of one site: by ``steps`` at once, or by one where that is None."""

    def __init__(self, theta: Tensor, axis: int, steps: int | None) -> None:
        super().__init__()
        scaler, self.steps = _part("ann2snn.modules").ChannelVoltageScaler, steps
        self.down, self.up = scaler(1 / theta, channel_dim=axis), scaler(theta, channel_dim=axis)
        self.node = _part("neuron").IFNode(v_threshold=1.0, v_reset=None, step_mode="m" if steps else "s")
        self.node.set_reset_value("v", START)

    def forward(self, z: Tensor) -> Tensor:
        """Return theta times the spikes for the current ``z`` [batch or steps batch, ...]."""
        current = self.down(z)
        if self.steps is None:
            return self.up(self.node(current))
        return self.up(self.node(current.unflatten(0, (self.steps, -1))).flatten(0, 1))


class Peer(nn.Module):
    """The prepared graph with SpikingJelly's neurons, in its step mode "s" or "m"."""

    def __init__(self, graph: PreparedGraph, thresholds: Thresholds, steps: int, mode: str) -> None:
        super().__init__()
        self.body, self.steps, self.mode = copy.deepcopy(graph.module), steps, mode
        self.populations: dict[str, Population] = {}
        values = thresholds.to(graph).values
        for node in self.body.graph.nodes:
            site = site_of(node)
            if site is not None:
                population = Population(values[site.name], site.axis, steps if mode == "m" else None)
                self.populations[site.name] = population
                self.body.set_submodule(str(node.target), self.populations[site.name])

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean of the output over the window, [batch, classes]."""
        _part("functional").reset_net(self.body)
        if self.mode == "m":
            together: Tensor = self.body(images.repeat(self.steps, *[1] * (images.ndim - 1)))
            return together.unflatten(0, (self.steps, -1)).mean(0)
        total = self.body(images)
        for _ in range(self.steps - 1):
            total = total + self.body(images)
        mean: Tensor = total / self.steps
        return mean


def watched(peer: Peer, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the spike count of each neuron, and how near its potential came to a tie; that in mode "s" only."""
    counts: dict[str, Tensor] = {}
    distance: dict[str, Tensor] = {}

    def look(name: str, node: Any, _: Any, spikes: Tensor) -> None:
        if peer.mode == "m":
            counts[name] = spikes.sum(0)
            return
        counts[name] = counts.get(name, 0) + spikes
        before = (node.v + spikes - 1).abs()  # v is that after the reset
        distance[name] = torch.minimum(distance[name], before) if name in distance else before

    hooks = [p.node.register_forward_hook(partial(look, name)) for name, p in peer.populations.items()]
    with torch.no_grad():
        peer(images)
    for hook in hooks:
        hook.remove()
    return counts, distance


def unexplained(sites: Iterable[str], different: dict[str, Tensor], tied: dict[str, Tensor]) -> int:
    """Return how many neurons differ that were at no tie, and that no neuron at a tie of their image comes before.

    Args:
        sites: in the order in which they run.
        different, tied: for each site, whether each neuron [batch, ...] is.
    """
    found, moved = 0, torch.tensor(False)
    for name in sites:
        differs = different[name].flatten(1)
        ties = tied[name].flatten(1)
        found += int((differs & ~ties & ~moved).sum())
        moved = moved | ties.any(1, keepdim=True)
    return found


def same_spikes(subject: Subject, steps: int, dtype: torch.dtype) -> dict[str, Any]:
    """Return how many spike counts of our `if` network and SpikingJelly's differ on the images of ``subject``."""
    graph, images = prepared(subject, dtype=dtype)
    calibration = observe(graph, [images])
    thresholds = calibration.thresholds(graph, steps=steps)
    ours = spiking(graph, calibration, "if", steps).activity(images)
    theirs, distance = watched(Peer(graph, thresholds, steps, "s"), images)
    together, _ = watched(Peer(graph, thresholds, steps, "m"), images)
    different = {name: ours[name] != theirs[name] for name in ours}
    tied = {name: distance[name] < TIE for name in ours}
    neurons = sum(count.numel() for count in ours.values())
    unlike = sum(int(each.sum()) for each in different.values())
    return {
        "network": subject.name,
        "dtype": str(dtype).removeprefix("torch."),
        "T": steps,
        "images": len(images),
        "counts": neurons,
        "different": unlike,
        "share": unlike / neurons,
        "layer_wise_different": sum(int((ours[name] != together[name]).sum()) for name in ours),
        "at_a_tie": sum(int(each.sum()) for each in tied.values()),
        "unexplained": unexplained(ours, different, tied),
        "spikes": sum(float(count.sum()) for count in ours.values()),
    }


def runs(graph: PreparedGraph, calibration: Calibration, images: Tensor, steps: int, modes: str) -> dict[str, Any]:
    """Return a run for each of ``modes`` in each memory format, none where SpikingJelly is not installed."""
    found: dict[str, Any] = {}
    thresholds = calibration.thresholds(graph, steps=steps)
    for mode in modes if version() else "":
        peer = Peer(graph, thresholds, steps, mode)
        found |= {f"SpikingJelly {mode}, {name}": in_format(peer, images, name) for name in FORMATS}
    return found


def quietly(*command: str, threads: int) -> str:
    """Run a command with so many threads and return what it prints."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def timed(commands: dict[str, list[str]], repeats: int, threads: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the seconds of two commands, the second one bare, and their ratio; and what each of them printed."""
    printed: dict[str, str] = {}

    def run(name: str) -> None:
        printed[name] = quietly(*commands[name], threads=threads)

    times = interleaved({name: partial(run, name) for name in commands}, repeats)
    ours, bare = times.values()
    return {"seconds": {n: quartiles(seconds) for n, seconds in times.items()}, "ratio": ratio(ours, bare)}, printed


def snnconvert(*words: str) -> list[str]:
    """Return the command line of ours."""
    return [str(Path(sys.executable).with_name("snnconvert")), *words]


def start_up(folder: Path, repeats: int, threads: int) -> list[dict[str, Any]]:
    """Measure what a command takes before and besides its work."""
    target = str(folder / "resnet18.snn")
    words = ["torchvision:resnet18", "--random-weights", "--recipe", "thresholds", "-o", target, "--force", "-q"]
    pairs = {
        "snnconvert --help": (snnconvert("--help"), "import typer, rich"),
        "snnconvert convert torchvision:resnet18": (snnconvert("convert", *words), IMPORTS),
    }
    return [
        {"command": name, "against": "import torch, torchvision, timm" if code is IMPORTS else code}
        | timed({"command": command, "bare": [sys.executable, "-c", code]}, repeats, threads)[0]
        for name, (command, code) in pairs.items()
    ]


def whole_command(subject: Subject, shared: Path, folder: Path, repeats: int, threads: int) -> dict[str, Any]:
    """Measure `snnconvert eval` on all test images against a bare loop of the as-given ANN over them."""
    missing = [name for name in (CHECKPOINT, TRAIN, TEST) if not (shared / name).exists()]
    if missing or subject.preprocessing is None:
        return {"skipped": f"no {', '.join(missing)} in {shared}"}
    weights, train, test = (str(shared / name) for name in (CHECKPOINT, TRAIN, TEST))
    target = str(folder / "resnet20.snn")
    made = ["--data", train, "--images", "1000", "--recipe", "thresholds", "--neuron", "tpp", "-T", "8", "-o", target]
    quietly(*snnconvert("convert", weights, *made, "--force", "-q"), threads=threads)
    about = [cifar_resnet.__file__, weights, test, subject.preprocessing.mean, subject.preprocessing.std]
    commands = {
        "command": snnconvert("eval", target, "--data", test, "--seeds", "1", "--json"),
        "bare": [sys.executable, "-c", BARE_LOOP, json.dumps(about)],
    }
    seconds, printed = timed(commands, repeats, threads)
    result = json.loads(printed["command"])
    return {
        "command": "snnconvert eval, ANN and tpp at T=8",
        "against": "a bare loop of the ANN",
        "images": result["images"],
        "top1": {"ann": result["ann"]["top1"], "snn": result["snn"]["top1"], "bare": float(printed["bare"])},
        **seconds,
    }


def timed_page(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of commands next to bare ones."""
    cells = []
    for row in rows:
        if "skipped" in row:
            return [f"Skipped: {row['skipped']}.", ""]
        cells.append([row["command"], row["against"], *map(shown, row["seconds"].values()), shown(row["ratio"])])
    return table(["command", "against", "seconds", "bare, seconds", "ratio"], cells)


def spikes_page(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the comparison of counts."""
    return table(rows[0], (row.values() for row in rows)) if rows else [f"SpikingJelly is missing: {HOW}", ""]
