"""How well real networks survive conversion: accuracy, agreement and paired difference on real images.

    python benchmarks/real_weights.py    # measure what the log lacks, and write the tables next to it

Each network is observed once on training images; from that come thresholds for every T (least mean square, per
channel, no other correction). Networks of ImageNet leave out ``if``, which costs T passes, unless it is asked for, and
others run it on fewer images. Cells go to the log as they come, one JSON document a line; a cell that is there is not
measured again. On all test images an ANN that misses its known accuracy by more than 0.1 points is an error.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from snnconvert import convert, evaluate, load_model, observe, open_dataset, prepare
from snnconvert.evaluation import Evaluation
from snnconvert.model_zoo import ImageData, Preprocessing

NEURONS = ("two-phase", "tpp", "if")
IF_IMAGES = 2000
RULE, PER = "mse", "channel"
ZERO, HALF = (0.0,) * 3, (0.5,) * 3
BYTES = (1 / 255,) * 3  # deviation for networks that take pixels from 0 to 255
CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
CIFAR, MNIST = ("cifar10_train_0.npz", "cifar10_test.npz"), ("mnist_train.npz", "mnist_test.npz")
IMAGENET = ("imagenet_calibration", "imagenet_val")


@dataclass(frozen=True)
class Network:
    """How to load a checkpoint, what its images are, and how good its ANN is on all of them.

    Args:
        data: calibration set and test set.
        accuracy: top-1 of the ANN in percent.
        factory: in weights/nets.py; None where the checkpoint is recognised.
        preprocessing: None where the architecture says it.
        bgr: the first convolution takes blue first.
    """

    data: tuple[str, str]
    accuracy: float
    factory: str | None = None
    preprocessing: Preprocessing | None = None
    bgr: bool = False


NETWORKS = {
    "mnist_lenet5": Network(MNIST, 99.14, "lenet5", Preprocessing((1, 28, 28), (0.0,), (1.0,))),
    "mobilenet_v1_050_160": Network(IMAGENET, 68.46, "mobilenet_v1", Preprocessing((3, 160, 160), HALF, HALF, 160)),
    "squeezenet_keras": Network(
        IMAGENET, 70.92, "squeezenet", Preprocessing((3, 227, 227), CAFFE_MEAN, BYTES, 256), bgr=True
    ),
    "cifar10_mlperftiny_resnet8_w40": Network(CIFAR, 91.28, "resnet8_w40", Preprocessing((3, 32, 32), ZERO, BYTES)),
    "cifar10_resnet20": Network(CIFAR, 91.73),
    "cifar10_resnet32": Network(CIFAR, 92.63),
    "tf_efficientnet_lite0": Network(IMAGENET, 83.4),
}


def load(name: str, shared: Path) -> tuple[nn.Module, ImageData, ImageData]:
    """Return the network called ``name``, its calibration images and its test images."""
    network = NETWORKS[name]
    arch = None if network.factory is None else f"nets:{network.factory}"
    loaded = load_model(str(shared / "weights" / f"{name}.pt"), arch=arch)
    if network.bgr:
        first = next(module for module in loaded.model.modules() if isinstance(module, nn.Conv2d))
        first.weight.data = first.weight.data.flip(1)  # so that it takes red first, as images come
    preprocessing = network.preprocessing or loaded.preprocessing
    train, test = (
        open_dataset(str(shared / "data" / data), split=split, preprocessing=preprocessing)
        for data, split in zip(network.data, ("train", "test"), strict=True)
    )
    return loaded.model, train, test


def missing(name: str, options: argparse.Namespace, calibration_images: int, count: int) -> list[dict[str, Any]]:
    """Return the settings of each cell of ``name``, with ``count`` test images, that the log does not have."""
    done = {_settings(cell) for cell in read(options.log)}
    cells = [
        {
            "network": name,
            "neuron": neuron,
            "T": steps,
            "seeds": options.seeds if neuron == "tpp" else 1,
            "images": min(options.images or (IF_IMAGES if neuron == "if" else count), count),
            "calibration_images": calibration_images,
            "rule": f"{RULE} per {PER}",
        }
        for neuron in options.neurons or (NEURONS[:2] if NETWORKS[name].data == IMAGENET else NEURONS)
        for steps in options.steps
    ]
    return [cell for cell in cells if _settings(cell) not in done]


def measure(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield each cell of the network ``name`` that the log does not have."""
    model, train, test = load(name, options.shared)
    calibration_images = min(options.calibration_images, train.count)
    cells = missing(name, options, calibration_images, test.count)
    if not cells:
        return
    graph = prepare(model, next(train.batches(2))[0])
    calibration = observe(graph, train.batches(50, limit=calibration_images))
    for cell in cells:
        thresholds = calibration.thresholds(graph, steps=cell["T"], rule=RULE, per=PER)
        snn = convert(graph, thresholds, neuron=cell["neuron"], steps=cell["T"])
        result = evaluate(snn, test.batches(50, limit=cell["images"]), seeds=cell["seeds"])
        expected = NETWORKS[name].accuracy
        if result.images == test.count and abs(result.ann.top1 - expected) > 0.1:
            raise SystemExit(f"{name}: expected an ANN of {expected} %, got {result.ann.top1:.2f} %")
        yield {
            **cell,
            **measured(result),
            "seconds": round(result.seconds, 1),
        }


