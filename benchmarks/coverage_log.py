"""The log of the coverage sweep, a row for each model, and its tables."""

import csv
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

STATUSES = ("passed", "unfaithful", "unmeasured", "refused", "failed", "timeout", "crashed")


@dataclass
class Row:
    """What is known of one model; None where it did not come so far."""

    library: str
    name: str
    family: str
    parameters: int | None = None
    mode: str = "full"
    twin: str = ""
    size: str = ""
    seed: int = 0
    traced: int = 0
    prepared: float | None = None
    sites: int | None = None
    ternary_sites: int | None = None
    analog: int | None = None
    verdict: str = ""
    converted: int = 0
    fidelity: float | None = None
    spread: float | None = None
    status: str = ""
    reason: str = ""
    seconds: float = 0.0


Logged = dict[str, str]
"""A row as read from a log."""


def append(log: Path, row: Row) -> None:
    """Add ``row`` to ``log``."""
    names = [f.name for f in fields(Row)]
    new = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({k: _cell(k, v) for k, v in asdict(row).items()})


def _cell(name: str, value: Any) -> Any:
    """Return ``value`` as it is written: three digits; one line, without the folder that libraries are installed in."""
    if isinstance(value, float) and name != "seconds":
        return f"{value:.3g}"
    return " ".join(value.replace(f"{sysconfig.get_path('purelib')}/", "").split()) if isinstance(value, str) else value


def read(logs: Iterable[Path]) -> dict[str, Logged]:
    """Return the last row of each model in ``logs``."""
    rows = {}
    for log in logs:
        if log.exists():
            with log.open(newline="") as file:
                rows.update({f"{row['library']}:{row['name']}": row for row in csv.DictReader(file)})
    return rows


HEADING = """# Every architecture of timm and torchvision

Made by `python benchmarks/coverage.py`; a row for each model is in coverage.csv. Weights are random: parameters that
start as zero or nearly so are drawn anew, biases of batch and group norms around 1, batch-norm statistics come from one
random batch (coverage_models.py says why). A model is *faithful* where its spiking network (two-phase neurons, 4,096
levels a window, executor `counts`, thresholds `max` per channel) is wrong by at most 1 % of the deviation of the logits
across 8 images. Models above 100 million parameters are checked whole without weights, and a shallow twin is measured.
This says that the conversion computes the right function, nothing about accuracy at small T.
"""
"""What the tables stand on."""

_Test = Callable[[Logged], bool]
_COLUMNS: dict[str, _Test] = {
    "traced": lambda row: row["traced"] == "1",
    "prepared": lambda row: row["prepared"] != "",
    "converted": lambda row: row["converted"] == "1",
}


def summary(rows: Iterable[Logged]) -> str:
    """Return ``rows`` as Markdown: a table by family, totals by library, and all that did not pass."""
    rows = sorted(rows, key=lambda row: (row["library"], row["family"], row["name"]))
    lines = [
        "Traced, prepared and converted: of all models. Faithful: of those converted whose error could be measured.",
        "",
        f"| family | {' | '.join(_COLUMNS)} | faithful | unmeasured | largest difference |",
        f"|---|{'---|' * (len(_COLUMNS) + 3)}",
    ]
    totals: list[str] = []
    verdicts: list[str] = []
    for library in dict.fromkeys(row["library"] for row in rows):
        members = [row for row in rows if row["library"] == library]
        for family in dict.fromkeys(row["family"] for row in members):
            lines.append(_line(f"{library} {family}", [row for row in members if row["family"] == family]))
        totals.append(_line(f"**{library}, all**", members))
        verdicts += [_verdicts(library, members), ""]
    lines = [HEADING, *verdicts, *lines, *totals]
    for title, statuses in (
        ("Did not pass", ("unfaithful", "refused", "failed", "timeout", "crashed")),
        ("Unmeasured", ("unmeasured",)),
    ):
        found = [row for row in rows if row["status"] in statuses]
        lines += ["", f"{title}: {len(found)} of {len(rows)}", ""]
        lines += [f"- {row['library']} {row['name']} ({row['status']}): {_one_line(row['reason'])}" for row in found]
    return "\n".join(lines)


def _one_line(text: str, longest: int = 300) -> str:
    words = " ".join(text.split())
    return words if len(words) <= longest else f"{words[:longest]} ..."


def _verdicts(library: str, rows: list[Logged]) -> str:
    """Say in a sentence how many of all models pass, and as what."""
    passed = [row for row in rows if row["status"] == "passed"]
    spiking = [row for row in passed if row["analog"] == "0"]
    binary = sum(row["ternary_sites"] == "0" for row in spiking)
    share = len(passed) / len(rows)
    return (
        f"**{library}: {len(passed)} of {len(rows)} models ({share:.1%}) convert faithfully**: {binary} as"
        f" spiking networks whose sites are all binary, {len(spiking) - binary} with ternary sites,"
        f" {len(passed) - len(spiking)} as hybrids with analog operations."
    )


def _line(name: str, rows: list[Logged]) -> str:
    cells = [f"{sum(map(test, rows))}/{len(rows)}" for test in _COLUMNS.values()]
    passed, missed, unmeasured = (
        sum(row["status"] == s for row in rows) for s in ("passed", "unfaithful", "unmeasured")
    )
    largest = max((float(row["prepared"]) for row in rows if row["prepared"]), default=None)
    text = "" if largest is None else f"{largest:.1e}"
    return f"| {name} | {' | '.join(cells)} | {passed}/{passed + missed} | {unmeasured}/{len(rows)} | {text} |"
