"""The page: tables and plots put into the template, and written whole or not at all."""

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from snnconvert.converter.errors import UsageError
from snnconvert.converter.whole_file import written_whole

from . import plots, raster_plot, site_plots, tables
from .content import NetworkDetail, Report
from .svg import Key, Plot, inline, settings
from .values import finite, positive, words

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Shown:
    """A plot as it stands in the page."""

    svg: Markup
    title: str
    caption: str
    keys: tuple[Key, ...]


def write(path: Path | str, report: Report) -> None:
    """Write ``report`` as one HTML page that needs no other file, all or nothing; the same report gives the same bytes.

    Raises:
        UsageError: the folder does not exist or cannot be written, or ``path`` is a folder.
    """
    path, page = Path(path), render(report).encode(errors="replace")
    try:
        with written_whole(path) as part:
            part.write_bytes(page)
    except OSError as error:
        raise UsageError(
            f"cannot write the report {path}: {error.strerror or error}", "name a file in a folder that exists"
        ) from error


def render(report: Report) -> str:
    """Return the page; what is missing in ``report`` leaves its section out."""
    with settings():
        comparison = list(_shown("plot", _comparison(report.rows)))
        networks = [
            {"name": each.name, "plots": list(_shown(f"network-{n}", _network(each))), "sites": tables.sites(each)}
            for n, each in enumerate(report.networks, 1)
        ]
    return _TEMPLATES.get_template("page.html.j2").render(
        report=report,
        summary=summary(report.rows),
        table=tables.networks(report.rows),
        best=tables.best(report.rows),
        comparison=comparison,
        networks=[each for each in networks if each["plots"] or each["sites"]],
        images=[(b64encode(sample.png).decode(), sample.label) for sample in report.samples],
        answers=tables.answers(report.samples),
        pairs=tables.pairs(report.pairs),
    )


def summary(rows: list[dict[str, Any]]) -> str:
    """Return one sentence on the ANN and one on the best spiking network, as far as they are known."""
    known = [row for row in rows if finite(row.get("top1")) is not None]
    ann = [row for row in known if row.get("kind") == "ann"]
    spiking = [row for row in known if row.get("kind") in ("converted", "direct")]
    said = [f"The ANN classifies {ann[0]['top1']:.2f} % of the test images correctly."] if len(ann) == 1 else []
    if spiking:
        top = max(spiking, key=lambda row: float(row["top1"]))
        steps = f" at T = {top['steps']}" if finite(top.get("steps")) else ""
        energy = _fewer(top, ann[0]) if len(ann) == 1 else ""
        said += [f"The best spiking network, {words(top.get('name'))}, reaches {top['top1']:.2f} %{steps}{energy}."]
    return " ".join(said)


def _fewer(row: dict[str, Any], ann: dict[str, Any]) -> str:
    """Say what a network needs in times of the ANN's energy, by each model that knows both."""
    own, others = row.get("energy") or {}, ann.get("energy") or {}
    known = [(model, finite(own.get(model)), positive(others.get(model))) for model in others]
    ratios = [f"{mine / theirs:.2g} ({model})" for model, mine, theirs in known if mine is not None and theirs]
    return f", with {' and '.join(ratios)} times the ANN's energy" if ratios else ""


def _comparison(rows: list[dict[str, Any]]) -> Iterator[Plot | None]:
    for count in plots.STEPS:
        yield plots.accuracy_by_steps(rows, count)
    for model in tables.energy_models(rows):
        yield plots.accuracy_by_cost(
            rows,
            _microjoules(model),
            f"Accuracy against energy, {model}",
            "energy per image [µJ]",
            f"Top-1 accuracy against the energy of one image under the model {model}. Models compare networks; they "
            "predict no measurement.",
        )
    yield plots.accuracy_by_cost(
        rows,
        lambda row: _millions(row.get("synaptic_operations")),
        "Accuracy against synaptic operations",
        "synaptic operations per image [M]",
        "Top-1 accuracy against the accumulates that spikes cause, each spike counted with its real fan-out.",
    )


def _microjoules(model: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda row: _millions((row.get("energy") or {}).get(model))


def _millions(value: Any) -> float | None:
    number = finite(value)
    return None if number is None else number / 1e6


def _network(network: NetworkDetail) -> Iterator[Plot | None]:
    yield site_plots.rates(network.sites)
    yield site_plots.thresholds(network.sites)
    yield site_plots.error_sources(network.errors)
    yield site_plots.accuracy_over_time(network.by_t)
    yield site_plots.searched(network.curve)
    yield raster_plot.raster(network.raster)


def _shown(prefix: str, found: Iterable[Plot | None]) -> Iterator[Shown]:
    for number, plot in enumerate(found, 1):
        if plot:
            svg = inline(plot.figure, f"{prefix}-{number}", plot.title)
            yield Shown(svg, plot.title, plot.caption, plot.keys)
