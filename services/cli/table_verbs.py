"""The verbs straight on the tables: keys, dead letters, stopped processors."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import orjson
import typer
from prometheus_client import CollectorRegistry

from services import keys
from services.cli.job_verbs import Json
from services.cli.terminal import OUT, CommandError, moment, print_json, print_table, say
from services.config import load_settings
from services.roles import PROCESSORS
from services.wiring import open_tables
from streams.metrics import Recorder
from streams.tables.base import Row, Tables

T = TypeVar("T")

KEYS = typer.Typer(no_args_is_help=True, help="API keys.")
DEAD_LETTERS = typer.Typer(no_args_is_help=True, help="Records that could not be handled.")
PROCESSORS_APP = typer.Typer(no_args_is_help=True, help="Processors, and those that stopped.")

_NEWEST = 2**62


@KEYS.command("create")
def create_key(
    tenant: Annotated[str, typer.Option(help="Whose key it is.")] = "default",
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    *,
    operator: Annotated[
        bool, typer.Option("--operator", help="It shows the deployment, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a key; its token is shown this once."""
    role = keys.Role.OPERATOR if operator else keys.Role.TENANT
    key, token = with_tables(lambda tables: keys.create_key(tables, tenant, name, role))
    if json:
        found = {"id": key.id, "tenant": key.tenant, "name": key.name, "role": key.role.value}
        print_json(found | {"token": token})
        return
    typer.echo(token)
    say(f"{key.role} key {key.id} of tenant {key.tenant}; the token is kept nowhere else")


@KEYS.command("list")
def list_keys(*, json: Json = False) -> None:
    """List the keys, without their tokens."""
    found = [_key(row) for row in with_tables(keys.list_keys)]
    if json:
        print_json({"keys": found})
        return
    columns = ("id", "tenant", "name", "role", "created", "revoked")
    print_table(columns, (key.values() for key in found))


@KEYS.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Revoke a key at once."""
    if not with_tables(lambda tables: keys.revoke_key(tables, key_id)):
        raise CommandError(f"no key {key_id} in use: see `parsewire keys list`")
    say(f"revoked {key_id}")


@DEAD_LETTERS.command("list")
def list_dead_letters(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    *,
    json: Json = False,
) -> None:
    """List dead letters, the newest first."""
    rows = _rows("positions.letters", before=_NEWEST, most=limit)
    if json:
        print_json({"dead_letters": [_with_time(row, "created_ms", "created_at") for row in rows]})
        return
    print_table(
        ("id", "processor", "from", "key", "code", "reason", "when"),
        (
            (
                *(row["id"], row["processor"], _origin(row), row["key_text"], row["code"]),
                *(row["reason"], moment(row["created_ms"])),
            )
            for row in rows
        ),
    )


@DEAD_LETTERS.command("show")
def show_dead_letter(
    letter_id: Annotated[int, typer.Argument(metavar="ID")], *, json: Json = False
) -> None:
    """Show a dead letter whole: why, where from, when, and the untouched record."""
    rows = _rows("positions.letter", id=letter_id)
    if not rows:
        raise CommandError(f"no dead letter {letter_id}: see `parsewire dead-letters list`")
    letter = _letter(rows[0])
    if json:
        print_json(letter)
        return
    for name, value in letter.items():
        if name == "headers":
            for header, text in value:
                _print_line("header", f"{header}: {text}")
        else:
            _print_line(name, value)


@PROCESSORS_APP.command("list")
def list_processors(*, json: Json = False) -> None:
    """List the processors, and since when and why one is stopped."""
    stops = {row["processor"]: row for row in _rows("positions.stops")}
    found = [_processor(name, stops.get(name)) for name in sorted({*PROCESSORS, *stops})]
    if json:
        print_json({"processors": found})
        return
    columns = ("processor", "state", "since", "reason", "stopped version")
    print_table(columns, (processor.values() for processor in found))


@PROCESSORS_APP.command("resume")
def resume_processor(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Let a stopped processor go on."""
    if not with_tables(
        lambda tables: tables.write(lambda tx: tx.run("positions.resume", processor=name))
    ):
        raise CommandError(f"{name} is not stopped: see `parsewire processors list`")
    say(f"{name} goes on within seconds")


def with_tables(work: Callable[[Tables], Awaitable[T]]) -> T:
    """Do a piece of work on the deployment's tables."""

    async def working() -> T:
        settings = load_settings()
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with open_tables(settings, Recorder(CollectorRegistry())) as tables:
            return await work(tables)

    return asyncio.run(working())


def _rows(query: str, **values: Any) -> list[Row]:
    return with_tables(lambda tables: tables.read(lambda tx: tx.all(query, **values)))


def _key(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "tenant": row["tenant"],
        "name": row["name"],
        "role": row["role"],
        "created_at": moment(row["created_ms"]),
        "revoked_at": moment(row["revoked_ms"]),
    }


def _processor(name: str, stop: Row | None) -> dict[str, Any]:
    return {
        "processor": name,
        "state": "stopped" if stop else "not stopped",
        "since": moment(stop["stopped_ms"]) if stop else None,
        "reason": stop["reason"] if stop else None,
        "version": stop["version"] if stop else None,
    }


def _letter(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "reason": row["reason"],
        "code": row["code"],
        "processor": row["processor"],
        "when": moment(row["created_ms"]),
        "topic": row["topic"],
        "partition": row["partition"],
        "offset": row["record_offset"],
        "cluster": row["cluster_id"],
        "key": readable(row["key"]),
        "headers": [
            (name, None if raw is None else readable(bytes.fromhex(raw)))
            for name, raw in orjson.loads(row["headers"])
        ],
        "value": readable(row["value"]),
    }


def readable(raw: bytes | None) -> str | None:
    """Write bytes as the text that they are, or else as hex that says so."""
    if raw is None:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return f"hex:{raw.hex()}"
    printable = all(character.isprintable() or character in "\n\r\t" for character in text)
    return text if printable else f"hex:{raw.hex()}"


def _with_time(row: Row, field: str, name: str) -> dict[str, Any]:
    values = dict(row)
    values[name] = moment(values.pop(field))
    return values


def _origin(row: Row) -> str:
    return f"{row['topic']}[{row['partition']}]@{row['record_offset']}"


def _print_line(name: str, value: object) -> None:
    OUT.print(f"{name:<10} {value}", markup=False, highlight=False, soft_wrap=True)
