"""What recipe `fast` costs: time against one forward pass over its images, and peak memory against their number.

    python benchmarks/calibration_cost.py                              # the embedded network, nothing else needed
    python benchmarks/calibration_cost.py --network cifar10_resnet20   # a checkpoint of $SNNCONVERT_SHARED

Prints one JSON document. Times are medians of interleaved repeats in one process; the forward pass is that of the
prepared graph, batch norm folded, with images and weights as they come, and beside it channels last. Peak memory is
that of a process of its own, which calibrates on noise made on the way, for 1,000 and for 10,000 images.
"""

import argparse
import copy
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accuracy import EMBEDDED, Images, open_network
from real_weights import NETWORKS
from torch import Tensor

from snnconvert import observe
from snnconvert.calibration import RECIPES, follow
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.simulation import channels_last

FAST = RECIPES["fast"]
STEPS = 8


def calibrate(graph: PreparedGraph, images: Any, neuron: str, count: int) -> None:
    """Do what the recipe says."""
    recipe = replace(FAST, images=count)
    follow(recipe, graph, observe(graph, images(0), sample=recipe.sample), images, neuron=neuron, steps=STEPS)


def times(graph: PreparedGraph, images: Images, neuron: str, repeats: int) -> dict[str, float]:
    """Return the seconds of a forward pass in both memory formats and of a calibration, and its ratio to both."""
    found: dict[str, list[float]] = {"forward": [], "forward_channels_last": [], "calibration": []}
    last = copy.deepcopy(graph.module).to(memory_format=torch.channels_last)
    for _ in range(repeats + 1):  # the first is to warm up
        for name, seconds in found.items():
            started = time.perf_counter()
            if name == "calibration":
                calibrate(graph, images, neuron, FAST.images)
            else:
                module = graph.module if name == "forward" else last
                with torch.no_grad():
                    for batch in images(0):
                        module(*(batch,) if name == "forward" else channels_last((batch,)))
            seconds.append(time.perf_counter() - started)
    middle = {name: round(statistics.median(seconds[1:]), 3) for name, seconds in found.items()}
    for name, ratio in (("forward", "ratio"), ("forward_channels_last", "ratio_channels_last")):
        pairs = zip(found["calibration"][1:], found[name][1:], strict=True)
        middle[ratio] = round(statistics.median(c / f for c, f in pairs), 2)
    return middle


def peak_memory(graph: PreparedGraph, neuron: str, count: int) -> int:
    """Return the largest memory of this process in MiB, after calibrating on ``count`` images of noise."""

    def noise(epoch: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(count // 100):
            yield torch.randn(100, *graph.input_shapes[0], generator=generator)

    calibrate(graph, noise, neuron, count)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default=EMBEDDED, choices=[EMBEDDED, *NETWORKS])
    parser.add_argument("--neuron", default="two-phase")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("SNNCONVERT_SHARED", "../shared")))
    parser.add_argument("--memory-of", type=int, help="print the peak memory for so many images of noise, and no more")
    options = parser.parse_args()
    sys.path.append(str(options.shared / "weights"))  # of nets.py
    data = "fashion-mnist-sample" if options.network == EMBEDDED else None
    graph, train, _ = open_network(options.network, options.shared, data)
    if options.memory_of is not None:
        print(peak_memory(graph, options.neuron, options.memory_of))
        return
    memory = {
        count: int(subprocess.run([*sys.orig_argv, "--memory-of", str(count)], check=True, capture_output=True).stdout)
        for count in (1000, 10000)
    }
    images = Images(train, min(FAST.images, train.count), 100, 0)
    document = {
        "network": options.network,
        "neuron": options.neuron,
        "T": STEPS,
        "images": len(images.images),
        "threads": torch.get_num_threads(),
        "seconds": times(graph, images, options.neuron, options.repeats),
        "peak_memory_mib": memory,
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
