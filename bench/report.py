"""The report: a table for people, `build/bench.json` for machines."""

from collections.abc import Sequence
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from bench.figures import Figure


def print_table(console: Console, figures: Sequence[Figure]) -> None:
    """Print every figure, the missed goals in red, and how many were missed."""
    table = Table(title="Parsewire: speeds within one run")
    table.add_column("what", overflow="fold")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("goal", justify="right")
    table.add_column("met")
    for figure in figures:
        met = "" if figure.goal is None else "yes" if figure.met else "[bold red]MISSED[/]"
        table.add_row(figure.name, f"{figure.value:,.4g}", figure.unit, figure.goal or "", met)
    console.print(table)
    goals = [figure for figure in figures if figure.goal is not None]
    missed = [figure.name for figure in goals if not figure.met]
    console.print(f"{len(goals) - len(missed)} of {len(goals)} goals met")
    for name in missed:
        console.print(f"[bold red]missed:[/] {name}")


def write_json(path: Path, figures: Sequence[Figure]) -> None:
    """Write the list of `{name, value, unit, goal, met}`."""
    rows = [
        {"name": f.name, "value": f.value, "unit": f.unit, "goal": f.goal, "met": f.met}
        for f in figures
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n")
