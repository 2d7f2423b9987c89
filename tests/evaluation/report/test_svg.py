"""Figures as inline SVG: their colours, identifiers, text and bytes."""

import re
from xml.etree import ElementTree

import pytest

from snnconvert.evaluation.report.svg import GRID, INK, PAPER, SERIES, figure, inline, plain, settings


def drawn(prefix: str = "one", text: str = "steps T", label: str = "what is seen") -> str:
    with settings():
        drawing = figure(2.0)
        axes = drawing.subplots()
        axes.plot([1, 2, 3], [1 / 3, 2, 3], "o-", color=SERIES[2], markeredgecolor=PAPER)
        axes.set_xlabel(text)
        return inline(drawing, prefix, label)


def test_every_colour_is_one_of_the_page() -> None:
    styles = re.findall(r'style="([^"]*)"', drawn())
    colours = {c for style in styles for c in re.findall(r"(?:fill|stroke): ([^;]+)", style)}
    assert colours <= {"none", "var(--ink)", "var(--grid)", "var(--paper)", "var(--series-2)"}
    assert {"var(--ink)", "var(--grid)", "var(--paper)", "var(--series-2)"} <= colours
    assert "fill=" not in drawn()
    assert len({INK, GRID, PAPER, *SERIES}) == 11


def test_identifiers_are_the_plots_own_and_all_are_used() -> None:
    svg = ElementTree.fromstring(drawn("first"))
    given = [element.attrib["id"] for element in svg.iter() if "id" in element.attrib]
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', drawn("first")))
    assert set(given) == used
    assert len(given) == len(set(given)) > 2
    assert all(name.startswith("first-") for name in given)


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert drawn() == drawn()
    assert drawn("two") == drawn("one").replace("one-", "two-")


def test_text_stays_text_and_is_harmless() -> None:
    nasty = '<script>alert("$x_{$")</script> url(#one-1) #fd0001'
    svg = ElementTree.fromstring(drawn(text=nasty, label=nasty))
    assert nasty in [element.text for element in svg.iter("text")]
    assert svg.attrib["aria-label"] == nasty
    assert "<script" not in drawn(text=nasty, label=nasty)


@pytest.mark.parametrize("text", ["漢字 🙂", "a\nb\x00\x1b", "\udcff", "_hidden", "$a$b", r"\frac{"])
def test_no_text_is_too_strange(text: str) -> None:
    ElementTree.fromstring(drawn(text=plain(text)))


def test_a_size_and_no_foreign_furniture() -> None:
    svg = drawn()
    root = ElementTree.fromstring(svg)
    assert (root.tag, root.attrib["width"], root.attrib["height"]) == ("svg", "360", "144")
    assert root.attrib["viewBox"] == "0 0 360 144"
    assert root.attrib["role"] == "img"
    for word in ("<style", "<metadata", "font-family", "http:", "<?xml", "DOCTYPE"):
        assert word not in svg
    assert max(len(number) for number in re.findall(r"\.(\d+)", svg)) <= 2


def test_a_users_matplotlibrc_changes_nothing() -> None:
    import matplotlib

    before = drawn()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path", "axes.labelpad": 40}):
        assert drawn() == before


def test_long_text_loses_its_middle() -> None:
    assert plain("abc", 3) == "abc"
    assert plain("0123456789", 7) == "012…789"
    assert plain("tab\there") == "tab�here"
