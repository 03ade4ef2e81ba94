"""An end event that its fold buries: the job fails all the same, and nothing is sent for ever."""

from collections.abc import AsyncIterator, Sequence

import pytest_asyncio

from schemas import events as ev
from schemas.events import Event
from schemas.job import State
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit
from streams.fold import FoldGround
from streams.job_state import JobState
from streams.outbox import put_events
from streams.sweeper import Sweeper
from streams.tables.base import Transaction
from tests.harness import NOW, TIMINGS, Desk, event_of, open_memory_desk, record_of

P0 = Partition("jobs.events", 0)
RESULT = ev.BlobRef("acme/j/1/result", "b" * 64, 5)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


class Choking(JobState):
    """A fold with a bug: it cannot take a success."""

    async def apply(self, tx: Transaction, events: Sequence[Event]) -> None:
        await super().apply(tx, events)
        if any(isinstance(event.body, ev.ParseSucceeded) for event in events):
            raise ZeroDivisionError("bug")


async def fold(desk: Desk, *records: Record) -> None:
    limit = DeadLetterLimit("job_state", "1", desk.tables, desk.recorder)
    ground = FoldGround(Choking(TIMINGS), desk.tables, "c", limit, desk.recorder)
    await ground.positions(frozenset({P0}))
    await ground.handle({P0: list(records)})


async def ended(desk: Desk) -> tuple[str, Event]:
    """Give a job whose attempt has ended, with its end event in the outbox."""
    job = (await desk.upload()).job
    end = event_of(ev.ParseSucceeded(job.id, "acme", 1, RESULT, "liteparse", "2", 3))
    named = {"job_id": job.id, "attempt": 1, "stage": "parse", "owner": "w"}

    async def unit(tx: Transaction) -> int:
        await tx.run("attempts.claim", lease_ms=15_000, **named)
        await put_events(tx, [end])
        return await tx.run("attempts.end", **named)

    assert await desk.tables.write(unit) == 1
    return job.id, end


async def waiting(desk: Desk) -> set[str]:
    """Give the ids of the events for jobs.events that are to be sent again."""
    desk.clock.pass_ms(6_000)
    rows = await desk.tables.write(lambda tx: tx.all("outbox.take_due", takeover_ms=0, most=100))
    return {row["event_id"] for row in rows if row["topic"] == "jobs.events"}


async def swept(desk: Desk) -> list[ev.Body]:
    """Say what is said within a minute."""
    sweeper = Sweeper(desk.tables, TIMINGS, desk.recorder, every_seconds=1)
    desk.said()
    for _ in range(30):
        desk.clock.pass_ms(2_000)
        await sweeper.tick()
    return [event.body for event in desk.said()]


async def test_a_job_whose_end_is_a_dead_letter_fails_for_good(desk: Desk) -> None:
    job_id, end = await ended(desk)
    await fold(desk, record_of(end, "jobs.events"))
    (failed,) = await swept(desk)
    assert isinstance(failed, ev.ParseFailed)
    assert (failed.code, failed.transient, failed.attempt) == ("poison_event", False, 1)
    assert "ZeroDivisionError" in failed.message
    await fold(desk, record_of(event_of(failed), "jobs.events", 1))
    after = await desk.job(job_id)
    assert (after.state, after.error_code) == (State.FAILED_PARSE, "poison_event")
    assert await swept(desk) == []


async def test_a_buried_event_is_not_sent_again(desk: Desk) -> None:
    _, end = await ended(desk)
    assert await waiting(desk) == {end.id}
    await fold(desk, record_of(end, "jobs.events"))
    assert await waiting(desk) == set()


async def test_an_undecodable_one_is_known_by_its_header(desk: Desk) -> None:
    _, end = await ended(desk)
    whole = record_of(end, "jobs.events")
    broken = Record(P0, 0, whole.key, b"{", whole.headers, NOW)
    await fold(desk, broken)
    assert await waiting(desk) == set()
    (failed,) = await swept(desk)
    assert isinstance(failed, ev.ParseFailed)
    assert failed.code == "poison_event"


async def test_an_end_that_is_still_on_its_way_is_waited_for(desk: Desk) -> None:
    """Another event of the job was buried, and an unsent end may yet arrive."""
    job_id, end = await ended(desk)
    stray = event_of(ev.ParseSucceeded(job_id, "acme", 1, RESULT, "other", "2", 3))
    await fold(desk, record_of(stray, "jobs.events"))
    assert await waiting(desk) == {end.id}
    assert await swept(desk) == []
