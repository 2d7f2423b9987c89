"""Matplotlib figures as inline SVG that takes its colours from the page.

A figure is drawn in the made-up colours below; in the SVG each becomes a variable of the page's style sheet, so that
one drawing suits light and dark screens and paper. Text stays text.
"""

import re
import warnings
from dataclasses import dataclass
from io import StringIO
from typing import Any
from xml.etree import ElementTree

import matplotlib.style
from markupsafe import Markup
from matplotlib.figure import Figure

INK, GRID, PAPER = "#fd0001", "#fd0002", "#fd0003"
"""Lines and text, what is fainter, and the background."""

SERIES = tuple(f"#fe000{number}" for number in range(8))
"""Colours that tell things apart; eight that colour-blind readers can tell apart, too."""

WIDTH = 5.0
"""Of a figure, in inches; at 72 points an inch its text is legible on a phone."""

_VARIABLES = {INK: "var(--ink)", GRID: "var(--grid)", PAPER: "var(--paper)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)
}

_SETTINGS: dict[str, Any] = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), 10.0),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 9.0),
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.linewidth": 0.7,
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "font.family": "DejaVu Sans",  # matplotlib brings it along, so margins are the same everywhere
    "lines.linewidth": 1.5,
    "path.simplify": False,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold dollars
}

_REFERENCE = re.compile(r"#([^)]+)")
_FONT = re.compile(r"font-family: [^;]*; ")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def settings() -> Any:
    """Return the context in which figures are made and drawn, the same whatever the user's matplotlibrc says."""
    return matplotlib.style.context(["default", _SETTINGS])


def figure(height: float) -> Figure:
    """Return an empty figure of the common width that lays out its own margins.

    Args:
        height: inches.
    """
    return Figure(figsize=(WIDTH, height), layout="constrained")


def plain(text: str, limit: int = 60) -> str:
    """Return ``text`` in one line that SVG can hold, its middle left out beyond ``limit`` characters."""
    text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    half = (limit - 1) // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a sign in the colour of the series ``number``, or in that of text where it is None."""

    text: str
    sign: str
    number: int | None = None


@dataclass(frozen=True)
class Plot:
    """A figure with its words.

    Args:
        title: what is plotted against what.
        caption: what is seen, with units.
        keys: the legend.
    """

    figure: Figure
    title: str
    caption: str
    keys: tuple[Key, ...] = ()


def inline(drawing: Figure, prefix: str, label: str) -> Markup:
    """Return ``drawing`` as an SVG element to stand in an HTML page.

    Args:
        prefix: of all identifiers in it, so that several stand in one page.
        label: what is seen, for those who do not see it.
    """
    drawing.patch.set_visible(False)
    text = StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser chooses the font
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(text, format="svg", metadata=nothing)
    root = ElementTree.fromstring(text.getvalue())
    width, height = root.attrib["viewBox"].split()[2:]
    for parent in list(root.iter()):
        parent.attrib = {_local(name): _tidy(name, value) for name, value in parent.attrib.items()}
        for child in [child for child in parent if _local(child.tag) in ("style", "metadata")]:
            parent.remove(child)
    _prefix(root, prefix)
    root.attrib = {"viewBox": root.attrib["viewBox"], "width": width, "height": height}
    root.attrib |= {"role": "img", "aria-label": plain(label, 10_000)}
    for element in root.iter():
        element.tag, element.tail = _local(element.tag), None
        element.text = element.text if element.tag == "text" else None
        if element.attrib.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # escaped by ElementTree


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _tidy(name: str, value: str) -> str:
    """Return an attribute with the page's colours and with hundredths of a point, which nobody sees."""
    if name == "style":
        for colour, variable in _VARIABLES.items():
            value = value.replace(colour, variable)
        value = _FONT.sub("", value)
    if name in ("d", "transform", "x", "y", "width", "height", "style"):
        value = _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)
    return value


def _prefix(root: ElementTree.Element, prefix: str) -> None:
    """Name what is referred to ``prefix``-1, -2 and so on, and nothing else."""
    used: dict[str, str] = {}
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "href" or value.startswith("url(#"):
                found = _REFERENCE.search(value)
                old = found[1] if found else ""
                new = used.setdefault(old, f"{prefix}-{len(used) + 1}")
                element.attrib[name] = value.replace(f"#{old}", f"#{new}")
    for element in root.iter():
        if (old := element.attrib.pop("id", None)) in used:
            element.attrib["id"] = used[old]
