"""How time is measured here, on which networks, and how it grows with T, with images and with the size of a network.

Times of one ratio come from interleaved runs, A B C A B C, of one process on one machine, so that what slows the
machine down slows every one of them. `speed.py` is the command.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnconvert import convert, evaluate, load_model, observe, open_dataset, prepare
from snnconvert.calibration import Calibration
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.simulation import SpikingModel
from snnconvert.model_zoo import Preprocessing
from snnconvert.model_zoo.cifar_resnet import CifarResNet
from snnconvert.model_zoo.libraries import torchvision

NEURONS = ("two-phase", "tpp", "if")
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
CHECKPOINT, TRAIN, TEST = "weights/cifar10_resnet20.pt", "data/cifar10_train_0.npz", "data/cifar10_test.npz"
GROWTH_STEPS = (4, 8, 16, 32, 64, 128, 256)
GROWTH_IMAGES = (1000, 2000, 5000, 10000, 20000, 50000)
GROWTH_DEPTHS = (18, 34, 50, 101, 152)
WINDOW = 8
"""T where something else grows."""

Runs = Mapping[str, Callable[[], Any]]
Times = dict[str, list[float]]


@dataclass(frozen=True)
class Subject:
    """A network to measure.

    Args:
        name: of the architecture.
        weights: where they come from, for people.
        model: as loaded, in evaluation mode.
        images: one batch, which also calibrates.
        preprocessing: what it expects of real images; None where the weights are random.
    """

    name: str
    weights: str
    model: nn.Module
    images: Tensor
    preprocessing: Preprocessing | None = None


def resnet(depth: int, batch: int) -> Subject:
    """Return torchvision's residual network of ``depth`` for 3x224x224, with random weights and images."""
    torch.manual_seed(0)
    model = getattr(torchvision().models, f"resnet{depth}")(weights=None).eval()
    return Subject(f"resnet{depth}", "random, seed 0", model, torch.randn(batch, 3, 224, 224))


def cifar_resnet20(shared: Path, batch: int) -> Subject:
    """Return the ResNet-20 for 3x32x32: the checkpoint and its training images where they are, else random ones."""
    if (shared / CHECKPOINT).exists() and (shared / TRAIN).exists():
        loaded = load_model(str(shared / CHECKPOINT))
        train = open_dataset(str(shared / TRAIN), split="train", preprocessing=loaded.preprocessing)
        images = next(train.batches(batch))[0]
        return Subject("cifar10_resnet20", Path(CHECKPOINT).name, loaded.model, images, loaded.preprocessing)
    torch.manual_seed(0)
    return Subject("cifar10_resnet20", "random, seed 0", CifarResNet(20).eval(), torch.randn(batch, 3, 32, 32))


