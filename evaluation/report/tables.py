"""The tables of a report as texts: networks, sites, test images and pairs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from .content import NetworkDetail, Sample
from .site_plots import PARTS, error_parts
from .values import DASH, digits, finite, fixed, p_value, whole, words

Row = dict[str, Any]


class Column(NamedTuple):
    """A column of the table of networks: the group of columns it is in, its heading, and its text for a row."""

    group: str
    heading: str
    text: Callable[[Row], str]
    number: bool = True


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Args:
        groups: (heading, how many columns), or empty.
        headings: one a column; that of the names first.
        rows: name and texts.
        numbers: whether each column of texts holds numbers, the names' left out.
        starts: whether each of these columns begins a group.
    """

    groups: list[tuple[str, int]]
    headings: list[str]
    rows: list[tuple[str, list[str]]]
    numbers: list[bool]
    starts: list[bool]


def networks(rows: Sequence[Row]) -> Table:
    """Return every figure of every network; columns in which nothing is known are left out."""
    found = [(column, [column.text(row) for row in rows]) for column in _columns(rows)]
    shown = [(column, texts) for column, texts in found if any(text != DASH for text in texts)]
    groups = [(name, len(list(each))) for name, each in groupby(column.group for column, _ in shown)]
    return Table(
        groups,
        ["network", *(column.heading for column, _ in shown)],
        [(words(row.get("name")), [texts[number] for _, texts in shown]) for number, row in enumerate(rows)],
        [column.number for column, _ in shown],
        [number == 0 for _, size in groups for number in range(size)],
    )


def best(rows: Sequence[Row]) -> dict[int, int]:
    """Return the positions of the spiking networks with the highest top-1 at their T, and that T.

    Where only one network has a T none is the best of it; the ANN quantised to T + 1 levels does not spike.
    """
    spiking = [
        n for n, row in enumerate(rows) if row.get("kind") in ("converted", "direct") and finite(row.get("top1"))
    ]
    found: dict[int, int] = {}
    for number in spiking:
        same = [rows[other]["top1"] for other in spiking if rows[other].get("steps") == rows[number].get("steps")]
        if finite(rows[number].get("steps")) and len(same) > 1 and rows[number]["top1"] == max(same):
            found[number] = rows[number]["steps"]
    return found


def sites(network: NetworkDetail) -> Table | None:
    """Return every figure of every site; None where nothing is known of any."""
    known = {str(site.get("name")): site for site in network.sites}
    errors = {str(entry.get("site")): entry for entry in network.errors}
    names, parts = list(known | errors), error_parts(network.errors)
    columns: list[Column] = [
        Column("", "neurons", lambda site: whole(site.get("neurons"))),
        Column("", "spikes / image", lambda site: digits(site.get("spikes"))),
        Column("", "spikes / neuron / step", lambda site: digits(site.get("rate"))),
    ]
    columns += [Column("threshold", name, _threshold(name)) for name in ("min", "median", "max")] if known else []
    rows = [(name, [column.text(known.get(name, {})) for column in columns]) for name in names]
    rows = [(name, texts + [digits(errors.get(name, {}).get(part)) for part in parts]) for name, texts in rows]
    if not rows:
        return None
    headings = [f"{column.group} {column.heading}".strip() for column in columns]
    headings = ["site", *headings, *(f"error: {PARTS.get(part, part)}" for part in parts)]
    return Table([], headings, rows, [True] * (len(headings) - 1), [False] * (len(headings) - 1))


def answers(samples: Sequence[Sample]) -> list[tuple[str, list[tuple[str, str, bool | None]]]]:
    """Return what each network made of each image: its name, and (sign, predicted class, whether it is right)."""
    names = dict.fromkeys(name for sample in samples for name, _ in sample.predictions)
    return [(name, [_answer(dict(sample.predictions).get(name), sample.label) for sample in samples]) for name in names]


def pairs(found: Sequence[Row]) -> list[tuple[str, str, list[str]]]:
    """Return the two names of each pair, and its figures."""
    return [
        (
            words(pair.get("first")),
            words(pair.get("second")),
            [
                fixed(pair.get("agreement"), 2),
                whole(pair.get("only_first")),
                whole(pair.get("only_second")),
                p_value(pair.get("p_value")),
            ],
        )
        for pair in found
    ]


def _answer(predicted: str | None, label: str) -> tuple[str, str, bool | None]:
    if predicted is None:
        return "", DASH, None
    return "✓" if predicted == label else "✗", predicted, predicted == label


def _columns(rows: Sequence[Row]) -> Iterator[Column]:
    yield Column("", "kind", lambda row: words(row.get("kind")), number=False)
    yield Column("", "method", lambda row: words(row.get("method")), number=False)
    yield Column("", "spikes", lambda row: words(row.get("spike_type")), number=False)
    yield Column("Accuracy", "top-1 [%]", _top1)
    yield Column("Accuracy", "95 % interval", lambda row: _interval(row.get("ci95")))
    yield Column("Accuracy", "seeds", lambda row: whole(row.get("seeds")))
    yield Column("Accuracy", "images", lambda row: whole(row.get("images")))
    yield Column("Time in steps", "T", lambda row: whole(row.get("steps")))
    yield Column("Time in steps", "end to end", lambda row: whole(row.get("end_to_end_steps")))
    yield Column("Time in steps", "first answer", lambda row: whole(row.get("first_answer")))
    yield Column("Time in steps", "interval", lambda row: whole(row.get("interval")))
    yield Column("Time in steps", "levels / step", lambda row: whole(row.get("levels_per_step")))
    yield Column("Operations per image", "neurons", lambda row: whole(row.get("neurons")))
    yield Column("Operations per image", "spikes / neuron", lambda row: digits(row.get("spikes_per_neuron")))
    yield Column("Operations per image", "synaptic [M]", lambda row: digits(row.get("synaptic_operations"), 1e6))
    yield Column("Operations per image", "MACs [M]", lambda row: digits(row.get("macs"), 1e6))
    yield Column("Operations per image", "counted on images", lambda row: whole(row.get("operations_images")))
    for model in energy_models(rows):
        yield Column("Energy per image [µJ]", model, _energy(model))
    yield Column("Weights", "[Mbit]", lambda row: digits(row.get("weight_bits"), 1e6))
    yield Column("Cost to make", "by", lambda row: words(_cost(row).get("kind")), number=False)
    yield Column("Cost to make", "time [s]", lambda row: digits(_cost(row).get("seconds")))
    yield Column("Cost to make", "images", lambda row: whole(_cost(row).get("images")))
    yield Column("Cost to make", "epochs", lambda row: whole(_cost(row).get("epochs")))


def energy_models(rows: Sequence[Row]) -> list[str]:
    """Return the energy models that any row has a number of, in the order of their first appearance."""
    return list(dict.fromkeys(model for row in rows for model in row.get("energy") or {}))


def _energy(model: str) -> Callable[[Row], str]:
    return lambda row: digits((row.get("energy") or {}).get(model), 1e6)


def _threshold(name: str) -> Callable[[Row], str]:
    return lambda site: digits((site.get("threshold") or {}).get(name))


def _cost(row: Row) -> Row:
    return row.get("cost") or {}


def _top1(row: Row) -> str:
    deviation = finite(row.get("top1_std"))
    return fixed(row.get("top1"), 2) + (f" ± {deviation:.2f}" if deviation else "")


def _interval(interval: Any) -> str:
    low, high = (finite(end) for end in interval or (None, None))
    return DASH if low is None or high is None else f"{low:.1f} to {high:.1f}"
