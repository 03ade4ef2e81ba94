"""The verb `watch`: the moves of jobs as they happen, for people and for scripts."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import orjson
import typer

from schemas.codec import CodecError, decode
from schemas.events import Event, JobMoved
from schemas.topics import JOBS_MOVED
from services.cli.brokers import find_bus
from services.cli.job_verbs import written
from services.cli.reading import Reading
from services.cli.terminal import say
from services.config import load_settings
from streams.bus.base import Record


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose moves are shown; None: everybody's."""

    tenant: str | None = None
    job_id: str | None = None
    reference: str | None = None

    def matches(self, move: JobMoved) -> bool:
        """Tell whether a move is one of these."""
        return (
            self.tenant in (None, move.tenant)
            and self.job_id in (None, move.job_id)
            and self.reference in (None, move.reference)
        )


def watch(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's jobs.")] = None,
    job: Annotated[str | None, typer.Option(help="Only this job.", metavar="ID")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Only what its producer calls so.", metavar="TEXT")
    ] = None,
    *,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Begin with the oldest move that is kept.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON document a line, secret links too.")
    ] = False,
) -> None:
    """Show how jobs move, as it happens, until Ctrl-C."""
    settings = load_settings()
    show = shower(Wanted(tenant, job, reference), as_json if json else as_line)
    reading = Reading(
        lambda: find_bus(settings, "watch"), [JOBS_MOVED], show, from_start=from_start, trouble=say
    )
    try:
        asyncio.run(reading.run())
    except KeyboardInterrupt:
        # It is how one ends this.
        return


def shower(wanted: Wanted, write: Callable[[Event, JobMoved], str]) -> Callable[[Record], None]:
    """Give what prints a record at once, where it is a move that is wanted."""

    def show(record: Record) -> None:
        try:
            event = decode(record.value, record.headers)
        except CodecError as error:
            say(f"{record.partition.topic} {record.partition.number} {record.offset}: {error}")
            return
        if isinstance(event.body, JobMoved) and wanted.matches(event.body):
            sys.stdout.write(write(event, event.body) + "\n")
            sys.stdout.flush()

    return show


def as_line(event: Event, move: JobMoved) -> str:
    """Write a move for a person."""
    pages = None if move.pages is None else f"{move.pages} page{'s' * (move.pages != 1)}"
    name = move.reference and "".join(c if c.isprintable() else " " for c in move.reference)
    columns = (
        written(event.time),
        move.job_id,
        move.tenant,
        name,
        f"{move.from_state or '-'} -> {move.to_state}",
        move.parser,
        pages,
        move.code,
    )
    return "  ".join(column for column in columns if column)


def as_json(event: Event, move: JobMoved) -> str:
    """Write a move for a script: the event's id and time, and all that it says."""
    head = orjson.dumps({"id": event.id, "time": event.time}, option=orjson.OPT_UTC_Z)
    return (head[:-1] + b"," + orjson.dumps(move)[1:]).decode()
