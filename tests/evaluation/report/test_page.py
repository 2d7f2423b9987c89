"""The page: whole, harmless, the same each time, and readable in light and dark."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import snnconvert.evaluation.report.page as page_module
from snnconvert.converter.errors import UsageError
from snnconvert.evaluation.report import NetworkDetail, Raster, Report, Sample, write
from snnconvert.evaluation.report.page import render, summary

from .made_up import ann, png, report, snn

STYLE = Path(page_module.__file__).with_name("page.css").read_text()
ANN = "The ANN classifies 92.90 % of the test images correctly."
SPIKE = np.ones((2, 3), bool)
VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """Elements in order, text, identifiers; checks that what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return render(report())


def test_all_parts_are_there(text: str) -> None:
    page = Page(text)
    assert [section["id"] for section in page.all("section")] == [
        *("networks", "comparison", "pairs", "images", "details-1", "details-2", "notes"),
    ]
    assert len(page.all("svg")) == len(page.all("figure")) == len(page.all("figcaption")) == 5 + 5 + 5
    assert len(page.all("h1")) == 1
    for words in ("fashion-mt-lif-T16", "85.50", "95.05", "0.0054", "★ best at T = 2", "✗ wrong", "not measured"):
        assert words.lower() in page.text.lower()
    for title in ("energy, lemaire", "steps", "end-to-end steps"):
        assert f"Accuracy against {title}\n" in page.text


def test_it_needs_no_other_file_and_no_script(text: str) -> None:
    page = Page(text)
    assert not page.all("script")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    targets = [a.get(name) for _, a in page.elements for name in ("src", "href", "srcset", "data") if a.get(name)]
    assert all(target and target.startswith(("#", "data:")) for target in targets)
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    assert "http" not in text


def test_identifiers_are_unique_and_lead_somewhere(text: str) -> None:
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20
    referred = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    assert referred <= set(ids)


def test_it_can_be_read_without_eyes(text: str) -> None:
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert all(cell.get("scope") in ("col", "row", "colgroup") for cell in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")


def test_the_same_report_gives_the_same_bytes(text: str, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write(tmp_path / name, report())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes() == text.encode()


def test_no_name_becomes_markup() -> None:
    nasty = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>{{ 7*7 }}\n\x00\udcff"
    site = {"name": nasty, "rate": 0.1, "threshold": {"min": 1, "median": 1, "max": 1}}
    page = render(
        Report(
            nasty,
            nasty,
            [
                ann(name=nasty),
                snn(0, name=nasty, method=nasty, spike_type=nasty, energy={nasty: 3.0}, cost={"kind": nasty}),
            ],
            [{"first": nasty, "second": nasty, "p_value": nasty}],
            [NetworkDetail(nasty, [site], [50.0], [], [{"site": nasty, nasty: 0.1}], Raster({nasty: SPIKE}, nasty))],
            [Sample(png(1), nasty, [(nasty, nasty)])],
            [nasty],
        )
    )
    found = Page(page)
    assert not found.all("script")
    assert len(found.all("img")) == 1
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert "49" not in [word.strip() for word in found.text.split("}}")]
    assert found.text.count("<script>") > 10


def test_missing_parts_leave_their_section_out() -> None:
    bare = Page(render(Report("title", "made", [])))
    assert bare.all("section") == bare.all("svg") == bare.all("table") == []
    one = Page(render(Report("title", "made", [snn(0, energy=None, synaptic_operations=None)])))
    assert [section["id"] for section in one.all("section")] == ["networks", "comparison"]
    assert len(one.all("svg")) == 2
    lonely = Page(render(Report("title", "made", [ann()], networks=[NetworkDetail("nothing known")])))
    assert [section["id"] for section in lonely.all("section")] == ["networks"]
    assert "nothing known" not in lonely.text


def test_odd_numbers_do_not_reach_the_page() -> None:
    rows = [ann(top1=math.nan), snn(0, top1=math.nan, ci95=[math.nan] * 2, energy={"lemaire": math.inf}, cost=None)]
    assert not re.search(r"\b(nan|inf|None)\b", Page(render(Report("title", "made", rows))).text)


def test_a_large_page_stays_small() -> None:
    large = report(rows=19, networks=6, sites=50)
    assert len(large.rows) == 20
    assert len(render(large).encode()) < 1_000_000


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], ""),
        ([ann()], ANN),
        ([snn(0, name="x", top1=80.0)], "The best spiking network, x, reaches 80.00 % at T = 2."),
        ([ann(), ann(), snn(0, name="x", top1=80.0, steps=None)], "The best spiking network, x, reaches 80.00 %."),
        (
            [ann(energy={"lemaire": 4.0, "b": 0}), snn(1, name="y", energy={"lemaire": 1.0, "b": 2}), snn(3)],
            f"{ANN} The best spiking network, y, reaches 84.20 % at T = 2, with 0.25 (lemaire) times the ANN's energy.",
        ),
        ([snn(0, kind="quantised")], ""),
    ],
)
def test_summary(rows: list[dict[str, object]], expected: str) -> None:
    assert summary(rows) == expected


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write the report .*none/out.html: No such file") as refused:
        write(tmp_path / "none" / "out.html", Report("t", "m", []))
    assert refused.value.hint == "name a file in a folder that exists"
    with pytest.raises(UsageError, match="cannot write the report"):
        write(tmp_path, Report("t", "m", []))
    assert not list(tmp_path.iterdir())


def test_a_file_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    write(tmp_path / "out.html", Report("a\udcffb", "made", []))
    assert "<h1>a?b</h1>" in (tmp_path / "out.html").read_text()


def test_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.html"
    path.write_text("before")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="No space left"):
        write(path, Report("t", "m", []))
    assert [each.name for each in tmp_path.iterdir()] == ["out.html"]
    assert path.read_text() == "before"


def test_a_report_that_cannot_be_drawn_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        write(tmp_path / "out.html", replace(report(2, 0), samples=[None]))  # type: ignore[list-item]
    assert not list(tmp_path.iterdir())


def variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours, WCAG 2.1."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("number", range(3), ids=["light", "dark", "print"])
def test_colours_stand_out(number: int) -> None:
    blocks = [variables(block) for block in STYLE.split(":root {")[1:]]
    assert len(blocks) == 3
    colours = blocks[number]
    assert set(colours) == set(blocks[0])
    for name in ("ink", "soft", "link", "right", "wrong"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
        assert contrast(colours[name], colours["tint"]) >= 4.5, name
    for series in range(8):
        assert contrast(colours[f"series-{series}"], colours["paper"]) >= 3, series
        assert f".series-{series} {{ color: var(--series-{series}); }}" in STYLE
