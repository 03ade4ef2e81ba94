"""Random interleavings of a worker's life, its messages and time: no order breaks a promise."""

import asyncio
import itertools
import tempfile
from collections import deque
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemas import events as ev
from schemas.job import RETRYABLE, UNFINISHED, Job
from schemas.topics import DOCUMENTS_UPLOADED, JOBS_EVENTS, JOBS_MOVED, Topic
from streams.bus.base import Partition
from streams.dead_letters import DeadLetterLimit
from streams.fold import FoldGround
from streams.job_state import JobState
from streams.leases import Leases
from streams.outbox import put_events
from streams.processor import Intend
from streams.reactor import ReactorGround
from streams.sweeper import Sweeper
from streams.tables.base import OutboxRow, Row, Transaction
from tests.harness import TIMINGS, Desk, decode_row, event_of, open_desk, record_of

T = TypeVar("T")

WORKERS = 2
MOST_JOBS = 3
CALM_ROUNDS = 400

OFFERS = Partition(DOCUMENTS_UPLOADED.name, 0)
EVENTS = Partition(JOBS_EVENTS.name, 0)
ENDS = {"ParseSucceeded", "ParseFailed", "ParseDeferred"}
OUTCOMES = ("succeeded", "succeeded", "transient", "permanent", "deferred", "bug")


class Gated:
    """A reactor whose work ends when and how the test says; it notes what began."""

    name = "parse"
    stage = "parse"
    topics: tuple[Topic, ...] = (DOCUMENTS_UPLOADED,)

    def __init__(self, began: list[tuple[str, int]]) -> None:
        self.gates: dict[tuple[str, int], asyncio.Future[str]] = {}
        self.calm = False
        self._began = began

    def started(self, offer: ev.DocumentUploaded, worker: str) -> ev.Body:
        return ev.ParseStarted(offer.job_id, offer.tenant, offer.attempt, worker)

    async def work(
        self, offer: ev.DocumentUploaded, traceparent: str | None, intend: Intend
    ) -> ev.Body:
        del intend
        assert traceparent is not None
        key = (offer.job_id, offer.attempt)
        self._began.append(key)
        if self.calm:
            return end_of(offer, "succeeded")
        gate = self.gates[key] = asyncio.get_running_loop().create_future()
        try:
            return end_of(offer, await gate)
        finally:
            del self.gates[key]

    async def settle(self, offer: ev.DocumentUploaded, end: ev.Body | None, *, kept: bool) -> None:
        assert end is not None or not kept, offer


def end_of(offer: ev.DocumentUploaded, outcome: str) -> ev.Body:
    job = (offer.job_id, offer.tenant, offer.attempt)
    if outcome == "bug":
        raise ZeroDivisionError
    if outcome == "succeeded":
        key = f"{offer.tenant}/{offer.job_id}/{offer.attempt}/result"
        return ev.ParseSucceeded(*job, ev.BlobRef(key, "b" * 64, 5), "p", "1", 1)
    if outcome == "deferred":
        return ev.ParseDeferred(*job, "storage_unavailable")
    return ev.ParseFailed(*job, "parse_timeout", "m", transient=outcome == "transient")


class Worker:
    """A worker of one name; after a crash another takes its place."""

    def __init__(self, desk: Desk, name: str, began: list[tuple[str, int]]) -> None:
        self.reactor = Gated(began)
        self.leases = Leases(desk.tables, name, TIMINGS.lease_ms, renew_seconds=1)
        limit = DeadLetterLimit("parse", "1", desk.tables, desk.recorder, most=10_000)
        self.ground = ReactorGround(
            self.reactor,
            desk.tables,
            self.leases,
            "c",
            limit,
            desk.recorder,
            slots=1,
            # By the machine's clock it would be said at moments that no seed repeats.
            say_begun_seconds=3_600,
        )

    async def rest(self) -> None:
        """Let go on what can: everything but work that waits at its gate."""
        for _ in range(5):
            await asyncio.sleep(0)
        while ended := [serving for serving, work in self.ground._held.items() if work.done()]:
            await asyncio.wait(ended, timeout=5)
            for _ in range(5):
                await asyncio.sleep(0)

    async def crash(self) -> None:
        """Drop everything where it stands, as SIGKILL does."""
        held: set[asyncio.Future[Any]] = {*self.ground._held, *self.ground._held.values()}
        for task in held:
            task.cancel()
        if held:
            await asyncio.wait(held, timeout=5)