def measured(result: Evaluation) -> dict[str, Any]:
    """Return what a cell keeps of an evaluation."""
    return {
        "ann": result.ann.top1,
        "snn": result.snn.top1,
        "std": result.snn.top1_std if result.seeds > 1 else None,
        "agreement": result.snn.agreement,
        "difference": result.snn.difference.points,
        "ci95": result.snn.difference.ci95,
        "end_to_end_steps": result.end_to_end_steps,
        "levels": result.levels,
        "spike_type": result.spike_type,
    }


def read(log: Path) -> list[dict[str, Any]]:
    """Return the cells in ``log``."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def table(cells: list[dict[str, Any]]) -> str:
    """Return the ``cells`` of one network as a Markdown table, with the command that measures them."""
    cells = sorted(cells, key=lambda c: (NEURONS.index(c["neuron"]), c["images"], c["T"]))
    neurons, steps = (" ".join(dict.fromkeys(str(c[key]) for c in cells)) for key in ("neuron", "T"))
    lines = [
        f"## {cells[0]['network']}",
        "",
        f"`python benchmarks/real_weights.py --networks {cells[0]['network']} --neurons {neurons} --steps {steps}`",
        "",
        "| neuron | T | ANN | SNN | SNN - ANN (95 %) | agreement | steps end to end | levels | images | calibration |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for c in cells:
        snn = f"{c['snn']:.2f}" + ("" if c["std"] is None else f" ± {c['std']:.2f}")
        difference = f"{c['difference']:+.2f} [{c['ci95'][0]:+.2f}, {c['ci95'][1]:+.2f}]"
        shown = f"| {c['neuron']} | {c['T']} | {c['ann']:.2f} | {snn} | {difference} | {c['agreement']:.2f} |"
        made = f"{c['images']} | {c['calibration_images']}, {c['rule']} |"
        lines.append(f"{shown} {c['end_to_end_steps']} | {c['levels']}, {c['spike_type']} | {made}")
    return "\n".join(lines) + "\n"


def document(cells: list[dict[str, Any]], log: str) -> str:
    """Return a page with the table of each network."""
    tables = [table(found) for name in NETWORKS if (found := [c for c in cells if c["network"] == name])]
    head = f"""# Real weights: what conversion costs networks that were trained elsewhere

`python benchmarks/real_weights.py` measures and writes these tables (log: [{log}]({log})).

No retraining, no correction; thresholds from training images. Top-1 in percent on test images, ANN and SNN on the same
ones; tpp is mean ± deviation over seeds. Agreement is the percentage of images that both put in the same class. T is
the window of one site. The ImageNet images are a small subset, easier than the whole validation set.
"""
    return "\n".join([head, *tables])


def _settings(cell: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[key] for key in ("network", "neuron", "T", "seeds", "images", "calibration_images", "rule"))


def main() -> None:
    """Measure what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--neurons", nargs="+", choices=NEURONS, help="all that the network has by default")
    parser.add_argument("--steps", nargs="+", type=int, default=[8, 16, 32, 64])
    parser.add_argument("--images", type=int, help=f"test images, the first of the set; all, or {IF_IMAGES} for if")
    parser.add_argument("--calibration-images", type=int, default=1000, help="training images, the first of the set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("SNNCONVERT_SHARED", "../shared")))
    parser.add_argument("--log", type=Path, default=Path("docs/real_weights.jsonl"))
    options = parser.parse_args()
    if not (options.shared / "weights").is_dir():
        parser.error(f"no checkpoints in {options.shared}: name their folder with --shared")
    sys.path.append(str(options.shared / "weights"))  # of nets.py
    for name in options.networks:
        for cell in measure(name, options):
            with options.log.open("a") as log:
                log.write(json.dumps(cell) + "\n")
            options.log.with_suffix(".md").write_text(document(read(options.log), options.log.name))


if __name__ == "__main__":
    main()
