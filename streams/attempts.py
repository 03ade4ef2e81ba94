"""Attempts: claimed at most once, begun, intended and ended, with the events that say so."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from schemas.errors import Code, TransientError
from schemas.events import (
    Body,
    DocumentUploaded,
    Event,
    ParseDeferred,
    ParseFailed,
    ParseQueued,
)
from schemas.ids import uuid7
from schemas.money import Spend
from streams.backoff import Backoff
from streams.billing import release
from streams.bus.base import Record
from streams.dead_letters import bury
from streams.leases import Key
from streams.outbox import put_events
from streams.reservations import Payer, reserve
from streams.tables.base import Tables, Transaction


class AttemptLostError(Exception):
    """The attempt is somebody else's, or over: nothing more may be done for it."""


@dataclass(slots=True)
class Attempt:
    """An offer with the record that brought it, claimed or not yet."""

    record: Record
    event: Event
    offer: DocumentUploaded
    begun: Event | None = None
    """Says that the work has begun; None once that is in the outbox."""
    intended: bool = False
    """Money may be held for it, and spent."""


class Attempts:
    """What one owner writes about the attempts of one stage."""

    def __init__(
        self,
        processor: str,
        stage: str,
        owner: str,
        lease_ms: int,
        cluster_id: str,
        tables: Tables,
        zone: tzinfo,
    ) -> None:
        self._processor = processor
        self._stage = stage
        self._owner = owner
        self._lease_ms = lease_ms
        self._cluster_id = cluster_id
        self._tables = tables
        self._zone = zone

    def key(self, attempt: Attempt) -> Key:
        """Name the attempt among the leases."""
        return attempt.offer.job_id, attempt.offer.attempt, self._stage

    async def claim(
        self, offered: Sequence[Attempt], broken: Sequence[tuple[Record, str]]
    ) -> list[Attempt]:
        """Claim what nobody has, and bury the records that offer nothing."""

        async def unit(tx: Transaction) -> list[Attempt]:
            claimed = [
                attempt
                for attempt in offered
                if await tx.run("attempts.claim", lease_ms=self._lease_ms, **self._mine(attempt))
            ]
            for record, reason in broken:
                code = Code.POISON_EVENT
                await bury(tx, self._processor, self._cluster_id, record, code, reason)
            return claimed

        return await self._tables.write(unit)

    async def say_begun(self, attempt: Attempt) -> None:
        """Tell that the work has begun, unless its end has told it."""
        begun = attempt.begun
        if begun is not None:
            await self._tables.write(lambda tx: put_events(tx, [begun]))
            attempt.begun = None

    async def intend(self, attempt: Attempt, spend: Spend) -> float:
        """Hold the money, note that it may be spent, and give the seconds left of the lease.

        Raise BudgetSpentError, or AttemptLostError when the attempt is not ours to spend for:
        then nothing is held.
        """
        mine, began = self._mine(attempt), time.monotonic()
        offer = attempt.offer
        payer = Payer(offer.job_id, offer.tenant, offer.attempt, attempt.event.traceparent)

        async def unit(tx: Transaction) -> None:
            await reserve(tx, payer, spend, self._zone)
            lease = {"parser": spend.service, "lease_ms": self._lease_ms}
            if not await tx.run("attempts.intend", **lease, **mine):
                raise AttemptLostError(f"{offer.job_id} at {offer.attempt}")

        attempt.intended = True
        await self._tables.write(unit)
        return self._lease_ms / 1000 - (time.monotonic() - began)

    async def end(self, attempt: Attempt, end: Body, poison: str | None) -> bool:
        """Write the end once, and tell whether it was ours to write."""
        mine = self._mine(attempt)
        said = [attempt.begun] if attempt.begun is not None else []
        said.append(self.event(end, attempt.event))

        async def unit(tx: Transaction) -> bool:
            if not await tx.run("attempts.end", **mine):
                # Said again after a commit whose answer was lost, it has ended well before.
                return await tx.one("attempts.ended_by", **mine) is not None
            await put_events(tx, said)
            if attempt.intended and not isinstance(end, ParseQueued):
                await release(tx, mine["job_id"], mine["attempt"], _reason(end))
            if poison is not None:
                code = Code.POISON_EVENT
                await bury(tx, self._processor, self._cluster_id, attempt.record, code, poison)
            return True

        return await Backoff().retry(lambda: self._tables.write(unit), TransientError)

    async def bury(self, attempt: Attempt, reason: str) -> bool:
        """Keep the offer as a dead letter; the attempt stays as it is."""
        record, code = attempt.record, Code.POISON_EVENT

        async def unit(tx: Transaction) -> bool:
            return await bury(tx, self._processor, self._cluster_id, record, code, reason)

        return await Backoff().retry(lambda: self._tables.write(unit), TransientError)

    async def say(self, attempt: Attempt, body: Body) -> None:
        """Say what is true whether or not the attempt is still ours."""
        said = self.event(body, attempt.event)

        async def unit(tx: Transaction) -> None:
            await put_events(tx, [said])

        await Backoff().retry(lambda: self._tables.write(unit), TransientError)

    def event(self, body: Body, cause: Event) -> Event:
        """Put a body into an envelope of ours, on the trace of its cause."""
        source = f"/parsewire/{self._processor}/{self._owner}"
        return Event(uuid7(), source, datetime.now(UTC), body, cause.traceparent)

    def _mine(self, attempt: Attempt) -> dict[str, Any]:
        job_id, number, stage = self.key(attempt)
        return {"job_id": job_id, "attempt": number, "stage": stage, "owner": self._owner}


def _reason(end: Body) -> str:
    return end.code if isinstance(end, ParseFailed | ParseDeferred) else "served_here"
