import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from snnconvert.cli.output import Output, Table

TABLE = Table("title", ("network", "top-1"), [("tpp [1]", "79.50"), ("if", "6.00")])


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def said(stream: type[io.StringIO] = io.StringIO, **options: Any) -> tuple[str, str]:
    stdout, stderr = stream(), stream()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        out = Output(**options)
        out.talk("model", "resnet [bold]20[/bold]")
        out.warn("few images")
        assert list(out.progress([1, 2, 3], 3, "counting")) == [1, 2, 3]
        out.result({"answer": 1.5}, TABLE)
    return stdout.getvalue(), stderr.getvalue()


def test_data_on_stdout_talk_on_stderr() -> None:
    stdout, stderr = said()
    assert [line.split() for line in stdout.splitlines() if line.strip(" ─")] == [
        ["title"],
        ["network", "top-1"],
        ["tpp", "[1]", "79.50"],
        ["if", "6.00"],
    ]
    assert stderr == "model         resnet [bold]20[/bold]\nwarning: few images\n"


def test_json_is_one_document() -> None:
    stdout, stderr = said(json=True)
    assert json.loads(stdout) == {"answer": 1.5}
    assert "resnet" in stderr


def test_quiet_keeps_warnings_and_the_result() -> None:
    stdout, stderr = said(quiet=True)
    assert "79.50" in stdout
    assert stderr == "warning: few images\n"


@pytest.mark.parametrize(("quiet", "shown"), [(False, True), (True, False)])
def test_progress_on_a_terminal(quiet: bool, shown: bool) -> None:
    assert ("counting" in said(Terminal, quiet=quiet)[1]) is shown
    assert "counting" not in said(quiet=quiet)[1]


def test_colour_on_a_terminal_unless_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;33m" in said(Terminal)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;33m" not in said(Terminal)[1]
    assert "\x1b[3" not in said(Terminal)[1]


def test_pipes_get_long_lines_whole() -> None:
    path = "a/" * 500 + "x.snn"
    stdout = io.StringIO()
    with redirect_stdout(stdout):
        Output().result({}, Table("", ("file", "size"), [(path, "1")]))
    assert path in stdout.getvalue()


def test_a_table_wider_than_the_terminal_is_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    columns = tuple(f"quantity {n}" for n in range(8))
    stdout = Terminal()
    with redirect_stdout(stdout):
        Output().result({}, Table("", ("network", *columns), [("tpp", *"01234567"), ("if", *"89abcdef")]))
    lines = [line.split() for line in stdout.getvalue().splitlines()]
    assert [word for word in lines[5] if word[0] != "\x1b"] == ["quantity", "3", "3", "b"]


def test_an_error_is_one_line_and_one_hint() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        assert Output(json=True).fail("ModelRefused", "expected x, got [y]", "try z", 3) == 3
        assert Output().fail("ModelRefused", "expected x", None, 3) == 3
    assert stderr.getvalue() == "error: expected x, got [y]\nhint: try z\nerror: expected x\n"
    error = {"kind": "ModelRefused", "message": "expected x, got [y]", "hint": "try z", "exit_code": 3}
    assert json.loads(stdout.getvalue()) == {"error": error}


def test_not_a_number_is_no_json() -> None:
    with redirect_stdout(io.StringIO()), pytest.raises(ValueError, match="not JSON compliant"):
        Output(json=True).result({"answer": float("nan")})


def test_streams_are_those_of_the_moment() -> None:
    stream = io.StringIO()
    with redirect_stdout(stream):
        out = Output()
    out.text("here")
    assert stream.getvalue() == "here\n"
    assert sys.stdout is not stream
