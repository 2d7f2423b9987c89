"""The coverage table: which architectures of timm and torchvision are traced, prepared, converted, and faithful.

    python benchmarks/coverage.py --log docs/coverage.csv              # measure what the log lacks, then print tables
    python benchmarks/coverage.py --library timm --models 'resnet*' --shard 1/2 --log /tmp/first.csv
    python benchmarks/coverage.py --summary /tmp/first.csv /tmp/second.csv

A model is faithful where its spiking network, at 4,096 levels a window in `counts`, is wrong by at most 1 % of the
deviation of the logits across 8 images. Weights are random, drawn so that logits follow the image (coverage_models.py);
a network whose logits hardly do is unmeasured, not passed. A larger error is measured at 1,024 levels too: four times
as large, it is the grain of the levels, which the network amplifies; as large, it is a fault. Above 100 M parameters
the full model is checked without weights, and a shallow twin is measured.

Rows are appended as they come, and a model that has one is not measured again. A model during which the process died is
logged as crashed by the next run.
"""

import argparse
import fnmatch
import gc
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from coverage_log import STATUSES, Row, append, read, summary
from coverage_models import (
    LARGE,
    Candidate,
    Plan,
    Unmeasured,
    build,
    build_on_meta,
    candidates,
    images,
    outputs,
    probe,
    redraw,
    set_statistics,
    shallow,
)
from torch import Tensor, nn

from snnconvert import check, convert, observe, prepare
from snnconvert.converter.errors import CalibrationRefused, SnnconvertError
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.graph.audit import Audit

LEVELS = 4096
IMAGES, NORM_IMAGES, PROOF_IMAGES = 8, 8, 2
FAITHFUL = 0.01
"""The largest error of a faithful network, in deviations of the logits across images."""
NOISE = 0.002
"""The largest difference of the prepared graph, in the same unit: above, rounding hides what is to be measured."""
SPREAD = 1e-3
"""The smallest deviation of the logits across images, in units of their size."""


class OutOfTime(BaseException):
    """The model's time is over; not an Exception, which what is measured might catch."""


def measure(candidate: Candidate, *, seed: int = 0, timeout: float = 600) -> Row:
    """Return the row of ``candidate``; whatever goes wrong with the model becomes its status."""
    row = Row(candidate.library, candidate.name, candidate.family, seed=seed)
    started = time.perf_counter()
    try:
        with _deadline(timeout):
            _measure(row, candidate)
        row.status = "passed" if row.fidelity is not None and row.fidelity <= FAITHFUL else "unfaithful"
    except (Unmeasured, CalibrationRefused) as error:  # a site that no image reaches is one of these weights
        row.status, row.reason = "unmeasured", _first_line(error)
    except SnnconvertError as error:
        row.status, row.reason = "refused", row.reason or _first_line(error)
    except OutOfTime:
        row.status, row.reason = "timeout", f"more than {timeout:g} s"
    except Exception as error:
        row.status, row.reason = "failed", f"{type(error).__name__}: {_first_line(error)}"
    row.seconds = round(time.perf_counter() - started, 1)
    gc.collect()
    return row


def _measure(row: Row, candidate: Candidate) -> None:
    plan = probe(candidate)
    row.parameters, row.size = plan.parameters, "x".join(map(str, plan.shape))
    if plan.parameters > LARGE:
        _check_full(row, candidate, plan)
        plan = shallow(candidate, plan)
        row.mode, row.twin = "twin" if plan.twin else "full", plan.twin
    torch.manual_seed(row.seed)
    model = build(candidate, plan.size, plan.keywords, trimmed=plan.trimmed)
    redraw(model)
    set_statistics(model, images(NORM_IMAGES, plan.shape, row.seed + 1))
    _compare(row, model, images(IMAGES, plan.shape, row.seed))


def _check_full(row: Row, candidate: Candidate, plan: Plan) -> None:
    """Check the full model, without weights."""
    found = check(build_on_meta(candidate, plan.size), torch.empty(2, *plan.shape, device="meta"))
    _describe(row, found)
    if not found.convertible:
        raise SnnconvertError(_reason(found))


