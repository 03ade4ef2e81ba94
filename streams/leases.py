"""Leases: what this process works on, renewed by one statement a second."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
import structlog

from schemas.errors import TransientError
from streams.tables.base import Row, Tables, Transaction

log = structlog.get_logger(__name__)

Key = tuple[str, int, str]
"""Job id, attempt, stage."""


@dataclass(slots=True)
class Lease:
    """A held attempt. Once it is ending, a failed renewal no longer stops it: its end decides."""

    on_lost: Callable[[], object]
    ending: bool = False
    lost: bool = False


class Leases:
    """Renews every lease of one owner, and tells the work whose lease is lost."""

    def __init__(self, tables: Tables, owner: str, lease_ms: int, renew_seconds: float) -> None:
        self.owner = owner
        self.lease_ms = lease_ms
        self._tables = tables
        self._renew_seconds = renew_seconds
        self._held: dict[Key, Lease] = {}

    def hold(self, key: Key, on_lost: Callable[[], object]) -> Lease:
        """Renew `key` from now on; `on_lost` is called once when that fails."""
        lease = self._held[key] = Lease(on_lost)
        return lease

    def release(self, key: Key) -> None:
        """Stop renewing."""
        self._held.pop(key, None)

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[asyncio.Task[None]]:
        """Renew as long as this is open; the task given ends early by a defect alone."""
        renewing = asyncio.create_task(self.run(), name="leases")
        try:
            yield renewing
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})

    async def run(self) -> None:
        """Renew until cancelled; trouble of the tables only delays."""
        while True:
            await asyncio.sleep(self._renew_seconds)
            try:
                await self.renew()
            except TransientError as error:
                log.warning("leases_not_renewed", error=error.message)

    async def renew(self) -> None:
        """Renew all that is held, and stop the work that is somebody else's by now."""
        before = dict(self._held)
        if not before:
            return
        rows = await self._tables.write(lambda tx: self._renew(tx, before))
        renewed = {(row["job_id"], row["attempt"], row["stage"]) for row in rows}
        for key, lease in before.items():
            if key in renewed or lease.ending or self._held.get(key) is not lease:
                continue
            log.warning("lease_lost", job=key[0], attempt=key[1], stage=key[2])
            lease.lost = True
            lease.on_lost()

    async def _renew(self, tx: Transaction, held: Iterable[Key]) -> list[Row]:
        # Only what is held: an attempt that was claimed here and that nobody works on must expire.
        job_ids = orjson.dumps([job_id for job_id, _, _ in held]).decode()
        return await tx.all(
            "attempts.renew", owner=self.owner, lease_ms=self.lease_ms, job_ids=job_ids
        )
