"""The janitor: removes blobs that no row names, and those of deleted jobs."""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import chain

import orjson
import structlog

from schemas.errors import TransientError
from schemas.ids import is_uuid
from schemas.job import OPEN, State
from schemas.topics import WEBHOOKS_RECEIVED
from streams.blobs.base import Blobs, Stored, is_webhook_key, result_keys, source_key
from streams.tables.base import Row, Tables, Transaction

log = structlog.get_logger(__name__)

ORPHAN_SECONDS = 24 * 3600
"""Younger blobs may belong to an upload that has not reached its row yet."""

WEBHOOK_SECONDS = WEBHOOKS_RECEIVED.retention_hours * 3600
"""A webhook's body is named by its record alone, and goes when that does."""

_MOST = 500


class Janitor:
    """Keeps the blob store to what the tables name."""

    def __init__(
        self,
        tables: Tables,
        blobs: Blobs,
        *,
        every_seconds: float = 3600.0,
        orphan_seconds: float = ORPHAN_SECONDS,
        webhook_seconds: float = WEBHOOK_SECONDS,
        erase_every_seconds: float = 1.0,
    ) -> None:
        self._tables = tables
        self._blobs = blobs
        self._every_seconds = every_seconds
        self._orphan_seconds = orphan_seconds
        self._webhook_seconds = webhook_seconds
        self._erase_every_seconds = erase_every_seconds

    async def run(self) -> None:
        """Erase and clean until cancelled."""
        loop = asyncio.get_running_loop()
        clean_at = loop.time() + self._every_seconds
        while True:
            await asyncio.sleep(self._erase_every_seconds)
            try:
                await self.erase_deleted()
                if loop.time() >= clean_at:
                    clean_at = loop.time() + self._every_seconds
                    await self.remove_orphans()
            except TransientError as error:
                log.warning("janitor_waits", error=error.message)

    async def erase_deleted(self) -> int:
        """Remove every blob of the jobs whose `erase` timer is due, and tell how many jobs."""
        dues = await self._tables.read(lambda tx: tx.all("jobs.due_erasures", most=_MOST))
        for due in dues:
            for key in await self._keys_of(due):
                await self._blobs.delete(key)
            await self._tables.write(partial(_forget_timer, job_id=due["job_id"]))
        return len(dues)

    async def _keys_of(self, due: Row) -> list[str]:
        attempts = range(1, due["attempt"] + 1)
        results = (result_keys(due["tenant"], due["job_id"], attempt) for attempt in attempts)
        return [source_key(due["tenant"], due["job_id"]), *chain.from_iterable(results)]

    async def remove_orphans(self) -> int:
        """Remove the old blobs that no row names, and tell how many."""
        removed = 0
        group: list[Stored] = []
        async for stored in self._blobs.list_all():
            webhook = is_webhook_key(stored.key)
            if stored.age_seconds < (self._webhook_seconds if webhook else self._orphan_seconds):
                continue
            group.append(stored)
            if len(group) == _MOST:
                removed += await self._remove_unnamed(group)
                group = []
        removed += await self._remove_unnamed(group)
        log.info("orphans_removed", blobs=removed)
        return removed

    async def _remove_unnamed(self, group: Sequence[Stored]) -> int:
        ids = {part for stored in group for part in stored.key.split("/") if is_uuid(part)}

        async def named(tx: Transaction) -> list[Row]:
            return await tx.all("jobs.named_blobs", ids=orjson.dumps(sorted(ids)).decode())

        keep: set[str] = set()
        for row in await self._tables.read(named):
            if row["state"] == State.DELETED:
                continue
            keep |= {row["source_blob"], row["result_blob"]}
            if row["state"] in OPEN:
                # A result of the attempt under way is kept before its row names it.
                keep |= set(result_keys(row["tenant"], row["id"], row["attempt"]))
        unnamed = [stored.key for stored in group if stored.key not in keep]
        for key in unnamed:
            await self._blobs.delete(key)
        return len(unnamed)


async def _forget_timer(tx: Transaction, job_id: str) -> int:
    return await tx.run("jobs.remove_timer", job_id=job_id, kind="erase")
