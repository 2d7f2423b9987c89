"""The temporal-misalignment table: what re-ordering spikes and two-phase neurons do to off-the-shelf networks.

    python benchmarks/temporal_misalignment.py       # measure what the log lacks, then print the tables
    python benchmarks/temporal_misalignment.py --images 10000 --neurons if tpp two-phase --networks cifar10_resnet20

Each cell is calibrated on the same training images (thresholds per channel, least mean square for that T, no other
correction) and evaluated on the same test images as every other. Cells go to a log as they come, one JSON document a
line; a cell that is there is not measured again.

Checkpoints and images are read from ``$SNNCONVERT_SHARED`` (default ../shared): weights/NAME.pt,
data/cifar10_train_0.npz and data/cifar10_test.npz.
"""

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from snnconvert import convert, evaluate, load_model, observe, open_dataset, prepare, thresholds_from_batch_norm

SHARED = Path(os.environ.get("SNNCONVERT_SHARED", "../shared"))
ROWS = {
    "if": ("if", "none"),
    "if, shuffled (shared)": ("if", "shared"),
    "if, shuffled (per neuron)": ("if", "per-neuron"),
    "tpp": ("tpp", "none"),
    "two-phase": ("two-phase", "none"),
}


def measure(network: str, rows: list[str], options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Yield one cell for each row and T of ``network`` that the log does not have."""
    loaded = load_model(str(SHARED / "weights" / f"{network}.pt"))
    train, test = (
        open_dataset(str(SHARED / "data" / f"{name}.npz"), split=name, preprocessing=loaded.preprocessing)
        for name in ("cifar10_train_0", "cifar10_test")
    )
    graph = prepare(loaded.model, next(iter(train.batches(2)))[0])
    images = options.calibration_images
    calibration = observe(graph, train.batches(100, limit=images)) if images else None
    done = {(c["network"], c["row"], c["T"], c["images"], c["calibration_images"]) for c in read(options.log)}
    for steps in options.steps:
        if calibration is None:
            thresholds = thresholds_from_batch_norm(graph, steps=steps)
        else:
            thresholds = calibration.thresholds(graph, steps=steps)
        for row in rows:
            if (network, row, steps, options.images, images) in done:
                continue
            neuron, shuffle = ROWS[row]
            model = convert(graph, thresholds, neuron=neuron, steps=steps, shuffle=shuffle)
            result = evaluate(model, test.batches(100, limit=options.images), seeds=options.seeds).as_json()
            yield {
                "network": network,
                "row": row,
                "T": steps,
                "images": result["images"],
                "ann": result["ann"]["top1"],
                "top1": result["snn"]["top1"],
                "std": result["snn"]["top1_std"] if result["seeds"] > 1 else None,
                "seeds": result["seeds"],
                "difference": result["snn"]["difference"],
                "agreement": result["snn"]["agreement"],
                "end_to_end_steps": result["end_to_end_steps"],
                "levels": result["levels"],
                "spike_type": result["spike_type"],
                "calibration_images": images,
                "seconds": round(result["seconds"], 1),
            }


def read(log: Path) -> list[dict[str, Any]]:
    """Return the cells in ``log``."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def table(cells: list[dict[str, Any]]) -> str:
    """Return the ``cells`` of one network as a Markdown table: top-1 in percent, with the deviation over seeds."""
    steps = sorted({c["T"] for c in cells})
    network, images = cells[0]["network"], cells[0]["images"]
    lines = [
        f"{network}: ANN {cells[0]['ann']:.2f} %, {images} test, {cells[0]['calibration_images']} calibration images",
        "",
        f"| neuron | {' | '.join(f'T={t}' for t in steps)} | steps end to end |",
        f"|---|{'---|' * len(steps)}---|",
    ]
    for row in ROWS:
        found = {c["T"]: c for c in cells if c["row"] == row}
        if found:
            texts = [_text(found[t]) if t in found else "" for t in steps]
            windows = next(iter(found.values()))
            lines.append(f"| {row} | {' | '.join(texts)} | {windows['end_to_end_steps'] // windows['T']} T |")
    return "\n".join(lines) + "\n"


def _text(cell: dict[str, Any]) -> str:
    deviation = "" if cell["std"] is None else f" ± {cell['std']:.2f}"
    return f"{cell['top1']:.2f}{deviation}"


def main() -> None:
    """Measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["cifar10_resnet20", "cifar10_resnet32"])
    parser.add_argument("--neurons", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000, help="test images, the first of the file")
    parser.add_argument(
        "--calibration-images",
        type=int,
        default=1000,
        help="training images, the first of the file; 0 takes thresholds from batch-norm statistics",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--log", type=Path, default=Path("docs/temporal_misalignment.jsonl"))
    options = parser.parse_args()
    if not (SHARED / "weights").is_dir():
        parser.error(f"no checkpoints in {SHARED}: name their folder in SNNCONVERT_SHARED")
    torch.set_num_threads(options.threads)
    for network in options.networks:
        for cell in measure(network, options.neurons, options):
            with options.log.open("a") as log:
                log.write(json.dumps(cell) + "\n")
    cells = read(options.log)
    for network in options.networks:
        for images in sorted({(c["images"], c["calibration_images"]) for c in cells if c["network"] == network}):
            same = [c for c in cells if c["network"] == network and (c["images"], c["calibration_images"]) == images]
            print(table(same))


if __name__ == "__main__":
    main()
