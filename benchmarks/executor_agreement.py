"""How many spike counts differ between the executors, on a real network in float32 and float64; prints JSON.

    python benchmarks/executor_agreement.py

The executors agree where arithmetic is exact (tests/converter/simulation). In floating point a sum of T currents and
T times their mean differ in the last bit, so a potential within rounding of a threshold may fire or not, and one
different spike moves the potentials after it. Checkpoint and images: $SNNCONVERT_SHARED (default ../shared).
"""

import argparse
import json
import os
from pathlib import Path

import torch

from snnconvert import convert, load_model, observe, open_dataset, prepare

SHARED = Path(os.environ.get("SNNCONVERT_SHARED", "../shared"))


def main() -> None:
    """Compare every executor with the step-by-step reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="cifar10_resnet20")
    parser.add_argument("--steps", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--images", type=int, default=100)
    options = parser.parse_args()
    if not (SHARED / "weights").is_dir():
        parser.error(f"no checkpoints in {SHARED}: name their folder in SNNCONVERT_SHARED")
    loaded = load_model(str(SHARED / "weights" / f"{options.network}.pt"))
    train, test = (
        open_dataset(str(SHARED / "data" / f"{name}.npz"), split=name, preprocessing=loaded.preprocessing)
        for name in ("cifar10_train_0", "cifar10_test")
    )
    images, _, index = next(test.batches(options.images))
    for dtype in (torch.float32, torch.float64):
        graph = prepare(loaded.model.to(dtype), images[:2])
        calibration = observe(graph, (x.to(dtype) for x, _, _ in train.batches(100, limit=1000)))
        for steps in options.steps:
            thresholds = calibration.thresholds(graph, steps=steps)
            for neuron, executor in (
                ("two-phase", "counts"),
                ("two-phase", "layers"),
                ("tpp", "layers"),
                ("if", "layers"),
            ):
                model = convert(graph, thresholds, neuron=neuron, steps=steps)
                x = images.to(dtype)
                reference = model.activity(x, index=index, executor="steps")
                found = model.activity(x, index=index, executor=executor)
                differ = {name: int((found[name] != reference[name]).sum()) for name in reference}
                classes = [model(x, index=index, executor=e).argmax(1) for e in (executor, "steps")]
                cell = {
                    "network": options.network,
                    "dtype": str(dtype).removeprefix("torch."),
                    "neuron": neuron,
                    "executor": executor,
                    "T": steps,
                    "images": len(x),
                    "counts": sum(c.numel() for c in reference.values()),
                    "different": sum(differ.values()),
                    "first_site_different": next(iter(differ.values())),
                    "agreement": 100 * float((classes[0] == classes[1]).double().mean()),
                }
                print(json.dumps(cell), flush=True)


if __name__ == "__main__":
    main()
