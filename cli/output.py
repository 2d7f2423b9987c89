"""The one door to the terminal: data on stdout, talk, warnings, errors and progress on stderr."""

import json
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO, TypeVar

from rich.console import Console
from rich.text import Text

from . import torchrun

Item = TypeVar("Item")

PIPE_WIDTH = 10_000
"""Columns where the stream is no terminal: nothing is cut or wrapped for the program that reads it."""


@dataclass(frozen=True)
class Table:
    """A table of words: ``words`` columns aligned left, then columns of numbers aligned right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


class Output:
    """What a command says, and where. Of several processes the first one speaks, and with --debug all tell errors.

    Args:
        json: print the result as one JSON document instead of tables.
        quiet: say nothing but warnings, errors and the result.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        """Look at the streams of this moment: terminals get colours and progress, pipes plain full lines."""
        self.json = json
        self.quiet = quiet
        self.debug = False
        self._follows = torchrun.follows()
        self._warned: set[str] = set()
        self._stdout = _console(sys.stdout)
        self._stderr = _console(sys.stderr)

    def speak_up(self) -> None:
        """Tell errors on stderr in this process, too: the one that speaks may be gone."""
        if self._follows:
            self._follows = self.json = False

    def talk(self, label: str, text: object) -> None:
        """Say one thing about the work, under a label of at most 13 letters."""
        if not (self.quiet or self._follows):
            self._stderr.print(Text.assemble((f"{label:<14}", "bold"), str(text)), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Say once what the user should know even in a quiet run."""
        if self._follows or text in self._warned:
            return
        self._warned.add(text)
        self._stderr.print(Text.assemble(("warning: ", "bold yellow"), text), soft_wrap=True)

    def result(self, document: dict[str, Any], *tables: Table) -> None:
        """Print the command's result: the document with --json, else the tables."""
        if self._follows:
            return
        if self.json:
            self._stdout.file.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
            return
        for number, table in enumerate(tables):
            if number:
                self._stdout.print()
            rendered = _rendered(table)
            unlimited = self._stdout.options.update(max_width=PIPE_WIDTH)
            too_wide = self._stdout.measure(rendered, options=unlimited).maximum > self._stdout.width
            if too_wide and len(table.rows) < len(table.columns) > 3:  # networks side by side, not a long list
                rendered = _rendered(_turned(table))
            if table.title:
                self._stdout.print(Text(table.title, "bold"), soft_wrap=True)
            self._stdout.print(rendered)

    def text(self, text: str) -> None:
        """Print a line that is the command's result."""
        if not self._follows:
            self._stdout.print(Text(text), soft_wrap=True)

    def complain(self, message: str, hint: str | None) -> None:
        """Print an error and the next step on stderr, after the traceback where that was asked for."""
        if self._follows and not self.debug:
            return
        if self.debug:
            self._stderr.print(Text(traceback.format_exc()), soft_wrap=True)
        self._stderr.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
        if hint:
            self._stderr.print(Text.assemble(("hint: ", "bold cyan"), hint), soft_wrap=True)

    def fail(self, kind: str, message: str, hint: str | None, exit_code: int) -> int:
        """Print an error that leaves no result, with --json also as the one document; return the exit code."""
        self.complain(message, hint)
        if self.json:
            self.result({"error": error_document(kind, message, hint, exit_code)})
        return exit_code

    def progress(self, items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
        """Yield ``items`` while a bar on stderr counts them, if stderr is a terminal."""
        if self.quiet or self._follows or not self._stderr.is_terminal:
            yield from items
            return
        from rich.progress import track

        yield from track(items, what, total, console=self._stderr, transient=True)


def error_document(kind: str, message: str, hint: str | None, exit_code: int) -> dict[str, Any]:
    """Return what ``error`` holds in a JSON document."""
    return {"kind": kind, "message": message, "hint": hint, "exit_code": exit_code}


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _rendered(table: Table) -> Any:
    from rich import box
    from rich.table import Table as RichTable

    rendered = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(table.columns):
        rendered.add_column(column, justify="left" if number < table.words else "right", overflow="fold")
    for row in table.rows:
        rendered.add_row(*(Text(cell) for cell in row))
    return rendered


def _turned(table: Table) -> Table:
    """Return the table with a row for each quantity, for terminals narrower than its rows."""
    heading, *columns = table.columns
    first, *rest = zip(*table.rows, strict=True) if table.rows else [()]
    return Table(table.title, (heading, *first), [(name, *cells) for name, cells in zip(columns, rest, strict=True)])
