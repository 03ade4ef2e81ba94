"""The verbs about services: how they do, and what operators change while the work goes on."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from schemas.service_bodies import ServiceBody, ServicesBody
from services.cli.job_verbs import Json
from services.cli.person import who
from services.cli.table_verbs import with_tables
from services.cli.terminal import CommandError, moment, print_json, print_table, say
from services.config import load_settings
from services.defaults import LLAMAPARSE, defaults_of
from services.service_report import read_services
from streams.settings import (
    BURST,
    MODE,
    PER_MINUTE,
    REFRESH_SECONDS,
    Defaults,
    change_setting,
    close_circuit,
)
from streams.tables.base import Row, Transaction

SERVICES = typer.Typer(help="Parsers: mode, health, circuit, rate.")

_DEFAULT = "default"

Service = Annotated[str, typer.Option(help="Whose rate or circuit.")]


@SERVICES.callback(invoke_without_command=True)
def show_services(context: typer.Context, *, json: Json = False) -> None:
    """Show the mode, and how each parser does."""
    if context.invoked_subcommand is None:
        _show(json=json)


@SERVICES.command("set")
def set_services(
    mode: Annotated[
        str | None, typer.Option(help="local, real, hybrid or mock; `default`: the environment's.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Calls a minute of all processes together, or `default`.")
    ] = None,
    burst: Annotated[
        str | None, typer.Option(help="Calls that may come at once, or `default`.")
    ] = None,
    service: Service = LLAMAPARSE,
    *,
    json: Json = False,
) -> None:
    """Change mode or limits; documents under way go on as they began."""
    asked = {MODE: mode, f"{service}.{PER_MINUTE}": rate, f"{service}.{BURST}": burst}
    changes = {name: value for name, value in asked.items() if value is not None}
    if not changes:
        raise CommandError("nothing to change: give --mode, --rate or --burst")
    defaults = defaults_of(load_settings())
    changed = with_tables(
        lambda tables: tables.write(lambda tx: _change(tx, defaults, changes, who()))
    )
    for name in changed:
        say(f"{name} = {changes[name]}; every process takes it within {REFRESH_SECONDS:g} s")
    if not changed:
        say("it was so already")
    _show(json=json)


@SERVICES.command("close-circuit")
def close(service: Service = LLAMAPARSE) -> None:
    """Let calls to a service through again, once its trouble is mended."""
    if service not in defaults_of(load_settings()).rates:
        raise CommandError(f"no service {service}: see `parsewire services`")
    if not with_tables(lambda tables: tables.write(lambda tx: close_circuit(tx, service, who()))):
        raise CommandError(f"the circuit of {service} is closed already")
    say(f"the circuit of {service} is closed")


@SERVICES.command("log")
def show_log(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    *,
    json: Json = False,
) -> None:
    """List what was changed, by whom and when, the newest first."""
    rows = with_tables(lambda tables: tables.read(lambda tx: tx.all("limits.changes", most=limit)))
    lines = [_line(row) for row in rows]
    if json:
        print_json({"changes": lines})
        return
    print_table(
        ("when", "who", "name", "from", "to"),
        ((_DEFAULT if value is None else value for value in line.values()) for line in lines),
    )


async def _change(
    tx: Transaction, defaults: Defaults, changes: Mapping[str, str], person: str
) -> list[str]:
    return [
        name
        for name, value in changes.items()
        if await change_setting(tx, defaults, name, None if value == _DEFAULT else value, person)
    ]


def _show(*, json: bool) -> None:
    defaults = defaults_of(load_settings())
    body: ServicesBody = with_tables(
        lambda tables: tables.read(lambda tx: read_services(tx, defaults, details=True))
    )
    if json:
        print_json(asdict(body))
        return
    changed = " (changed at run time)" if MODE in (body.changed or ()) else ""
    typer.echo(f"mode: {body.mode}{changed}")
    for name in body.ignored or ():
        say(f"the change of {name} is refused by this environment, and ignored")
    print_table(
        (
            "service",
            "kind",
            "health",
            "circuit",
            "until",
            "rate/min",
            "burst",
            "left",
            "last error",
        ),
        (_cells(service) for service in body.services),
    )


def _cells(service: ServiceBody) -> tuple[Any, ...]:
    details = service.details
    if details is None:
        return service.name, service.kind, service.health, None, None, None, None, None, None
    circuit, rate = details.circuit, details.rate
    waits = "a person acts" if circuit.state == "open" and circuit.until is None else circuit.until
    error = details.errors[0] if details.errors else None
    return (
        *(service.name, service.kind, service.health, circuit.state, waits),
        *(f"{rate.requests_per_minute:g}", rate.burst, f"{rate.left:g}"),
        f"{error.at:%Y-%m-%dT%H:%M:%SZ} {error.operation}: {error.code}" if error else None,
    )


def _line(row: Row) -> dict[str, Any]:
    return {
        "at": moment(row["changed_ms"]),
        "who": row["who"],
        "name": row["name"],
        "from": row["from_value"],
        "to": row["to_value"],
    }
