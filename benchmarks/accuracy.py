"""Accuracy at small T: recipes on networks that were trained elsewhere, with nothing but unlabelled training images.

    python benchmarks/accuracy.py                             # what docs/accuracy.jsonl lacks, then the tables
    python benchmarks/accuracy.py --networks cifar10_resnet20 --neurons two-phase --steps 4 --calibration-seeds 0 1 2
    python benchmarks/accuracy.py --validation 1000 --log choice.jsonl     # to choose a recipe, without the test set

Each cell calibrates anew and is evaluated once on the test images; with ``--validation N`` on the last N training
images instead, which calibration then does not see. Cells go to a log and are not measured again; learning goes on
from its checkpoint (``--work``) after a kill. An ANN is nearly perfect on its training images, so accuracies of
``--validation`` compare recipes with each other and say little about the test set.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from real_weights import NETWORKS, load, measured, read
from torch import Tensor

from snnconvert import convert, evaluate, load_model, observe, open_dataset, prepare
from snnconvert.calibration import Recipe, attribute, find_recipe, first, follow, to_document
from snnconvert.calibration.attribution import PARTS
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.simulation import SpikingModel
from snnconvert.evaluation import Evaluation
from snnconvert.model_zoo import ImageData

EMBEDDED = "fashion-resnet8"
NEURONS = ("two-phase", "tpp", "if")
EVALUATION_SEEDS = 3
BATCH = 100
EXAMINED = 200
"""Images on which the errors of sites (training images) and of logits (those of the evaluation) are measured."""


class Images:
    """Training images in memory, in another order in each epoch."""

    def __init__(self, data: ImageData, count: int, batch_size: int, seed: int) -> None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        whole = torch.cat([batch[0] for batch in data.batches(500, limit=count)])
        self.images, self.batch_size, self.seed = whole[order], batch_size, seed

    def __call__(self, epoch: int) -> Iterator[Tensor]:
        """Yield the batches of one epoch."""
        generator = torch.Generator().manual_seed(self.seed * 100003 + epoch)
        order = torch.randperm(len(self.images), generator=generator) if epoch else torch.arange(len(self.images))
        for part in order.split(self.batch_size):
            yield self.images[part]


def open_network(name: str, shared: Path, data: str | None = None) -> tuple[PreparedGraph, ImageData, ImageData]:
    """Return a prepared network, its training and its test images; ``data`` is others for the embedded one."""
    if name == EMBEDDED:
        loaded = load_model(f"zoo:{name}")
        train, test = (
            open_dataset(data or "fashion-mnist", split=split, preprocessing=loaded.preprocessing)
            for split in ("train", "test")
        )
        model = loaded.model
    else:
        model, train, test = load(name, shared)
    return prepare(model, next(train.batches(2))[0]), train, test


def measure(graph: PreparedGraph, train: ImageData, test: ImageData, cell: dict[str, Any], options: Any) -> Evaluation:
    """Calibrate and evaluate one cell; fill in what was measured."""
    recipe = _recipe(options.recipe, options)
    held_out = options.validation
    count = min(recipe.images, train.count - held_out)
    images = Images(train, count, options.batch_size, cell["calibration_seed"])
    started = time.perf_counter()
    observed = observe(graph, images(0), sample=recipe.sample)
    checkpoint = options.work / ("-".join(str(cell[key]) for key in _KEYS).replace("/", "_") + ".checkpoint")
    said = [0.0]

    def report(progress: Any) -> None:
        if time.perf_counter() - said[0] > 30:
            said[0] = time.perf_counter()
            print(
                f"  {progress.done}/{progress.total} loss {progress.loss:.4f} {progress.seconds_left:.0f} s", flush=True
            )

    thresholds = follow(
        recipe,
        graph,
        observed,
        images,
        neuron=cell["neuron"],
        steps=cell["T"],
        seed=cell["calibration_seed"],
        checkpoint=checkpoint,
        report=report,
    )
    cell["calibration_images"], cell["calibration_seconds"] = count, round(time.perf_counter() - started)
    cell["corrections"] = thresholds.source.get("corrections", [])
    errors = attribute(graph, thresholds, first(images(0), EXAMINED), neuron=cell["neuron"])
    cell["error"] = {part: _mean(entry.parts[part] for entry in errors.sites) for part in PARTS}
    cell["worst"] = {entry.site: round(entry.own, 4) for entry in errors.ranked()[:3]}
    snn = convert(graph, thresholds, neuron=cell["neuron"], steps=cell["T"])
    cell["bursts"] = thresholds.bursts
    seeds = EVALUATION_SEEDS if cell["neuron"] == "tpp" else 1
    batches: Iterable[Any] = test.batches(50)
    if held_out:
        batches = _last(train, held_out)
    distance = LogitError(snn)
    result = evaluate(snn, distance.watch(batches), seeds=seeds)
    cell["logit_error"] = distance.value()
    return result


class LogitError:
    """The root mean square of SNN - ANN over the first images, in deviations of the ANN's logits."""

    def __init__(self, snn: SpikingModel) -> None:
        self.snn, self.wrong, self.logits = snn, 0.0, list[Tensor]()

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield ``batches``, and look at the first `EXAMINED` images on their way."""
        seen = 0
        for batch in batches:
            images, _, index = batch
            if seen < EXAMINED:
                with torch.no_grad():
                    ann = self.snn.ann(images)
                self.wrong += float((self.snn(images, index=index) - ann).square().sum())
                self.logits.append(ann)
                seen += len(images)
            yield batch

    def value(self) -> float:
        """Return it."""
        logits = torch.cat(self.logits)
        return float((self.wrong / logits.numel()) ** 0.5 / logits.std())


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return round(sum(found) / len(found), 5)


def _last(data: ImageData, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for images, labels, positions in data.batches(50):
        kept = positions >= data.count - count
        if bool(kept.any()):
            yield images[kept], labels[kept], positions[kept]


_KEYS = ("network", "neuron", "T", "recipe", "made_by", "calibration_seed", "batch_size", "split")


def fingerprint(recipe: Recipe) -> str:
    """Return a short hash of what ``recipe`` does, so that a cell is measured again when that changes."""
    return hashlib.sha256(json.dumps(to_document(recipe), sort_keys=True).encode()).hexdigest()[:12]


def _recipe(name: str, options: Any) -> Recipe:
    recipe = find_recipe(name)
    given = {"iterations": options.iterations, "hint": options.hint}
    changed = {key: value for key, value in given.items() if value is not None}
    if recipe.reconstruction is None:
        return recipe
    recipe = replace(recipe, reconstruction=replace(recipe.reconstruction, **changed))
    recipe.check()
    return recipe


def cells(options: Any) -> list[dict[str, Any]]:
    """Return the cells that the log does not have."""
    done = {tuple(cell[key] for key in _KEYS) for cell in read(options.log)}
    wanted = [
        {
            "network": network,
            "neuron": neuron,
            "T": steps,
            "recipe": options.recipe,
            "made_by": fingerprint(_recipe(options.recipe, options)),
            "calibration_seed": seed,
            "batch_size": options.batch_size,
            "split": f"last {options.validation} of train" if options.validation else "test",
        }
        for network in options.networks
        for neuron in options.neurons
        for steps in options.steps
        for seed in options.calibration_seeds
    ]
    return [cell for cell in wanted if tuple(cell[key] for key in _KEYS) not in done]


HEAD = """# Accuracy at small T, without labels and without training the network for it

