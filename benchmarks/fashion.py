"""Converted networks next to directly trained ones on Fashion-MNIST, one architecture, the whole test set.

    python benchmarks/fashion.py --anew            # converts, evaluates, writes docs/fashion.json and .md
    python benchmarks/fashion.py                   # the same for networks that docs/fashion.json lacks
    python benchmarks/fashion.py --show            # the table of docs/fashion.json, nothing is run
    python benchmarks/fashion.py --repeats R/*.snn # adds networks trained with other seeds, by `snnconvert train`

The ANN and the directly trained networks are the shipped ones; `snnconvert zoo spiking` prints the command that trains
each. Conversions (`CONVERSIONS`) are calibrated on unlabelled training images and kept in ``--work``, so that a killed
run goes on. Each network is evaluated once on the test images, which chose nothing.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from snnconvert.converter.artifact import load
from snnconvert.model_zoo import shipped

DOCS = Path(__file__).parents[1] / "docs"
ANN, QCFS, DATA = "zoo:fashion-small-vgg", "zoo:fashion-qcfs-T4", "fashion-mnist"
METHODS = ("lif", "mt-lif", "albsnn", "slssnn", "dsr", "qcfs")
NEURONS, STEPS = ("two-phase", "tpp", "if"), (1, 2, 4, 8)


class Conversion(NamedTuple):
    """A network to convert: the file's name, what is converted, and the words that say how."""

    name: str
    source: str
    neuron: str
    steps: int
    words: tuple[str, ...]
    about: str
    place: int = 0
    """Where it stands among those with the same neurons."""


def _calibrated(neuron: str, steps: int, recipe: str) -> Conversion:
    words = ("--data", DATA, "--recipe", recipe)
    name = f"{neuron}-T{steps}" + f"-{recipe}" * (recipe != "balanced")
    return Conversion(name, ANN, neuron, steps, words, f"recipe `{recipe}`", recipe != "balanced")


CONVERSIONS = (
    *(_calibrated(neuron, steps, "balanced") for neuron in NEURONS for steps in STEPS),
    _calibrated("two-phase", 4, "best"),
    *(
        Conversion(f"tpp-T{steps}-of-qcfs", QCFS, "tpp", steps, (), "of the qcfs network, lambda as theta")
        for steps in (4, 8)
    ),
)
"""The ANN with each neuron; TPP on a quantised ANN as in the TPP paper, with nothing calibrated."""

COLUMNS = (
    *("network", "T", "end to end", "levels a step", "spikes", "top-1 (95 %)", "spikes / neuron"),
    *("synaptic operations", "MACs", "weight bits", "energy, Horowitz", "energy, Lemaire", "epochs", "seconds"),
)