def prepared(subject: Subject, device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[PreparedGraph, Tensor]:
    """Return the canonical graph of a copy of the network, and its images, on ``device`` in ``dtype``."""
    images = subject.images.to(device, dtype)
    return prepare(copy.deepcopy(subject.model).to(device, dtype), images[:2]), images


def spiking(graph: PreparedGraph, calibration: Calibration, neuron: str, steps: int) -> SpikingModel:
    """Return the network of ``neuron`` with the usual thresholds, least mean square per channel."""
    return convert(graph, calibration.thresholds(graph, steps=steps), neuron=neuron, steps=steps)


def in_format(module: nn.Module, images: Tensor, name: str) -> Callable[[], Any]:
    """Return a run of a copy of ``module`` with input and weights in the memory format ``name``."""
    memory_format = FORMATS[name]
    copied = copy.deepcopy(module).to(memory_format=memory_format)
    return partial(copied, images.to(memory_format=memory_format))


def interleaved(runs: Runs, repeats: int, settle: Callable[[], None] = lambda: None) -> Times:
    """Return the seconds of each of ``repeats`` runs, in the order A B C A B C, after one that does not count.

    Args:
        settle: waits until the device has done what it was told.
    """
    times: Times = {name: [] for name in runs}
    with torch.no_grad():
        for repeat in range(repeats + 1):
            for name, run in runs.items():
                settle()
                started = time.perf_counter()
                run()
                settle()
                if repeat:
                    times[name].append(time.perf_counter() - started)
    return times


def settler(device: str) -> Callable[[], None]:
    """Return what waits for ``device``."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def free_bytes(device: str) -> int:
    """Return how much memory is free."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024


def quartiles(values: Sequence[float]) -> dict[str, Any]:
    """Return the median and the two quartiles around it, in four significant digits."""
    low, middle, high = (float(f"{q:.4g}") for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return {"median": middle, "quartiles": [low, high]}


def ratio(above: Sequence[float], below: Sequence[float], divisor: float = 1) -> dict[str, Any]:
    """Return the quartiles of above / below / divisor, repeat by repeat."""
    return quartiles([a / b / divisor for a, b in zip(above, below, strict=True)])


def power_law(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Fit log y = exponent log x + constant by least squares; the residual is the root mean square of what is left."""
    logs = np.log(np.asarray([x, y], dtype=np.float64))
    design = np.stack([logs[0], np.ones_like(logs[0])], 1)
    solution = np.linalg.lstsq(design, logs[1], rcond=None)[0]
    residual = np.sqrt(np.square(design @ solution - logs[1]).mean())
    return {"exponent": round(float(solution[0]), 3), "residual": round(float(residual), 4)}


def fitted(title: str, x: str, rows: list[dict[str, Any]], fitted_columns: Iterable[str]) -> dict[str, Any]:
    """Return a table, with the power law of each of ``fitted_columns`` in the column ``x``."""
    fits = {name: power_law([row[x] for row in rows], [row[name] for row in rows]) for name in fitted_columns}
    return {"title": title, "x": x, "rows": rows, "fits": fits}


def against_steps(subject: Subject, steps: Sequence[int], repeats: int) -> dict[str, Any]:
    """Measure one batch for each T."""
    graph, images = prepared(subject)
    calibration = observe(graph, [images])
    runs = {f"{n} {t}": partial(spiking(graph, calibration, n, t), images) for t in steps for n in NEURONS}
    times = interleaved(runs, repeats)
    rows = [{"T": t} | {n: statistics.median(times[f"{n} {t}"]) for n in NEURONS} for t in steps]
    return fitted(f"Seconds against T: {subject.name}, batch {len(images)}", "T", rows, NEURONS)


def repeated(images: Tensor, labels: Tensor, count: int, batch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield ``count`` images in batches, from the first again after the last."""
    for start in range(0, count, batch):
        position = torch.arange(start, min(start + batch, count))
        yield images[position % len(images)], labels[position % len(images)], position


def test_images(shared: Path, preprocessing: Preprocessing | None) -> tuple[Tensor, Tensor]:
    """Return all test images with their labels, or 1,000 of noise."""
    if preprocessing is None or not (shared / TEST).exists():
        return torch.randn(1000, 3, 32, 32), torch.zeros(1000, dtype=torch.int64)
    data = open_dataset(str(shared / TEST), split="test", preprocessing=preprocessing)
    parts = list(data.batches(1000))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def against_images(
    subject: Subject, test: tuple[Tensor, Tensor], counts: Sequence[int], repeats: int
) -> dict[str, Any]:
    """Measure `evaluate` of a two-phase network, ANN beside it, for each number of images."""
    graph, images = prepared(subject)
    model = spiking(graph, observe(graph, [images]), "two-phase", WINDOW)
    batch = len(images)
    runs = {str(n): lambda n=n: evaluate(model, repeated(*test, n, batch)) for n in counts}  # type: ignore[misc]
    times = interleaved(runs, repeats)
    rows = [{"images": n, "evaluate": statistics.median(times[str(n)])} for n in counts]
    title = f"Seconds of evaluate against images: {subject.name}, two-phase, T={WINDOW}"
    return fitted(title, "images", rows, ["evaluate"])


def against_size(subjects: Iterable[Subject], repeats: int) -> list[dict[str, Any]]:
    """Measure each network's run next to its ANN's, and its preparation and conversion, one network after the other."""
    running, converting = [], []
    for subject in subjects:
        graph, images = prepared(subject)
        calibration = observe(graph, [images])
        thresholds = calibration.thresholds(graph, steps=WINDOW)
        runs: dict[str, Callable[[], Any]] = {"ANN": partial(graph.module, images)}
        runs |= {n: partial(spiking(graph, calibration, n, WINDOW), images) for n in NEURONS[:2]}
        runs |= {
            "prepare": partial(prepare, subject.model, images[:2]),
            "convert": partial(convert, graph, thresholds, neuron="two-phase", steps=WINDOW),
        }
        middle = {name: statistics.median(seconds) for name, seconds in interleaved(runs, repeats).items()}
        running.append({"network": subject.name, **{n: middle[n] for n in ("ANN", *NEURONS[:2])}})
        both = middle["prepare"] + middle["convert"]
        converting.append({"network": subject.name, "nodes": len(graph.module.graph.nodes), "prepare + convert": both})
    return [
        fitted(f"Seconds against the ANN's, T={WINDOW}", "ANN", running, NEURONS[:2]),
        fitted("Seconds of prepare and convert against nodes", "nodes", converting, ["prepare + convert"]),
    ]


class OneSite(nn.Module):
    """An activation, and as little else as can be converted."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, channels, height, width] to [batch, 2]."""
        return self.linear(torch.relu(x).mean((2, 3)))


def bandwidth(device: str, repeats: int, side: int = 256, steps: int = 8) -> dict[str, Any]:
    """Measure what moves through a site of 256 side^2 neurons against a copy, in bytes that must move at least.

    A counting neuron reads its input and writes its output, which the mean reads; a streaming one reads its current,
    reads and writes its potential and writes its spikes at every step, and the mean reads them.
    """
    images = torch.randn(4, 64, side, side, device=device)
    graph = prepare(OneSite(64).to(device), images[:2])
    calibration, target = observe(graph, [images]), torch.empty_like(images)
    runs: dict[str, Callable[[], Any]] = {"copy": partial(target.copy_, images)}
    runs |= {name: partial(spiking(graph, calibration, name, steps), images) for name in NEURONS}
    moved = {"copy": 2, "two-phase": 3, "tpp": 3, "if": 5 * steps}
    times = interleaved(runs, repeats, settler(device))
    size = images.numel() * images.element_size()
    found = {n: round(moved[n] * size / statistics.median(seconds) / 1e9, 2) for n, seconds in times.items()}
    return {"device": device, "T": steps, "gigabytes_per_second": found}


def growth(shared: Path, repeats: int) -> list[dict[str, Any]]:
    """Measure everything that is said to grow."""
    large = cifar_resnet20(shared, 100)
    return [
        against_steps(cifar_resnet20(shared, 25), GROWTH_STEPS, repeats),
        against_images(large, test_images(shared, large.preprocessing), GROWTH_IMAGES, repeats),
        *against_size((resnet(depth, 1) for depth in GROWTH_DEPTHS), repeats),
    ]


def shown(value: dict[str, Any] | None) -> str:
    """Return a median with its quartiles, for people."""
    return "" if value is None else f"{value['median']:.3g} [{', '.join(f'{q:.3g}' for q in value['quartiles'])}]"


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    """Return the lines of a Markdown table."""
    names = list(columns)
    body = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|", *body, ""]


def page(tables: list[dict[str, Any]]) -> list[str]:
    """Return the lines of each table and its fits."""
    lines: list[str] = []
    for each in tables:
        rows = ([f"{v:.4g}" if isinstance(v, float) else v for v in row.values()] for row in each["rows"])
        lines += [f"### {each['title']}", "", *table(each["rows"][0], rows)]
        fits = [f"{n} {each['x']}^{f['exponent']:.2f} (residual {f['residual']:.1%})" for n, f in each["fits"].items()]
        lines += [f"Power laws: {', '.join(fits)}.", ""]
    return lines