`python benchmarks/accuracy.py` measures and writes these tables (log: [accuracy.jsonl](accuracy.jsonl)).

Top-1 in percent on the test set, ANN and SNN on the same images; tpp is mean ± deviation over three evaluation seeds.
A recipe sees unlabelled training images only. T is the window of one site; binary spikes, T + 1 levels. *logits* is
the root mean square of SNN - ANN in deviations of the ANN's logits, over the first 200 images. What the error is made
of: *inherited* is what a site gets from those before it, *own* what it adds, both in units of the activation's mean
square, the mean over sites, on 200 training images. Then steps end to end, and seconds of calibration on one core with
other jobs beside it. An iteration learns from 100 images where nothing else is said. *hint* is what the errors of all
sites count for in what is learned, besides that of the output (`--hint`).
"""


COLUMNS = (
    "| neuron | T | recipe | calibration | ANN | SNN | SNN - ANN (95 %) | agreement | logits | inherited | own "
    "| steps | s |"
)


def document(found: list[dict[str, Any]]) -> str:
    """Return a page with a table for each network."""
    lines = [HEAD]
    for network in dict.fromkeys(cell["network"] for cell in found):
        lines += [
            f"## {network}",
            "",
            COLUMNS,
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        rows = [cell for cell in found if cell["network"] == network]
        for c in sorted(rows, key=lambda c: (NEURONS.index(c["neuron"]), c["T"], c["recipe"], c["calibration_seed"])):
            snn = f"{c['snn']:.2f}" + ("" if c["std"] is None else f" ± {c['std']:.2f}")
            learned = [step for step in c["corrections"] if step["name"] == "reconstruction"]
            made = f"{c['calibration_images']} images, seed {c['calibration_seed']}"
            made += f", {learned[0]['iterations']} iterations" if learned else ""
            made += f" of {c['batch_size']} images" if learned and c["batch_size"] != BATCH else ""
            made += f", hint {learned[0]['hint']:g}" if learned and learned[0].get("hint") else ""
            paired = f"{c['difference']:+.2f} [{c['ci95'][0]:+.2f}, {c['ci95'][1]:+.2f}]"
            lines.append(
                f"| {c['neuron']} | {c['T']} | {c['recipe']} | {made} | {c['ann']:.2f} | {snn} | {paired} "
                f"| {c['agreement']:.2f} | {c['logit_error']:.3f} | {c['error']['inherited']:.1%} | {_own(c['error'])} "
                f"| {c['end_to_end_steps']} | {c['calibration_seconds']} |"
            )
        lines.append("")
    return "\n".join(lines)


def _own(error: dict[str, float]) -> str:
    """Return what sites add themselves, part by part."""
    return ", ".join(f"{part} {value:.1%}" for part, value in error.items() if value and part != "inherited")


def main() -> None:
    """Measure what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["cifar10_resnet20"], choices=[*NETWORKS, EMBEDDED])
    parser.add_argument("--neurons", nargs="+", default=list(NEURONS), choices=NEURONS)
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--recipe", default="best")
    parser.add_argument("--iterations", type=int, help="instead of the recipe's")
    parser.add_argument("--hint", type=float, help="instead of the recipe's")
    parser.add_argument("--calibration-seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--validation", type=int, default=0, metavar="N", help="evaluate on the last N training images")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("SNNCONVERT_SHARED", "../shared")))
    parser.add_argument("--log", type=Path, default=Path("docs/accuracy.jsonl"))
    parser.add_argument("--work", type=Path, default=Path("."), help="folder for checkpoints")
    options = parser.parse_args()
    sys.path.append(str(options.shared / "weights"))  # of nets.py
    for network in options.networks:
        todo = [cell for cell in cells(options) if cell["network"] == network]
        opened = open_network(network, options.shared) if todo else None
        for cell in todo:
            assert opened is not None
            result = measure(*opened, cell, options)
            cell |= {**measured(result), "images": result.images}
            print(json.dumps(cell), flush=True)
            with options.log.open("a") as log:
                log.write(json.dumps(cell) + "\n")
    options.log.with_suffix(".md").write_text(document(read(options.log)))


if __name__ == "__main__":
    main()
