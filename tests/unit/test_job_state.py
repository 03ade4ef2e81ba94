"""The job_state fold on its ground: effects once, positions with them, dead letters."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.events import Event
from schemas.job import State
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit
from streams.fold import FoldGround
from streams.job_state import JobState
from streams.processor import PositionLostError, ProcessorStoppedError
from streams.tables.base import Transaction
from tests.harness import NOW, TIMINGS, Desk, event_of, fold_events, open_memory_desk, record_of

P0 = Partition("jobs.events", 0)
RESULT = ev.BlobRef("acme/j/1/result", "b" * 64, 5)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


def ground_of(desk: Desk, fold: JobState | None = None, version: str = "1") -> FoldGround:
    limit = DeadLetterLimit("job_state", version, desk.tables, desk.recorder, most=3, window=10)
    fold = fold or JobState(TIMINGS, chance=lambda: 0.5)
    return FoldGround(fold, desk.tables, "cluster", limit, desk.recorder)


def batch(*events: Event, start: int = 0) -> dict[Partition, Sequence[Record]]:
    return {P0: [record_of(e, "jobs.events", start + n) for n, e in enumerate(events)]}


async def ready(desk: Desk, fold: JobState | None = None) -> FoldGround:
    ground = ground_of(desk, fold)
    await ground.positions(frozenset({P0}))
    return ground


def ended(job_id: str, attempt: int = 1) -> ev.ParseSucceeded:
    return ev.ParseSucceeded(job_id, "acme", attempt, RESULT, "liteparse", "2", 3)


async def test_a_job_goes_its_way(desk: Desk) -> None:
    job = (await desk.upload()).job
    ground = await ready(desk)
    desk.said()
    start = event_of(ev.ParseStarted(job.id, "acme", 1, "w"))
    await ground.handle(batch(start, event_of(ended(job.id))))
    after = await desk.job(job.id)
    assert (after.state, after.pages, after.result) == (State.COMPLETE, 3, RESULT)
    assert await desk.history(job.id) == [
        ("DocumentUploaded", None, "uploaded"),
        ("ParseStarted", "uploaded", "parsing"),
        ("ParseSucceeded", "parsing", "parsed"),
        ("ParseSucceeded", "parsed", "complete"),
    ]
    moves = [
        (e.body.from_state, e.body.to_state) for e in desk.said() if isinstance(e.body, ev.JobMoved)
    ]
    assert moves == [("uploaded", "parsing"), ("parsing", "parsed"), ("parsed", "complete")]
    assert await desk.untimed() == 0
    assert await desk.rows("jobs.due_steps", most=10) == []


async def test_the_position_is_stored_with_the_effects(desk: Desk) -> None:
    job = (await desk.upload()).job
    ground = await ready(desk)
    await ground.handle(batch(event_of(ended(job.id)), start=41))
    assert await ground_of(desk).positions(frozenset({P0})) == {P0: 42}


async def test_a_record_handed_out_twice_counts_once(desk: Desk) -> None:
    job = (await desk.upload()).job
    ground = await ready(desk)
    records = batch(event_of(ended(job.id)))
    await ground.handle(records)
    await ground.handle(records)
    assert len(await desk.history(job.id)) == 3


async def test_an_event_doubled_in_the_log_counts_once(desk: Desk) -> None:
    job = (await desk.upload()).job
    ground = await ready(desk)
    event = event_of(ended(job.id))
    await ground.handle(batch(event, event))
    await ground.handle(batch(event, start=2))
    assert len(await desk.history(job.id)) == 3


async def test_a_late_event_is_kept_as_ignored(desk: Desk) -> None:
    job = (await desk.upload()).job
    ground = await ready(desk)
    late = ev.ParseFailed(job.id, "acme", 1, "worker_lost", "gone", transient=True)
    await ground.handle(batch(event_of(ended(job.id)), event_of(late)))
    assert (await desk.job(job.id)).state is State.COMPLETE
    assert (await desk.history(job.id))[-1] == ("ParseFailed", None, None)


async def test_a_zombie_applies_nothing_and_reads_its_position_again(desk: Desk) -> None:
    first, second = (await desk.upload(1)).job, (await desk.upload(2)).job
    zombie, heir = await ready(desk), await ready(desk)
    await heir.handle(batch(event_of(ended(first.id))))
    with pytest.raises(PositionLostError):
        await zombie.handle(batch(event_of(ended(second.id))))
    assert (await desk.job(second.id)).state is State.UPLOADED
    assert await zombie.positions(frozenset({P0})) == {P0: 1}
    await zombie.handle(batch(event_of(ended(second.id)), start=1))
    assert (await desk.job(second.id)).state is State.COMPLETE


async def test_seen_events_leave_the_outbox(desk: Desk) -> None:
    failed = (await desk.upload(1)).job
    ground = await ready(desk)
    wrong = ev.ParseFailed(failed.id, "acme", 1, "document_broken", "m", transient=False)
    await ground.handle(batch(event_of(wrong)))
    desk.said()
    assert (await desk.upload(1)).duplicate
    (asked,) = desk.said()
    assert asked.body == ev.RetryRequested(failed.id, "acme", 1)
    assert "jobs.events" in {r["topic"] for r in await _outbox(desk)}
    await ground.handle(batch(asked, start=1))
    assert "jobs.events" not in {r["topic"] for r in await _outbox(desk)}
    after = await desk.job(failed.id)
    assert (after.state, after.attempt) == (State.UPLOADED, 2)


async def test_a_retry_offers_the_document_again(desk: Desk) -> None:
    job = (await desk.upload()).job
    ground = await ready(desk)
    desk.said()
    failed = ev.ParseFailed(job.id, "acme", 1, "parse_timeout", "m", transient=True)
    await ground.handle(batch(event_of(failed), event_of(ev.RetryDue(job.id, "acme", 1))))
    offers = [e.body for e in desk.said() if isinstance(e.body, ev.DocumentUploaded)]
    assert [(o.job_id, o.attempt) for o in offers] == [(job.id, 2)]
    assert await desk.untimed() == 0


async def test_what_cannot_be_decoded_is_a_dead_letter_and_the_rest_goes_on(desk: Desk) -> None:
    job = (await desk.upload()).job
    ground = await ready(desk)
    broken = Record(P0, 0, b"the-key", b"{not json", (("ce_type", b"x"),), NOW)
    await ground.handle({P0: [broken, record_of(event_of(ended(job.id)), "jobs.events", 1)]})
    assert (await desk.job(job.id)).state is State.COMPLETE
    (listed,) = await desk.rows("positions.letters", before=10, most=10)
    (letter,) = await desk.rows("positions.letter", id=listed["id"])
    assert (letter["key"], letter["value"]) == (b"the-key", b"{not json")
    assert letter["headers"] == '[["ce_type","78"]]'
    assert (letter["topic"], letter["partition"], letter["record_offset"]) == ("jobs.events", 0, 0)
    assert (letter["code"], letter["created_ms"]) == ("poison_event", NOW)
    assert letter["reason"] == "ce_type 'x' is no event's, see docs/topics.md"


class Choking(JobState):
    """A fold with a bug: it cannot take events of one attempt number."""

    async def apply(self, tx: Transaction, events: Sequence[Event]) -> None:
        await super().apply(tx, events)
        if any(e.body.attempt == 13 for e in events if isinstance(e.body, ev.RetryDue)):
            raise ZeroDivisionError("bug")


async def test_what_fails_alone_is_buried_alone(desk: Desk) -> None:
    job = (await desk.upload()).job
    ground = await ready(desk, Choking(TIMINGS))
    poison = event_of(ev.RetryDue(job.id, "acme", 13))
    await ground.handle(batch(poison, event_of(ended(job.id))))
    assert (await desk.job(job.id)).state is State.COMPLETE
    (letter,) = await desk.rows("positions.letters", before=10, most=10)
    assert (letter["record_offset"], letter["key_text"]) == (0, job.id)
    assert "ZeroDivisionError" in letter["reason"]


async def test_too_many_dead_letters_stop_the_processor_until_somebody_resumes_it(
    desk: Desk,
) -> None:
    ground = await ready(desk)
    for offset in range(3):
        await ground.handle({P0: [Record(P0, offset, b"k", b"x", (), NOW)]})
    with pytest.raises(ProcessorStoppedError, match="3 of the last 3"):
        await ground.handle({P0: [Record(P0, 3, b"k", b"x", (), NOW)]})
    assert len(await desk.rows("positions.letters", before=10, most=10)) == 3
    restarted = DeadLetterLimit("job_state", "1", desk.tables, desk.recorder)
    assert await restarted.is_stopped()
    assert await restarted.is_stopped()
    await desk.tables.write(lambda tx: tx.run("positions.resume", processor="job_state"))
    assert not await restarted.is_stopped()


async def test_the_limit_holds_within_a_batch(desk: Desk) -> None:
    ground = await ready(desk)
    with pytest.raises(ProcessorStoppedError):
        await ground.handle({P0: [Record(P0, n, b"k", b"x", (), NOW) for n in range(9)]})
    assert len(await desk.rows("positions.letters", before=10, most=10)) == 3
    assert await ground_of(desk).positions(frozenset({P0})) == {P0: 3}


async def test_another_version_lifts_the_stop(desk: Desk) -> None:
    ground = await ready(desk)
    for offset in range(3):
        await ground.handle({P0: [Record(P0, offset, b"k", b"x", (), NOW)]})
    with pytest.raises(ProcessorStoppedError):
        await ground.handle({P0: [Record(P0, 3, b"k", b"x", (), NOW)]})
    assert not await DeadLetterLimit("job_state", "2", desk.tables, desk.recorder).is_stopped()
    assert await desk.rows("positions.stops") == []


async def test_an_event_of_another_topic_is_poison_here(desk: Desk) -> None:
    ground = await ready(desk)
    stray = event_of(ev.StageTimed("acme", "s", "parse", "ok", 1.0))
    await ground.handle(batch(stray))
    (letter,) = await desk.rows("positions.letters", before=10, most=10)
    assert "StageTimed does not belong" in letter["reason"]


async def test_counts_follow_every_move(desk: Desk) -> None:
    first, second = (await desk.upload(1)).job, (await desk.upload(2)).job
    ground = await ready(desk)
    await ground.handle(batch(event_of(ended(first.id))))
    assert await _counts(desk) == {"uploaded": 1, "complete": 1}
    cancel = event_of(ev.CancelRequested(second.id, "acme", 1))
    await ground.handle(batch(cancel, start=1))
    assert await _counts(desk) == {"complete": 1, "cancelled": 1}


async def test_every_job_elsewhere_is_booked_although_its_event_is_ignored(desk: Desk) -> None:
    job = (await desk.upload()).job
    gone = ev.CancelRequested(job.id, "acme", 1)
    late = ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1")
    stranger = ev.ParseQueued("0190a5a6-0000-7000-8000-000000000001", "acme", 1, "llamaparse", "v2")
    await fold_events(desk, gone, late, stranger)
    assert (await desk.job(job.id)).state is State.CANCELLED
    assert (await desk.history(job.id))[-1] == ("ParseQueued", None, None)
    assert await _booked(desk, job.id) == [("v1", 1, NOW)]
    assert await _booked(desk, stranger.job_id) == []
    assert await _settled_next(desk) == [job.id]


async def test_a_job_elsewhere_is_booked_once(desk: Desk) -> None:
    job = (await desk.upload()).job
    queued = ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1")
    await fold_events(desk, queued)
    desk.clock.pass_ms(500)
    await fold_events(desk, queued)
    assert await _booked(desk, job.id) == [("v1", 1, NOW)]


@pytest.mark.parametrize(
    "end",
    [
        ended("JOB"),
        ev.ParseFailed("JOB", "acme", 1, "vendor_stuck", "m", transient=True),
        ev.ParseDeferred("JOB", "acme", 1, "shutdown"),
        ev.CancelRequested("JOB", "acme", 1),
        ev.DeleteRequested("JOB", "acme", 1),
    ],
    ids=lambda body: type(body).__name__,
)
async def test_a_bill_is_asked_for_soon_after_its_job_left_there(
    desk: Desk, end: ev.JobInput
) -> None:
    job = (await desk.upload()).job
    await fold_events(desk, ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1"))
    desk.clock.pass_ms(3_600_000)
    assert await _settled_next(desk) == []
    await fold_events(desk, replace(end, job_id=job.id))
    desk.clock.pass_ms(9_999)
    assert await _settled_next(desk) == []
    desk.clock.pass_ms(1)
    assert await _settled_next(desk) == [job.id]


async def test_no_bill_is_asked_for_where_nothing_was_elsewhere(desk: Desk) -> None:
    job = (await desk.upload()).job
    await fold_events(desk, ev.ParseStarted(job.id, "acme", 1, "w"), ended(job.id))
    desk.clock.pass_ms(3_600_000)
    assert await _settled_next(desk) == []


async def test_a_bill_is_asked_for_at_the_earlier_of_two_times(desk: Desk) -> None:
    job = (await desk.upload()).job
    queued = ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1")
    second = ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v2")
    await fold_events(desk, queued, ended(job.id))
    assert await _settled_next(desk) == []
    await fold_events(desk, second)
    assert await _settled_next(desk) == [job.id]
    await fold_events(desk, ev.DeleteRequested(job.id, "acme", 1))
    assert await _settled_next(desk) == [job.id]


async def _booked(desk: Desk, job_id: str) -> list[tuple[str, int, int]]:
    """Give (id there, attempt, since when) of a job's vendor jobs."""
    rows = await desk.rows("vendor.of_job", job_id=job_id)
    return [(row["vendor_job_id"], row["attempt"], row["queued_ms"]) for row in rows]


async def _settled_next(desk: Desk) -> list[str]:
    return [row["id"] for row in await desk.rows("vendor.due_settles", most=9)]


async def _counts(desk: Desk) -> dict[str, int]:
    return {row["state"]: row["jobs"] for row in await desk.rows("jobs.counts") if row["jobs"]}


async def _outbox(desk: Desk) -> list[dict[str, object]]:
    async def unit(tx: Transaction) -> list[dict[str, object]]:
        desk.clock.pass_ms(10_000)
        return [dict(row) for row in await tx.all("outbox.take_due", takeover_ms=0, most=100)]

    desk.clock.pass_ms(10_000)
    return await desk.tables.write(unit)
