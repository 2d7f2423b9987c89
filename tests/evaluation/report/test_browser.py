"""The page in a browser, where there is one: headless Chromium."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from snnconvert.evaluation.report.page import render

from .made_up import report, snn

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

PHONE = """<!DOCTYPE html><body style="margin: 0">
<iframe width="390" height="844" style="border: 0" srcdoc="{}"></iframe>
<script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument;
  const sizes = [...page.querySelectorAll("svg")].map(each => each.getBoundingClientRect());
  document.body.dataset.found = JSON.stringify({{
    width: page.documentElement.clientWidth,
    scroll: page.documentElement.scrollWidth,
    sizes: sizes.map(each => [each.width, each.height]),
    fill: page.defaultView.getComputedStyle(page.querySelector("svg text")).fill,
    background: page.defaultView.getComputedStyle(page.body).backgroundColor,
  }});
}};
</script>"""
"""A page 390 pixels wide in a frame, as a window cannot be made so narrow everywhere, and what is measured of it."""


def browse(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM
    command = (CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}")
    settings = ("--enable-logging=stderr", "--virtual-time-budget=500", "--hide-scrollbars")
    done = subprocess.run(
        (*command, *settings, *arguments), capture_output=True, encoding="utf-8", errors="replace", timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    return done


def measured(folder: Path, page: str, *arguments: str) -> dict[str, object]:
    (folder / "phone.html").write_text(PHONE.format(html.escape(page)))
    dom = browse(folder, *arguments, "--dump-dom", (folder / "phone.html").as_uri()).stdout
    found = re.search(r'data-found="([^"]*)"', dom)
    assert found, dom[-2000:]
    return dict(json.loads(html.unescape(found[1])))


def long_names() -> str:
    name = "a-rather-long-name-of-a-network_that_has_no_place_to_break/" * 3
    made_up = report(rows=4, networks=1, sites=30)
    rows = [*made_up.rows, snn(2, name=name, method="m" * 90), snn(1, name="wide" * 60)]
    return render(type(made_up)(name * 2, name, rows, networks=made_up.networks, samples=made_up.samples, notes=[name]))


@pytest.mark.parametrize(
    ("names", "scheme", "background", "fill"),
    [("usual", 1, "rgb(255, 255, 255)", "rgb(27, 31, 36)"), ("long", 0, "rgb(20, 23, 27)", "rgb(228, 231, 235)")],
    ids=["usual names, light", "long names, dark"],
)
def test_a_phone(names: str, scheme: int, background: str, fill: str, tmp_path: Path) -> None:
    page = render(report()) if names == "usual" else long_names()
    found = measured(tmp_path, page, f"--blink-settings=preferredColorScheme={scheme}")
    assert found["width"] == found["scroll"] == 390  # no sideways scrolling
    sizes = found["sizes"]
    assert isinstance(sizes, list)
    assert len(sizes) == page.count("<svg ") > 5
    assert all(300 < width <= 390 and height > 80 for width, height in sizes)
    assert (found["background"], found["fill"]) == (background, fill)


def test_it_prints_on_landscape_pages(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render(report(rows=8, networks=1)))
    target = tmp_path / "page.pdf"
    browse(tmp_path, f"--print-to-pdf={target}", (tmp_path / "page.html").as_uri())
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", target.read_bytes())
    assert 2 <= len(boxes) <= 8
    assert all(float(width) > float(height) for width, height in boxes)
