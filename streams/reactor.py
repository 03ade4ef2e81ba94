"""The ground of a reactor: claims, slots, leases, and one transaction at the end."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import structlog

from schemas import codec
from schemas.errors import Code, TransientError
from schemas.events import Body, DocumentUploaded, Event, ParseDeferred, ParseFailed
from schemas.ids import uuid7
from schemas.topics import Topic
from streams.backoff import Backoff
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit, bury
from streams.leases import Lease, Leases
from streams.metrics import PROCESSED, QUEUE_DEPTH, SLOTS, SLOTS_BUSY, Recorder
from streams.outbox import put_events
from streams.pace import Pace
from streams.processor import Batch, Reactor
from streams.tables.base import Tables, Transaction
from streams.tracing import bind_message

log = structlog.get_logger(__name__)


class ReactorGround:
    """Runs a reactor so that each attempt is worked on at most once."""

    def __init__(
        self,
        reactor: Reactor,
        tables: Tables,
        leases: Leases,
        cluster_id: str,
        limit: DeadLetterLimit,
        recorder: Recorder,
        *,
        slots: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name = reactor.name
        self.topics: tuple[Topic, ...] = reactor.topics
        self._reactor = reactor
        self._tables = tables
        self._leases = leases
        self._cluster_id = cluster_id
        self._limit = limit
        self._recorder = recorder
        self._slots = asyncio.Semaphore(slots)
        self._pace = Pace(slots)
        self._held: dict[asyncio.Task[None], asyncio.Future[Body]] = {}
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._draining = False
        self._busy = 0
        self._clock = clock
        recorder.set(SLOTS, slots, processor=self.name)

    async def positions(self, assigned: frozenset[Partition]) -> Mapping[Partition, int | None]:
        """Read on where the group left off: what was claimed is in the table."""
        del assigned
        return {}

    def room(self) -> int:
        """Take as many as can be claimed now."""
        return 0 if self._draining else self._pace.room(len(self._held))

    async def wait_for_room(self) -> None:
        """Return once a record can be claimed."""
        await self._has_room.wait()

    async def handle(self, batch: Batch) -> None:
        """Claim what the records offer, bury what is no offer, and begin the work."""
        records = [record for part in batch.values() for record in part]
        offers: list[tuple[Record, Event, DocumentUploaded]] = []
        broken: list[tuple[Record, str]] = []
        for record in records:
            try:
                event = codec.decode(record.value, record.headers)
            except codec.CodecError as error:
                broken.append((record, error.message))
                continue
            if isinstance(event.body, DocumentUploaded):
                offers.append((record, event, event.body))
            else:
                broken.append((record, f"{codec.type_name(event.body)} does not belong here"))
        await self._limit.stop_at_limit()
        claimed = await self._tables.write(lambda tx: self._claim(tx, offers, broken))
        for _ in broken:
            self._limit.note(dead=True)
        for record, event, offer in claimed:
            self._begin(record, event, offer)
        skipped = len(offers) - len(claimed)
        if skipped:
            self._recorder.add(PROCESSED, skipped, processor=self.name, outcome="skipped")

    async def drain(self, seconds: float) -> None:
        """Finish what is at work within the deadline; put off the rest."""
        self._draining = True
        if self._held:
            await asyncio.wait(self._held, timeout=seconds)
        for work in self._held.values():
            work.cancel()
        if self._held:
            await asyncio.wait(self._held, timeout=seconds)
        self._draining = False

    async def _claim(
        self,
        tx: Transaction,
        offers: Sequence[tuple[Record, Event, DocumentUploaded]],
        broken: Sequence[tuple[Record, str]],
    ) -> list[tuple[Record, Event, DocumentUploaded]]:
        claimed = []
        for record, event, offer in offers:
            changed = await tx.run(
                "attempts.claim",
                job_id=offer.job_id,
                attempt=offer.attempt,
                stage=self._reactor.stage,
                owner=self._leases.owner,
                lease_ms=self._leases.lease_ms,
            )
            if changed:
                claimed.append((record, event, offer))
        started = [
            self._event(self._reactor.started(offer, self._leases.owner), event)
            for _, event, offer in claimed
        ]
        await put_events(tx, started)
        for record, reason in broken:
            await bury(tx, self.name, self._cluster_id, record, Code.POISON_EVENT, reason)
        return claimed

    def _begin(self, record: Record, event: Event, offer: DocumentUploaded) -> None:
        work = asyncio.ensure_future(self._work(record, event, offer))
        serving = asyncio.create_task(self._serve(record, event, offer, work))
        self._held[serving] = work
        serving.add_done_callback(self._let_go)
        self._show()

    def _let_go(self, serving: asyncio.Task[None]) -> None:
        self._held.pop(serving)
        self._show()
        if not serving.cancelled() and serving.exception() is not None:
            log.error("attempt_not_ended", processor=self.name, exc_info=serving.exception())

    def _show(self) -> None:
        if self._pace.room(len(self._held)):
            self._has_room.set()
        else:
            self._has_room.clear()
        self._recorder.set(QUEUE_DEPTH, len(self._held) - self._busy, processor=self.name)

    async def _work(self, record: Record, event: Event, offer: DocumentUploaded) -> Body:
        bind_message(record, event, job=offer.job_id, attempt=offer.attempt)
        async with self._slots:
            if self._draining:
                raise asyncio.CancelledError
            self._busy += 1
            self._recorder.set(SLOTS_BUSY, self._busy, processor=self.name)
            started = self._clock()
            try:
                return await self._reactor.work(offer, event.traceparent)
            finally:
                self._pace.worked(self._clock() - started)
                self._busy -= 1
                self._recorder.set(SLOTS_BUSY, self._busy, processor=self.name)

    async def _serve(
        self, record: Record, event: Event, offer: DocumentUploaded, work: asyncio.Future[Body]
    ) -> None:
        bind_message(record, event, job=offer.job_id, attempt=offer.attempt)
        key = (offer.job_id, offer.attempt, self._reactor.stage)
        lease = self._leases.hold(key, work.cancel)
        try:
            await self._finish(record, event, offer, work, lease)
        finally:
            self._leases.release(key)

    async def _finish(
        self,
        record: Record,
        event: Event,
        offer: DocumentUploaded,
        work: asyncio.Future[Body],
        lease: Lease,
    ) -> None:
        await asyncio.wait([work])
        poison: str | None = None
        if work.cancelled():
            if lease.lost:
                self._recorder.add(PROCESSED, processor=self.name, outcome="thrown_away")
                await self._reactor.settle(offer, None, kept=False)
                return
            end: Body = ParseDeferred(offer.job_id, offer.tenant, offer.attempt, Code.SHUTDOWN)
        elif (error := work.exception()) is not None:
            log.error("work_failed", processor=self.name, exc_info=error)
            end, poison = _poisoned(offer), repr(error)
        else:
            end = work.result()
        lease.ending = True
        try:
            kept = await self._end(record, event, offer, end, poison)
        except Exception as error:
            log.exception("end_not_written", processor=self.name)
            end, poison = _poisoned(offer), repr(error)
            kept = await self._end(record, event, offer, end, poison)
        outcome = "applied" if kept else "thrown_away"
        self._recorder.add(PROCESSED, processor=self.name, outcome=outcome)
        self._limit.note(dead=poison is not None)
        await self._reactor.settle(offer, end, kept=kept)

    async def _end(
        self, record: Record, event: Event, offer: DocumentUploaded, end: Body, poison: str | None
    ) -> bool:
        said = self._event(end, event)

        async def unit(tx: Transaction) -> bool:
            mine = {
                "job_id": offer.job_id,
                "attempt": offer.attempt,
                "stage": self._reactor.stage,
                "owner": self._leases.owner,
            }
            if not await tx.run("attempts.end", **mine):
                # Said again after a commit whose answer was lost, it has ended well before.
                return await tx.one("attempts.ended_by", **mine) is not None
            await put_events(tx, [said])
            if poison is not None:
                await bury(tx, self.name, self._cluster_id, record, Code.POISON_EVENT, poison)
            return True

        return await Backoff().retry(lambda: self._tables.write(unit), TransientError)

    def _event(self, body: Body, cause: Event) -> Event:
        source = f"/parsewire/{self.name}/{self._leases.owner}"
        return Event(uuid7(), source, datetime.now(UTC), body, cause.traceparent)


def _poisoned(offer: DocumentUploaded) -> ParseFailed:
    why = "the event could not be handled; see the dead letters"
    return ParseFailed(
        offer.job_id, offer.tenant, offer.attempt, Code.POISON_EVENT, why, transient=False
    )