def snnconvert(*words: str) -> dict[str, Any]:
    """Run a command with --json, and return its document."""
    code = "import sys; from snnconvert.cli.main import main; sys.exit(main())"
    run = subprocess.run([sys.executable, "-c", code, *words, "--json"], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def convert(what: Conversion, work: Path) -> Path:
    """Return the converted network, from ``work`` if it is there."""
    path = work / f"{what.name}.snn"
    if not path.exists():
        print(f"converting to {path.stem}", file=sys.stderr, flush=True)
        words = ["--neuron", what.neuron, "-T", str(what.steps), *what.words, "-o", str(path), "--quiet"]
        snnconvert("convert", what.source, *words)
    return path


def repeats(paths: list[Path], known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the test accuracy of networks trained with other seeds, those that are ``known`` among them."""
    found = {(each["method"], each["steps"], each["seed"]): each for each in known}
    for path in paths:
        model, about = load(path)
        key = about["training"]["method"], model.steps, about["training"]["seed"]
        top1 = snnconvert("eval", str(path), "--data", DATA, "--quiet")["snn"]["top1"]
        found[key] = {"method": key[0], "steps": key[1], "seed": key[2], "top1": top1}
    return [found[key] for key in sorted(found)]


def page(document: dict[str, Any]) -> str:
    """Return the table in words."""
    lines = [
        "# Converted and directly trained networks on Fashion-MNIST",
        "",
        "`python benchmarks/fashion.py` converts, evaluates and writes this page (log: [fashion.json](fashion.json));",
        "`snnconvert zoo spiking` prints the command that trains each of the directly trained networks.",
        "",
        f"One architecture ({ANN}: five convolutions, 12.4 million multiply-accumulates), 10,000 test images, which",
        "chose nothing. Conversions see unlabelled training images, or none; tpp is the mean of 3 seeds. *Trained*",
        "networks saw 55,000 labelled images; those of lif, mt-lif and albsnn with T = 4 began with the weights",
        "of T = 2 (`train --inherit`), whose epochs and seconds count too. mt-lif, albsnn and slssnn are",
        "reconstructions from abstracts. T is the window of a site, *end to end* the steps from image to answer;",
        f"levels are those of one step. Operations and energy are means over the first {_counted(document)}",
        "test images; the two models of energy and their sources are in `snnconvert.evaluation.energy`: they compare",
        "networks and measure no chip. Seconds were taken on one core with other jobs beside it.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    lines += [_line(row) for row in document["rows"]]
    if document["repeats"]:
        lines += ["", "Other seeds, top-1 on the test set:", ""]
        for (method, steps), seeds in _seeds(document).items():
            values = ", ".join(f"{top1:.2f} (seed {seed})" for seed, top1 in seeds.items())
            lines.append(f"- {method}, T={steps}: {values}: {mean(seeds.values()):.2f} ± {stdev(seeds.values()):.2f}")
    lines += ["", "McNemar's exact test against the ANN (disagreements won and lost by the network):", ""]
    lines += [
        f"- {pair['second']}: {pair['only_second']} won, {pair['only_first']} lost, p = {pair['p_value']:.2g}"
        for pair in document["pairs"]
        if pair["first"] == ANN
    ]
    return "\n".join(lines) + "\n"


def _counted(document: dict[str, Any]) -> str:
    found = {row["operations_images"] for row in document["rows"]} - {None}
    return " or ".join(map(str, sorted(found)))


def _seeds(document: dict[str, Any]) -> dict[tuple[str, int], dict[int, float]]:
    """Return top-1 by seed of each trained network of which there are several; those in the table have seed 0."""
    own = {(row["method"], row["steps"]): row["top1"] for row in document["rows"] if row["kind"] == "direct"}
    found: dict[tuple[str, int], dict[int, float]] = {}
    for each in document["repeats"]:
        key = each["method"], each["steps"]
        found.setdefault(key, {0: own[key]} if key in own else {})[each["seed"]] = each["top1"]
    return {key: seeds for key, seeds in found.items() if len(seeds) > 1}


def _line(row: dict[str, Any]) -> str:
    def number(value: float | None, form: str = "{:,.0f}", scale: float = 1) -> str:
        return "" if value is None else form.format(value / scale)

    deviation = f" ± {row['top1_std']:.2f}" if row["top1_std"] else ""
    words = {"ann": "ANN", "quantised": "quantised ANN", "converted": "converted, ", "direct": "trained, "}
    name = words[row["kind"]] + (row["method"] if row["kind"] in ("converted", "direct") else "")
    name += ", that of the qcfs network" if row["kind"] == "ann" and row["name"] != ANN else ""
    name += "".join(f", {each.about}" for each in CONVERSIONS if each.name == row["name"])
    energy = row["energy"] or {}
    cells = [
        name,
        number(row["steps"]),
        number(row["end_to_end_steps"]),
        number(row["levels_per_step"]),
        row["spike_type"] or "",
        f"{row['top1']:.2f}{deviation} [{row['ci95'][0]:.1f}, {row['ci95'][1]:.1f}]",
        number(row["spikes_per_neuron"], "{:.2f}"),
        number(row["synaptic_operations"], "{:.2f} M", 1e6),
        number(row["macs"], "{:.2f} M", 1e6),
        number(row["weight_bits"], "{:.2f} M", 1e6),
        number(energy.get("horowitz-45nm"), "{:.1f} µJ", 1e6),
        number(energy.get("lemaire"), "{:.0f} µJ", 1e6),
        *(number((row["cost"] or {}).get(name)) for name in ("epochs", "seconds")),
    ]
    return f"| {' | '.join(cells)} |"


def measured(document: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return ``document`` with the networks that it lacks or that are others now; of pairs, those with the ANN."""
    seconds = {name: load(path)[1]["training"]["seconds"] for name, path in shipped().items()}
    rows = [r for r in document["rows"] if r["kind"] != "direct" or r["cost"]["seconds"] == seconds.get(r["name"])]
    known = {row["name"] for row in rows}
    pairs = [pair for pair in document["pairs"] if {pair["first"], pair["second"]} <= known and pair["first"] == ANN]
    lacking = [each for each in CONVERSIONS if each.name not in known]
    trained = [f"zoo:{name}" for name in shipped() if name not in known]
    for source in (ANN, QCFS):
        words = [str(convert(each, options.work)) for each in lacking if each.source == source]
        against = [] if words else ["--against", ANN]  # trained networks alone come from no ANN
        words += trained if source == ANN else []
        if not words:
            continue
        found = snnconvert(
            *("eval", *words, *against, "--data", DATA, "--seeds", "3", "--csv", str(options.work / "rows.csv")),
            *([] if options.report is None or source != ANN else ["--report", str(options.report)]),
        )
        if source == QCFS:
            rows += [_of_qcfs(row) for row in found["rows"] if row["kind"] in ("ann", "converted")]
            continue
        rows += [row for row in found["rows"] if row["name"] not in known]
        pairs += [pair for pair in found["pairs"] if pair["first"] == ANN and pair["second"] not in known]
    rows = list({row["name"]: row for row in sorted(rows, key=_place)}.values())
    return {"rows": rows, "pairs": pairs, "repeats": repeats(options.repeats, document["repeats"])}


def _of_qcfs(row: dict[str, Any]) -> dict[str, Any]:
    """Name the ANN of the quantised network apart from the one of the others."""
    return row | {"name": "the qcfs network as an ANN"} if row["kind"] == "ann" else row


def _place(row: dict[str, Any]) -> tuple[int, int, int, int]:
    """Return where a row belongs: ANNs, then conversions and trained networks by method, each by T."""
    kinds, methods = ("ann", "quantised", "converted", "direct"), (*NEURONS, *METHODS)
    method = methods.index(row["method"]) if row["method"] in methods else -1
    variant = next((each.place for each in CONVERSIONS if each.name == row["name"]), 0)
    return kinds.index(row["kind"]), method, variant, row["steps"] or 0


def main() -> None:
    """Measure what is asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print the table that was written")
    parser.add_argument("--anew", action="store_true", help="measure what the log has, too")
    parser.add_argument("--work", type=Path, default=Path("fashion-work"))
    parser.add_argument("--repeats", type=Path, nargs="*", default=[])
    parser.add_argument("--report", type=Path, help="write the report, too")
    options = parser.parse_args()
    log = DOCS / "fashion.json"
    if not options.show:
        options.work.mkdir(parents=True, exist_ok=True)
        empty: dict[str, Any] = {"rows": [], "pairs": [], "repeats": []}
        document = measured(empty if options.anew or not log.exists() else json.loads(log.read_text()), options)
        log.write_text(json.dumps(document, indent=1) + "\n")
        log.with_suffix(".md").write_text(page(document))
    print(page(json.loads(log.read_text())))


if __name__ == "__main__":
    main()
