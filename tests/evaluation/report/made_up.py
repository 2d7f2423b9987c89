"""A made-up report of any size, the same each time."""

from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.image import imsave

from snnconvert.evaluation.report import NetworkDetail, Raster, Report, Sample

CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
METHODS = (("converted", "two-phase"), ("converted", "tpp"), ("converted", "if"), ("direct", "mt-lif"))


def ann(**changes: Any) -> dict[str, Any]:
    return {
        "name": "fashion-resnet8",
        "kind": "ann",
        "method": "ANN",
        "top1": 92.9,
        "ci95": [91.69, 93.95],
        "images": 2000,
        "macs": 12_500_000,
        "weight_bits": 2_510_000,
        "energy": {"horowitz-45nm": 5.8e7, "lemaire": 9.4e8},
    } | changes


def snn(number: int, **changes: Any) -> dict[str, Any]:
    kind, method = METHODS[number % 4]
    steps = 2 ** (1 + number // 4)
    top1 = 92.5 - 14 / steps - 1.3 * (number % 4)
    return {
        "name": f"fashion-{method}-T{steps}",
        "kind": kind,
        "method": method,
        "steps": steps,
        "end_to_end_steps": steps * (1 if number % 4 > 1 else 8),
        "first_answer": 1 if number % 4 > 1 else steps * 8,
        "interval": steps,
        "levels_per_step": 2,
        "spike_type": "binary",
        "top1": top1,
        "top1_std": 0.16 if method == "tpp" else None,
        "ci95": [top1 - 1.3, top1 + 1.2],
        "seeds": 3 if method == "tpp" else 1,
        "images": 2000,
        "neurons": 77_824,
        "spikes_per_neuron": 0.13 * steps,
        "synaptic_operations": 1.7e6 * steps * (1 + 0.2 * (number % 4)),
        "macs": 110_592 * steps,
        "operations_images": 500,
        "weight_bits": 2_510_000,
        "energy": {"horowitz-45nm": 4.1e6 * steps * (1 + 0.2 * (number % 4)), "lemaire": 6.2e8 * steps**0.8},
        "cost": {"kind": "training", "seconds": 812.3, "images": 55_000, "epochs": 15}
        if kind == "direct"
        else {"kind": "calibration", "seconds": 2.6, "images": 1000, "epochs": None},
    } | changes


def network(name: str, sites: int, steps: int = 8, streaming: bool = True) -> NetworkDetail:
    draw = np.random.default_rng(sites)
    names = [f"layer{n // 4 + 1}.{n % 4 // 2}.relu{n % 2 + 1}" for n in range(sites)]
    rates, thetas = draw.uniform(0.02, 0.3, sites), draw.uniform(0.5, 4, sites)
    return NetworkDetail(
        name,
        [
            {"name": site, "neurons": 16_384 >> n % 3, "rate": rate, "spikes": rate * steps * (16_384 >> n % 3)}
            | {"threshold": {"min": 0.4 * theta, "median": theta, "max": 1.7 * theta}}
            for n, (site, rate, theta) in enumerate(zip(names, rates, thetas, strict=True))
        ],
        [92 - 80 / t**1.5 for t in range(1, steps + 1)] if streaming else None,
        [] if streaming else [(2, 83.1), (4, 90.2), (8, 92.0)],
        [
            {"site": site, "inherited": 0.02, "clipped": c, "quantisation": q, "temporal": t, "stochastic": 0.0}
            | {"own": c + q + t, "total": c + q + t + 0.02}
            for site, (c, q, t) in zip(names, draw.exponential(0.01, (sites, 3)), strict=True)
        ],
        Raster(
            {site: draw.random((steps, 16)) < 0.2 for site in names[:3]},
            "a Coat",
            {} if streaming else {site: steps * n for n, site in enumerate(names, 1)},
        ),
    )


def png(number: int) -> bytes:
    file = BytesIO()
    y, x = np.mgrid[:28, :28]
    imsave(file, np.sin(x / (2 + number)) * np.cos(y / 3), cmap="gray", format="png")
    return file.getvalue()


def report(rows: int = 16, networks: int = 2, sites: int = 8, samples: int = 12) -> Report:
    found = [ann(), *(snn(n) for n in range(rows))]
    names = [row["name"] for row in found]
    return Report(
        f"fashion-tpp.snn and {rows - 1} others on fashion-mnist (test)",
        "2026-11-22 10:14 by snnconvert 0.1.0: snnconvert eval fashion-tpp.snn --beside mt-lif --report out.html",
        found,
        [
            {"first": a, "second": b, "agreement": 95.05, "only_first": 31, "only_second": 12, "p_value": 0.0054}
            for a, b in pairwise(names[:6])
        ],
        [network(names[n + 1], sites, 2 * 8, n % 2 == 0) for n in range(networks)],
        [
            Sample(
                png(n),
                CLASSES[n % 10],
                [(name, CLASSES[(n + (n * i) % 7 // 5) % 10]) for i, name in enumerate(names[:6])],
            )
            for n in range(samples)
        ],
        [
            "2,000 test images, which chose nothing; tpp over the seeds 0, 1 and 2.",
            "Energy is that of arithmetic (horowitz-45nm) or that of memory, too (lemaire), of counted operations.",
            "Not measured: what routing spikes costs, leakage and idle time.",
        ],
    )