class Interleavings(RuleBasedStateMachine):
    """Jobs, workers, one job_state fold and a sweeper; messages arrive in any order, or twice."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.began: list[tuple[str, int]] = []
        self.sent: list[OutboxRow] = []
        self.fresh: deque[OutboxRow] = deque()
        self.offsets = itertools.count()
        self.names = itertools.count()
        self.ids: list[str] = []

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    @initialize()
    def begin(self) -> None:
        async def opened() -> None:
            folder = self.stack.enter_context(tempfile.TemporaryDirectory())
            self.desk = await self.stack.enter_async_context(open_desk(Path(folder)))
            self.workers = [self.new_worker() for _ in range(WORKERS)]
            self.sweeper = Sweeper(self.desk.tables, TIMINGS, self.desk.recorder, every_seconds=1)
            limit = DeadLetterLimit("job_state", "1", self.desk.tables, self.desk.recorder)
            fold = JobState(TIMINGS, chance=lambda: 0.5)
            self.fold = FoldGround(fold, self.desk.tables, "c", limit, self.desk.recorder)
            await self.fold.positions(frozenset({EVENTS}))

        self.run(opened())

    def new_worker(self) -> Worker:
        return Worker(self.desk, f"w{next(self.names)}", self.began)

    def collect(self) -> None:
        """Take what was announced: it is on its way from now on, and may come again for ever."""
        # Nobody here reads jobs.moved.
        read = [row for row in self.desk.announced if row.topic != JOBS_MOVED.name]
        self.sent += read
        self.fresh += read
        self.desk.announced.clear()

    async def arrive(self, row: OutboxRow, worker: Worker) -> None:
        """Let a message arrive once; what no topic's reader wants has arrived too."""
        event = decode_row(row)
        if row.topic == JOBS_EVENTS.name:
            await self.fold.handle({EVENTS: [record_of(event, row.topic, next(self.offsets))]})
            return
        ids = orjson.dumps([row.event_id]).decode()
        await self.desk.tables.write(lambda tx: tx.run("outbox.remove_sent", ids=ids))
        if row.topic == DOCUMENTS_UPLOADED.name and worker.ground.room():
            await worker.ground.handle({OFFERS: [record_of(event, row.topic, next(self.offsets))]})

    async def rest(self) -> None:
        for worker in self.workers:
            await worker.rest()
        self.collect()

    @rule()
    def upload(self) -> None:
        async def uploaded() -> None:
            if len(self.ids) < MOST_JOBS:
                self.ids.append((await self.desk.upload(len(self.ids) + 1)).job.id)
            await self.rest()

        self.run(uploaded())

    @rule(to=st.integers(0, WORKERS - 1), messages=st.integers(1, 6))
    def deliver_in_order(self, to: int, messages: int) -> None:
        rows = [self.fresh.popleft() for _ in range(min(messages, len(self.fresh)))]
        self.run(self.deliver(rows, to))

    @rule()
    def overtake(self) -> None:
        """Let every message on its way overtake the oldest one."""
        self.fresh.rotate(-1)

    @rule(to=st.integers(0, WORKERS - 1), data=st.data())
    def deliver_any(self, to: int, data: st.DataObject) -> None:
        """Deliver a message out of its order, or once more."""
        if self.sent:
            self.run(self.deliver([data.draw(st.sampled_from(self.sent))], to))

    async def deliver(self, rows: list[OutboxRow], to: int) -> None:
        for row in rows:
            await self.arrive(row, self.workers[to])
            await self.rest()

    @rule(last=st.booleans(), outcome=st.sampled_from(OUTCOMES))
    def finish(self, *, last: bool, outcome: str) -> None:
        async def finished() -> None:
            gates = [gate for w in self.workers for gate in w.reactor.gates.values()]
            if gates:
                gates[-last].set_result(outcome)
            await self.rest()

        self.run(finished())

    @rule(who=st.integers(0, WORKERS - 1))
    def renew(self, who: int) -> None:
        async def renewed() -> None:
            await self.workers[who].leases.renew()
            await self.rest()

        self.run(renewed())

    @rule(who=st.integers(0, WORKERS - 1), clean=st.booleans())
    def restart(self, who: int, *, clean: bool) -> None:
        async def restarted() -> None:
            worker = self.workers[who]
            if clean:
                await worker.ground.drain(0)
                await worker.rest()
            await worker.crash()
            self.workers[who] = self.new_worker()
            await self.rest()

        self.run(restarted())

    @rule(milliseconds=st.sampled_from((200, 2_000, 16_000, 40_000)))
    def sweep(self, milliseconds: int) -> None:
        async def swept() -> None:
            for _ in range(8):
                self.desk.clock.pass_ms(milliseconds // 8)
                await self.sweeper.tick()
            await self.rest()

        self.run(swept())

    @rule(data=st.data(), overtakes=st.booleans())
    def ask(self, data: st.DataObject, *, overtakes: bool) -> None:
        """Ask for a cancel or a retry, whichever the gateway would let one ask for."""
        if not self.ids:
            return
        job_id = data.draw(st.sampled_from(self.ids))

        async def asked() -> None:
            job = await self.desk.job(job_id)
            if job.state in UNFINISHED | RETRYABLE:
                kind = ev.CancelRequested if job.state in UNFINISHED else ev.RetryRequested
                said = event_of(kind(job.id, job.tenant, job.attempt))
                await self.desk.tables.write(lambda tx: put_events(tx, [said]))
                self.collect()
                if overtakes:
                    await self.arrive(self.fresh.pop(), self.workers[0])
            await self.rest()

        self.run(asked())

    @invariant()
    def promises_hold(self) -> None:
        if self.ids:
            self.run(self.check())

    async def check(self) -> None:
        assert await self.desk.untimed() == 0
        assert len(self.began) == len(set(self.began)), "an attempt was worked on twice"
        jobs = [await self.desk.job(job_id) for job_id in self.ids]
        counted = {row["state"]: row["jobs"] for row in await self.desk.rows("jobs.counts")}
        for state in {job.state.value for job in jobs} | set(counted):
            assert counted.get(state, 0) == sum(job.state == state for job in jobs)
        for job in jobs:
            await self.check_job(job)

    async def check_job(self, job: Job) -> None:
        lines = await self.desk.rows("jobs.history", job_id=job.id, most=1_000)
        moved = [row for row in lines if row["to_state"] is not None]
        ended = [row for row in moved if row["type"] in ENDS and row["to_state"] != "complete"]
        ends = [row["attempt"] for row in ended]
        assert len(ends) == len(set(ends)), "two ends were applied to one attempt"
        assert [row["from_state"] for row in moved[1:]] == [row["to_state"] for row in moved[:-1]]
        assert moved[-1]["to_state"] == job.state
        if job.result is not None:
            assert job.result.key == f"acme/{job.id}/{job.attempt}/result"

    def teardown(self) -> None:
        try:
            self.run(self.calm_down())
            self.run(self.stack.aclose())
        finally:
            self.runner.close()

    async def calm_down(self) -> None:
        """Let the world be kind: all is delivered, nobody dies; then every job must finish."""
        for worker in self.workers:
            worker.reactor.calm = True
            for gate in worker.reactor.gates.values():
                gate.set_result("succeeded")
        await self.rest()
        for number in range(CALM_ROUNDS):
            await self.deliver_what_is_due()
            jobs = [await self.desk.job(job_id) for job_id in self.ids]
            if not any(job.state in UNFINISHED for job in jobs):
                break
            self.desk.clock.pass_ms(1_000 if number < CALM_ROUNDS // 2 else 60_000)
            for worker in self.workers:
                await worker.leases.renew()
            await self.sweeper.tick()
            await self.rest()
        else:
            raise AssertionError(f"unfinished for ever: {jobs}")
        await self.check()
        for worker in self.workers:
            await worker.crash()

    async def deliver_what_is_due(self) -> None:
        """Send what waits in the outbox, as any relay does."""

        async def take(tx: Transaction) -> list[Row]:
            return await tx.all("outbox.take_due", takeover_ms=0, most=1_000)

        for row in await self.desk.tables.write(take):
            sent = {field: row[field] for field in OutboxRow.__struct_fields__}
            await self.arrive(OutboxRow(**sent), self.workers[0])
            await self.rest()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
