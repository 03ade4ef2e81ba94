"""The terminal: what verbs print, and how their failures become a line and an exit code."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

OUT = Console()
ERR = Console(stderr=True, highlight=False)

FAILED = 1

_PIPE_WIDTH = 400


class CommandError(Exception):
    """A verb cannot do what it was asked to; the message is one line that says what to do."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def print_json(value: Any) -> None:
    """Print one JSON document."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())


def print_table(
    columns: Iterable[str],
    rows: Iterable[Iterable[Any]],
    *,
    title: str = "",
    figures: Collection[str] = (),
) -> None:
    """Print a table; None is an empty cell, a cell's text is no markup, `figures` stand right."""
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None)
    for number, column in enumerate(columns):
        right = column in figures
        table.add_column(
            column,
            overflow="fold",
            no_wrap=number == 0 or right,
            justify="right" if right else "left",
        )
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    # What reads a pipe looks for whole lines.
    console = OUT if OUT.is_terminal else Console(width=_PIPE_WIDTH)
    console.print(table)


def head(text: str) -> None:
    """Print a headline."""
    OUT.print(Text(f"\n{text}", style="bold"), highlight=False)


def moment(unix_ms: int | None) -> str | None:
    """Write a time as people and machines read it: UTC, to the millisecond."""
    if unix_ms is None:
        return None
    text = datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def say(line: str) -> None:
    """Print a line about the work itself to stderr, so that stdout keeps the result alone."""
    ERR.print(line, markup=False, soft_wrap=True)
