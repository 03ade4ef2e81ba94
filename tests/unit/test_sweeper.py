"""The sweeper: what a due timer means, and that saying it twice does no harm."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.errors import Code
from schemas.job import State
from streams.dead_letters import DeadLetterLimit, bury
from streams.fold import FoldGround
from streams.job_state import JobState
from streams.sweeper import Due, Sweeper, Verdict, _due, judge
from tests.harness import (
    NOW,
    TIMINGS,
    Desk,
    claim,
    event_of,
    fold_events,
    open_memory_desk,
    record_of,
)
from tests.unit.test_job_moves import job as job_in


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


def due(state: State, **changes: object) -> Due:
    values: dict[str, object] = {
        "job": job_in(state, vendor_job_id="v"),
        "due_ms": NOW - 5,
        "repeats": 0,
        "lease_ends_ms": None,
        "attempt_ended": False,
        "dead_letter": None,
    }
    return Due(**(values | changes))  # type: ignore[arg-type]  # typed above


def verdict(one: Due, *, leases_judged: bool = True) -> Verdict:
    return judge(one, NOW, TIMINGS, leases_judged=leases_judged)


def test_an_unclaimed_document_is_offered_again_ever_later() -> None:
    waits = [verdict(due(State.UPLOADED, repeats=n)).next_ms - NOW for n in (0, 1, 2, 30)]
    assert waits == [60_000, 120_000, 240_000, 3_600_000]
    body = verdict(due(State.UPLOADED)).body
    assert isinstance(body, ev.DocumentUploaded)


def test_an_offer_that_became_a_dead_letter_fails_the_job_for_good() -> None:
    body = verdict(due(State.UPLOADED, dead_letter="why")).body
    assert isinstance(body, ev.ParseFailed)
    assert (body.code, body.transient, body.message) == ("poison_event", False, "why")


@pytest.mark.parametrize("state", [State.UPLOADED, State.PARSING])
def test_a_live_lease_is_looked_at_when_it_ends(state: State) -> None:
    later = verdict(due(state, lease_ends_ms=NOW + 700))
    assert later == Verdict("later", NOW + 701)


@pytest.mark.parametrize("state", [State.UPLOADED, State.PARSING])
def test_a_dead_lease_is_a_lost_worker(state: State) -> None:
    body = verdict(due(state, lease_ends_ms=NOW - 1)).body
    assert isinstance(body, ev.ParseFailed)
    assert (body.code, body.transient) == ("worker_lost", True)


def test_no_lease_is_judged_before_its_holder_could_renew_it() -> None:
    held = verdict(due(State.PARSING, lease_ends_ms=NOW - 1), leases_judged=False)
    assert held == Verdict("later", NOW + 1_000)


def test_an_ended_attempt_is_waited_for() -> None:
    assert verdict(due(State.PARSING, lease_ends_ms=NOW - 1, attempt_ended=True)).body is None


def test_a_wait_that_is_over() -> None:
    assert isinstance(verdict(due(State.RETRY_WAIT)).body, ev.RetryDue)


def sweeper_of(desk: Desk) -> Sweeper:
    return Sweeper(desk.tables, TIMINGS, desk.recorder, every_seconds=1)


async def test_a_due_timer_says_its_event_once_and_moves_on(desk: Desk) -> None:
    job = (await desk.upload()).job
    desk.said()
    sweeper = sweeper_of(desk)
    assert await sweeper.tick() == 0
    desk.clock.pass_ms(30_000)
    assert await sweeper.tick() == 1
    (offered,) = desk.said()
    assert offered.body == ev.DocumentUploaded(
        job.id, "acme", 1, job.document_id, job.source, "application/pdf", "1.pdf"
    )
    assert await sweeper.tick() == 0
    desk.clock.pass_ms(60_000)
    assert await sweeper.tick() == 1


async def test_two_sweepers_say_one_thing(desk: Desk) -> None:
    await desk.upload()
    desk.said()
    desk.clock.pass_ms(30_000)
    rows = await desk.rows("jobs.due_steps", most=10)
    first, second = sweeper_of(desk), sweeper_of(desk)
    await first.tick()
    await desk.tables.write(lambda tx: second._say(tx, [_due(rows[0])], leases_judged=True))
    assert len(desk.said()) == 1


async def test_a_dead_worker_costs_an_attempt_and_the_job_goes_on(desk: Desk) -> None:
    job = (await desk.upload()).job
    await claim(desk, job)
    limit = DeadLetterLimit("job_state", "1", desk.tables, desk.recorder)
    fold = JobState(TIMINGS, chance=lambda: 0.5)
    ground = FoldGround(fold, desk.tables, "c", limit, desk.recorder)
    sweeper = sweeper_of(desk)
    desk.said()
    offset = 0
    states = []
    for ticks in (15, 1):
        for _ in range(ticks):
            desk.clock.pass_ms(2_000)
            await sweeper.tick()
        for event in desk.said():
            if isinstance(event.body, ev.ParseFailed | ev.RetryDue):
                record = record_of(event, "jobs.events", offset)
                await ground.positions(frozenset({record.partition}))
                await ground.handle({record.partition: [record]})
                offset += 1
        states.append((await desk.job(job.id)).state)
    assert states == [State.RETRY_WAIT, State.UPLOADED]
    after = await desk.job(job.id)
    assert (after.attempt, after.losses, after.tries) == (2, 1, 0)
    await claim(desk, after)


async def test_a_job_whose_intent_was_resolved_is_tried_again(desk: Desk) -> None:
    job = (await desk.upload()).job
    await claim(desk, job, intends="llamaparse")
    lost = ev.ParseFailed(job.id, "acme", 1, "vendor_lost", "m", transient=True)
    await fold_events(desk, ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1"), lost)
    assert (await desk.job(job.id)).state is State.RETRY_WAIT
    desk.said()
    desk.clock.pass_ms(300_000)
    assert await sweeper_of(desk).tick() == 1
    assert [type(event.body).__name__ for event in desk.said()] == ["RetryDue"]


async def test_after_an_outage_leases_get_time_to_be_renewed(desk: Desk) -> None:
    job = (await desk.upload()).job
    await claim(desk, job)
    sweeper = sweeper_of(desk)
    await sweeper.tick()
    desk.said()
    desk.clock.pass_ms(40_000)
    await sweeper.tick()
    assert desk.said() == []
    for _ in range(8):
        desk.clock.pass_ms(2_000)
        await sweeper.tick()
    (lost,) = desk.said()
    assert isinstance(lost.body, ev.ParseFailed)


async def test_a_dead_letter_newer_than_the_offer_ends_the_job(desk: Desk) -> None:
    job = (await desk.upload()).job
    record = record_of(event_of(ev.RetryDue(job.id, "acme", 1)), "documents.uploaded")
    desk.clock.pass_ms(1_000)
    await desk.tables.write(lambda tx: bury(tx, "parse", "c", record, Code.POISON_EVENT, "why"))
    desk.said()
    desk.clock.pass_ms(29_000)
    await sweeper_of(desk).tick()
    (failed,) = desk.said()
    assert isinstance(failed.body, ev.ParseFailed)
    assert failed.body.code == "poison_event"
