"""The ground of a reactor: claims, slots, leases, and one transaction at the end."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, tzinfo
from functools import partial

import structlog

from schemas import codec
from schemas.errors import Code, TransientError
from schemas.events import Body, DocumentUploaded, ParseDeferred, ParseFailed, ParseQueued
from schemas.topics import Topic
from streams.attempts import Attempt, AttemptLostError, Attempts
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit
from streams.leases import Lease, Leases
from streams.metrics import PROCESSED, QUEUE_DEPTH, SLOTS, SLOTS_BUSY, Recorder
from streams.pace import Pace
from streams.processor import Batch, Reactor
from streams.tables.base import Tables
from streams.tracing import bind_message

log = structlog.get_logger(__name__)

SAY_BEGUN_SECONDS = 0.05
"""Work that ends sooner tells its begin with its end: one round over the bus in place of two."""

Work = asyncio.Task[Body | None]


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
        zone: tzinfo = UTC,
        say_begun_seconds: float = SAY_BEGUN_SECONDS,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name = reactor.name
        self.topics: tuple[Topic, ...] = reactor.topics
        self._reactor = reactor
        self._leases = leases
        self._attempts = Attempts(
            reactor.name, reactor.stage, leases.owner, leases.lease_ms, cluster_id, tables, zone
        )
        self._limit = limit
        self._recorder = recorder
        self._slots = asyncio.Semaphore(slots)
        self._pace = Pace(slots)
        self._held: dict[asyncio.Task[None], Work] = {}
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._draining = False
        self._busy = 0
        self._say_begun_seconds = say_begun_seconds
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
        offered: list[Attempt] = []
        broken: list[tuple[Record, str]] = []
        for record in (record for part in batch.values() for record in part):
            try:
                event = codec.decode(record.value, record.headers)
            except codec.CodecError as error:
                broken.append((record, error.message))
                continue
            if isinstance(event.body, DocumentUploaded):
                begun = self._reactor.started(event.body, self._leases.owner)
                offered.append(
                    Attempt(record, event, event.body, self._attempts.event(begun, event))
                )
            else:
                broken.append((record, f"{codec.type_name(event.body)} does not belong here"))
        await self._limit.stop_at_limit()
        claimed = await self._attempts.claim(offered, broken)
        for _ in broken:
            self._limit.note(dead=True)
        for attempt in claimed:
            self._begin(attempt)
        if skipped := len(offered) - len(claimed):
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

    def _begin(self, attempt: Attempt) -> None:
        work = asyncio.create_task(self._work(attempt))
        serving = asyncio.create_task(self._serve(attempt, work))
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

    async def _work(self, attempt: Attempt) -> Body | None:
        self._bind(attempt)
        async with self._slots:
            if self._draining:
                raise _PutOffError
            self._busy += 1
            self._recorder.set(SLOTS_BUSY, self._busy, processor=self.name)
            started = self._clock()
            try:
                return await self._reactor.work(
                    attempt.offer,
                    attempt.event.traceparent,
                    partial(self._attempts.intend, attempt),
                )
            finally:
                self._pace.worked(self._clock() - started)
                self._busy -= 1
                self._recorder.set(SLOTS_BUSY, self._busy, processor=self.name)

    async def _serve(self, attempt: Attempt, work: Work) -> None:
        self._bind(attempt)
        key = self._attempts.key(attempt)
        lease = self._leases.hold(key, work.cancel)
        try:
            await self._wait(attempt, work)
            await self._finish(attempt, work, lease)
        finally:
            self._leases.release(key)

    async def _wait(self, attempt: Attempt, work: Work) -> None:
        """Wait for the work's end; where it does not come at once, tell that the work has begun."""
        ended, _ = await asyncio.wait([work], timeout=self._say_begun_seconds)
        if ended:
            return
        try:
            await self._attempts.say_begun(attempt)
        except TransientError as error:
            # Information only: nobody waits for it.
            log.info("begin_not_said", processor=self.name, error=error.message)
        await asyncio.wait([work])

    async def _finish(self, attempt: Attempt, work: Work, lease: Lease) -> None:
        offer, poison = attempt.offer, None
        end: Body | None
        error = _error_of(work)
        put_off = isinstance(error, _PutOffError)
        if isinstance(error, AttemptLostError) or (put_off and lease.lost):
            self._recorder.add(PROCESSED, processor=self.name, outcome="thrown_away")
            await self._reactor.settle(offer, None, kept=False)
            return
        if put_off:
            end = ParseDeferred(offer.job_id, offer.tenant, offer.attempt, Code.SHUTDOWN)
        elif error is not None:
            log.error("work_failed", processor=self.name, exc_info=error)
            if attempt.intended:
                await self._leave_to_the_sweep(attempt, error)
                return
            end, poison = _poisoned(offer), repr(error)
        else:
            end = work.result()
        if end is None:
            self._recorder.add(PROCESSED, processor=self.name, outcome="unresolved")
            return
        lease.ending = True
        try:
            kept = await self._attempts.end(attempt, end, poison)
        except Exception as error:
            log.exception("end_not_written", processor=self.name)
            if attempt.intended:
                await self._leave_to_the_sweep(attempt, error)
                return
            end, poison = _poisoned(offer), repr(error)
            kept = await self._attempts.end(attempt, end, poison)
        outcome = "applied" if kept else "thrown_away"
        self._recorder.add(PROCESSED, processor=self.name, outcome=outcome)
        self._limit.note(dead=poison is not None)
        if not kept and isinstance(end, ParseQueued):
            # The job elsewhere is there all the same, and somebody has to stop it and its bill.
            await self._attempts.say(attempt, end)
        await self._reactor.settle(offer, end, kept=kept)

    async def _leave_to_the_sweep(self, attempt: Attempt, error: BaseException) -> None:
        """End nothing: a job elsewhere may be there, and has to be asked for first."""
        self._limit.note(dead=await self._attempts.bury(attempt, repr(error)))
        self._recorder.add(PROCESSED, processor=self.name, outcome="unresolved")

    def _bind(self, attempt: Attempt) -> None:
        offer = attempt.offer
        bind_message(attempt.record, attempt.event, job=offer.job_id, attempt=offer.attempt)


class _PutOffError(Exception):
    """The work was cut off by its ground, or not begun: nobody's fault, somebody else's turn."""


def _error_of(work: Work) -> BaseException | None:
    """Tell why the work has no result; what was cancelled by nobody here has a defect."""
    if not work.cancelled():
        return work.exception()
    if work.cancelling():
        return _PutOffError()
    return asyncio.CancelledError("nobody asked for it")


def _poisoned(offer: DocumentUploaded) -> ParseFailed:
    why = "the event could not be handled; see the dead letters"
    return ParseFailed(
        offer.job_id, offer.tenant, offer.attempt, Code.POISON_EVENT, why, transient=False
    )
