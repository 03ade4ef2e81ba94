"""The verbs about jobs: `jobs`, `job` and `result`, over HTTP."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from schemas.http import HistoryBody, JobBody, JobCost
from schemas.job import State
from schemas.money import dollars
from services.cli.client import GatewayClient, open_client
from services.cli.run_file import find_target
from services.cli.terminal import OUT, print_json, print_table, say
from services.config import load_settings

_PAGE = 200

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
JobId = Annotated[str, typer.Argument(help="The job's id.", metavar="ID")]


class Suffix(StrEnum):
    """The forms of a result."""

    MD = "md"
    TXT = "txt"
    JSON = "json"


def jobs(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 20,
    *,
    json: Json = False,
) -> None:
    """List jobs, the newest first."""
    found, more = _ask(lambda client: _newest(client, state and state.value, limit))
    if json:
        print_json({"jobs": found, "next": more})
        return
    print_table(
        ("job", "state", "attempt", "pages", "name", "created", "error"),
        (
            (
                *(job.job_id, job.state, job.attempt, job.pages, job.name),
                *(written(job.created_at), job.error and job.error.code),
            )
            for job in found
        ),
    )


def job(job_id: JobId, *, json: Json = False) -> None:
    """Show a job and its history."""

    async def both(client: GatewayClient) -> tuple[JobBody, HistoryBody]:
        return await client.job(job_id), await client.history(job_id)

    found, history = _ask(both)
    if json:
        print_json({"job": found, "history": history.events, "more": history.more})
        return
    print_job(found)
    print_history(history)


def result(
    job_id: JobId,
    suffix: Annotated[Suffix, typer.Option("--format", help="Its form.")] = Suffix.MD,
    out: Annotated[
        Path | None, typer.Option(help="Write it to this file, not to stdout.", dir_okay=False)
    ] = None,
    *,
    link: Annotated[
        bool, typer.Option("--link", help="Print a link that opens it without a key.")
    ] = False,
    seconds: Annotated[
        int | None, typer.Option(min=1, max=86_400, help="How long the link lives.")
    ] = None,
) -> None:
    """Print a job's result, or a link to it."""
    if link:
        made = _ask(lambda client: client.link(job_id, seconds))
        typer.echo(made.url)
        say(f"whoever has this link can read the result until {written(made.expires_at)}")
        return
    content = _ask(lambda client: client.result(job_id, suffix.value))
    if out is not None:
        out.write_bytes(content)
        return
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def print_job(found: JobBody) -> None:
    """Print what is known of a job, a line for each thing."""
    rows: list[tuple[str, object]] = [
        ("job", found.job_id),
        ("state", found.state),
        ("attempt", found.attempt),
        ("document", f"{found.name or '-'}  {found.media_type}  {found.size_bytes} bytes"),
        ("document id", found.document_id),
        ("created", written(found.created_at)),
        ("updated", written(found.updated_at)),
    ]
    rows += [("option", f"{name}: {value}") for name, value in found.options.items()]
    if found.parser:
        rows.append(("parser", f"{found.parser} {found.parser_version or ''}".rstrip()))
    if found.pages is not None:
        rows.append(("pages", found.pages))
    rows += [("warning", warning) for warning in found.warnings]
    if found.cost != JobCost():
        rows.append(("cost", _cost(found.cost)))
    if found.waits_until:
        rows.append(("waits until", written(found.waits_until)))
    if found.error:
        error = found.error
        rows.append(("error", f"{error.message or error.title} ({error.code})"))
        rows.append(("advice", error.advice))
    for name, value in rows:
        OUT.print(f"{name:<12} {value}", markup=False, highlight=False, soft_wrap=True)


def print_history(history: HistoryBody) -> None:
    """Print what happened to a job, with the milliseconds since its first event."""
    begin = history.events[0].at if history.events else None
    print_table(
        ("at", "+ms", "event", "attempt", "from", "to", "note"),
        (
            (
                *(written(line.at), _since(begin, line.at), line.type, line.attempt),
                *(line.from_state, line.to_state),
                " ".join(filter(None, (line.ignored and "ignored:", line.ignored, line.code))),
            )
            for line in history.events
        ),
        title="history",
    )
    if history.more:
        OUT.print("... and more", highlight=False)


async def _newest(
    client: GatewayClient, state: str | None, limit: int
) -> tuple[list[JobBody], str | None]:
    """Give the newest jobs, page after page, and where the next page would begin."""
    found: list[JobBody] = []
    before: str | None = None
    while len(found) < limit:
        size = min(_PAGE, limit - len(found))
        page = await client.jobs(state=state, limit=size, before=before)
        found += page.jobs
        before = page.next
        if before is None:
            break
    return found, before


def written(at: datetime) -> str:
    """Write a time in UTC, to the millisecond."""
    return at.strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


def _cost(cost: JobCost) -> str:
    held = f", {dollars(cost.reserved_micro_usd)} held" if cost.reserved_micro_usd else ""
    estimate = dollars(cost.estimated_micro_usd)
    return f"{dollars(cost.billed_micro_usd)} billed{held}; estimated at {estimate}"


def _since(begin: datetime | None, at: datetime) -> int | None:
    return None if begin is None else round((at - begin).total_seconds() * 1000)


def _ask(question: Callable[[GatewayClient], Awaitable[T]]) -> T:
    async def asking() -> T:
        async with open_client(find_target(load_settings())) as client:
            return await question(client)

    return asyncio.run(asking())