def _compare(row: Row, model: nn.Module, x: Tensor) -> None:
    """Convert ``model`` and compare it with its spiking network on ``x`` [images, channels, height, width]."""
    with torch.no_grad():
        y = outputs(model(x))
    if not bool(y.isfinite().all()):
        raise Unmeasured("the output holds NaN or infinity with random weights")
    graph = _prepare(row, model, x[:PROOF_IMAGES])
    across = float(y.var(0).mean().sqrt())
    row.spread = across / (_rms(y) or 1.0)
    observed = observe(graph, [x])

    def error(levels: int) -> float:
        thresholds = observed.thresholds(graph, steps=levels, rule="max", per="channel")
        spiking = convert(graph, thresholds, neuron="two-phase", steps=levels)
        row.converted = 1
        with torch.no_grad():
            return _rms(outputs(spiking(x, executor="counts")) - y)

    found = error(LEVELS)
    if not row.spread >= SPREAD:
        raise Unmeasured(f"the logits move by {row.spread:.1g} of their size across images")
    row.fidelity = found / across
    if not row.fidelity <= FAITHFUL:
        with torch.no_grad():
            noise = _rms(outputs(graph.module(x)) - y) / across
        if noise > NOISE:
            raise Unmeasured(f"rounding alone is {noise:.1g} of the deviation across images")
        coarse = error(LEVELS // 4) / across
        row.reason = f"error {row.fidelity:.1%} of the deviation across images, {coarse:.1%} at {LEVELS // 4} levels"


def _prepare(row: Row, model: nn.Module, x: Tensor) -> PreparedGraph:
    try:
        graph = prepare(model, x)
    except SnnconvertError:
        refusal = check(model, x)  # raises where the model cannot be traced
        _describe(row, refusal)
        row.reason = _reason(refusal)
        raise
    row.prepared = graph.proof.relative
    _describe(row, graph.audit)
    return graph


def _describe(row: Row, found: Audit) -> None:
    """Enter what an audit says; that there is one says that the model was traced."""
    sites = [operation for operation in found.operations if operation.role == "spiking site"]
    row.traced, row.verdict = 1, found.verdict
    row.sites, row.ternary_sites = len(sites), sum(site.spikes == "ternary" for site in sites)
    row.analog = sum(operation.role == "analog" for operation in found.operations)


def _reason(found: Audit) -> str:
    return next(iter(found.reasons), "")


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def sweep(todo: Iterable[Candidate], log: Path, timeout: float) -> Iterator[Row]:
    """Yield the row of each candidate, once it is in ``log``; a file beside it names the model being measured."""
    marker = log.with_name(f"{log.name}.running")
    crashed = marker.read_text() if marker.exists() else ""
    for candidate in todo:
        if candidate.key == crashed:
            row = Row(candidate.library, candidate.name, candidate.family, status="crashed", reason="the process died")
        else:
            marker.write_text(candidate.key)
            try:
                row = measure(candidate, timeout=timeout)
            finally:  # runs unless the process is killed
                marker.unlink()
        append(log, row)
        yield row
    marker.unlink(missing_ok=True)


def _shard(text: str) -> tuple[int, int]:
    part, parts = map(int, text.split("/"))
    if not 1 <= part <= parts:
        raise ValueError
    return part, parts


def main() -> None:
    """Measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", choices=["timm", "torchvision", "all"], default="all")
    parser.add_argument("--models", nargs="+", metavar="GLOB", default=["*"])
    parser.add_argument("--shard", type=_shard, metavar="K/N", default=(1, 1), help="every N-th model, from the K-th")
    parser.add_argument("--log", type=Path, default=Path("docs/coverage.csv"))
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one model")
    parser.add_argument("--retry", nargs="+", choices=STATUSES, default=[], help="measure models of this status again")
    parser.add_argument("--summary", nargs="+", type=Path, metavar="FILE", help="print the tables of these logs alone")
    options = parser.parse_args()
    if options.summary is None:
        warnings.simplefilter("ignore")  # of the libraries, while they build models
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
        done = {key for key, row in read([options.log]).items() if row["status"] not in options.retry}
        part, parts = options.shard
        todo = [c for c in candidates() if options.library in (c.library, "all")]
        todo = [c for c in todo if any(fnmatch.fnmatch(c.name, glob) for glob in options.models)][part - 1 :: parts]
        for row in sweep([c for c in todo if c.key not in done], options.log, options.timeout):
            print(f"{row.library}:{row.name} {row.status} {row.reason} ({row.seconds} s)", flush=True)
    print(summary(read(options.summary or [options.log]).values()))


if __name__ == "__main__":
    main()
