"""The demo's part in the cloud: what was submitted there, the webhooks of it, and the bill."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry

from schemas.http import JobBody
from schemas.job import State
from schemas.topics import WEBHOOKS_RECEIVED
from services.cli.tail import Seen, Tail
from services.cli.terminal import ERR, OUT, head, moment, print_table
from services.config import Settings
from services.wiring import open_tables
from streams.metrics import Recorder
from streams.tables.base import Row, Tables

_BILL_SECONDS = 20.0
_LOOK_SECONDS = 0.2
_TAIL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class CloudStory:
    """The jobs at LlamaParse by the file that they were made of, and the first one's webhooks."""

    url: str
    tier: str
    webhook_url: str
    vendor_jobs: Mapping[Path, Sequence[Row]]
    webhooks: Sequence[Seen]
    first: JobBody


async def cloud_story(
    settings: Settings, jobs: Mapping[Path, JobBody], first: JobBody, tail: Tail
) -> CloudStory | None:
    """Wait for the bills a while, and tell what went on there; None where nothing did."""
    async with open_tables(settings, Recorder(CollectorRegistry())) as tables:
        if not any([await _vendor_jobs(tables, job) for job in jobs.values()]):
            return None
        complete = [job for job in jobs.values() if job.state == State.COMPLETE]
        await _wait_for_bills(settings, tables, complete)
        found = {file: await _vendor_jobs(tables, job) for file, job in jobs.items()}
        of_first = [row["vendor_job_id"] for row in await _vendor_jobs(tables, first)]
    webhooks: Sequence[Seen] = ()
    if settings.webhook_url:
        webhooks = await tail.of_keys(WEBHOOKS_RECEIVED, of_first, within_seconds=_TAIL_SECONDS)
    tier = f"{settings.llamaparse_tier} {settings.llamaparse_version}"
    return CloudStory(settings.llamaparse_url, tier, settings.webhook_url, found, webhooks, first)


def tell_cloud(cloud: CloudStory) -> None:
    """Print what went on at LlamaParse."""
    head(f"Submitted to {cloud.url}, {cloud.tier}")
    print_table(
        ("file", "job there", "submitted", "settled", "outcome", "credits", "kept there"),
        (
            (
                *(file.name, row["vendor_job_id"]),
                *(moment(row["queued_ms"]), moment(row["settled_ms"])),
                *(row["outcome"] or "no bill yet", row["credits"]),
                "yes" if row["kept_there"] else "no",
            )
            for file, rows in cloud.vendor_jobs.items()
            for row in rows
        ),
    )
    rows = [row for found in cloud.vendor_jobs.values() for row in found]
    billed = sum(row["credits"] or 0 for row in rows)
    OUT.print(f"Billed: {billed:g} credits for {len(rows)} submissions.", highlight=False)
    if not cloud.webhook_url:
        OUT.print("No webhook URL: the results were polled for.", highlight=False)
        return
    head(f"Webhooks for {cloud.first.name}, verified at {cloud.webhook_url}/api/v1/webhooks/*")
    print_table(
        ("topic", "partition", "offset", "type", "key", "signed"),
        (
            (seen.topic, seen.partition, seen.offset, seen.type, seen.key, seen.note)
            for seen in cloud.webhooks
        ),
    )
    if not cloud.webhooks:
        ERR.print("no webhook was read from the topic in time; the sweep brought the result")


async def _wait_for_bills(settings: Settings, tables: Tables, jobs: Sequence[JobBody]) -> None:
    try:
        async with asyncio.timeout(_BILL_SECONDS):
            for job in jobs:
                while not await _paid(settings, tables, job):  # noqa: ASYNC110  # another process sets no event
                    await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        ERR.print(f"not every bill came within {_BILL_SECONDS:g} s; a worker goes on asking")


async def _paid(settings: Settings, tables: Tables, job: JobBody) -> bool:
    """Tell whether every bill of a job has come, and is in the ledger."""
    ids = orjson.dumps([job.job_id]).decode()
    held = await tables.read(lambda tx: tx.all("money.reservations_of", job_ids=ids))
    on_its_way = any(row["state"] == "reserved" for row in held)
    return not on_its_way and _settled(settings, await _vendor_jobs(tables, job))


def _settled(settings: Settings, rows: Sequence[Row]) -> bool:
    return all(
        row["settled_ms"] is not None and not (settings.llamaparse_delete and row["kept_there"])
        for row in rows
    )


async def _vendor_jobs(tables: Tables, job: JobBody) -> list[Row]:
    return await tables.read(lambda tx: tx.all("vendor.of_job", job_id=job.job_id))
