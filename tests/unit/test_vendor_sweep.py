"""The vendor sweep: what a job elsewhere that nobody told of means, and that two sweeps agree."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.errors import Code, PermanentError, TransientError
from schemas.job import Job, State
from streams.parsers.base import VendorState
from streams.tables.base import Transaction
from streams.vendor_sweep import VendorSweep
from tests.fakes import FakeRemote
from tests.harness import TIMINGS, Desk, fold_events, fold_said, open_memory_desk, queue

JOB_MS = 600_000
AWAY = TransientError(Code.PARSER_UNAVAILABLE, "no connection")


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


@pytest.fixture
def parser() -> FakeRemote:
    return FakeRemote()


def sweep_of(desk: Desk, *parsers: FakeRemote) -> VendorSweep:
    named = {parser.name: parser for parser in parsers}
    return VendorSweep(desk.tables, named, desk.recorder, TIMINGS, job_ms=JOB_MS, every_seconds=1)


async def tick(desk: Desk, sweep: VendorSweep, after_ms: int) -> list[ev.Body]:
    """Let time pass, sweep, fold what was said; no job may be without its timer."""
    desk.clock.pass_ms(after_ms)
    await sweep.tick()
    said = await fold_said(desk)
    assert await desk.untimed() == 0
    return [body for body in said if not isinstance(body, ev.JobMoved)]


async def due_ms(desk: Desk, job: Job) -> int:
    """Tell in how many milliseconds somebody looks at the job, by letting that time pass."""

    async def unit(tx: Transaction) -> int:
        return await tx.run(
            "jobs.take_timer", job_id=job.id, kind="step", due_ms=wanted, next_ms=wanted, repeat=0
        )

    for passed in range(0, 3_700_000, 500):
        wanted = desk.clock.now_ms + passed
        if await desk.tables.write(unit):
            return passed
    raise AssertionError("no timer within the hour")


async def test_a_job_is_not_asked_about_before_its_time(desk: Desk, parser: FakeRemote) -> None:
    await queue(desk)
    parser.add("v1")
    assert await tick(desk, sweep_of(desk, parser), 29_999) == []
    assert parser.calls == []


async def test_a_job_that_ended_there_is_to_be_looked_at_again_and_again(
    desk: Desk, parser: FakeRemote
) -> None:
    job, sweep = await queue(desk), sweep_of(desk, parser)
    parser.add("v1", VendorState.COMPLETED)
    seen = ev.VendorJobSeen("llamaparse", "v1")
    assert await tick(desk, sweep, 30_000) == [seen]
    assert await tick(desk, sweep, 29_999) == []
    assert await tick(desk, sweep, 1) == [seen]
    assert (await desk.job(job.id)).state is State.PARSE_QUEUED
    assert parser.operations() == ["look", "look"]


@pytest.mark.parametrize("state", [VendorState.FAILED, VendorState.CANCELLED])
async def test_every_end_there_is_left_to_the_look(
    desk: Desk, parser: FakeRemote, state: VendorState
) -> None:
    await queue(desk)
    parser.add("v1", state)
    said = await tick(desk, sweep_of(desk, parser), 30_000)
    assert said == [ev.VendorJobSeen("llamaparse", "v1")]


async def test_one_that_was_finished_at_once_is_seen_at_once(
    desk: Desk, parser: FakeRemote
) -> None:
    job = (await desk.upload()).job
    queued = ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1", finished=True)
    await fold_events(desk, queued)
    desk.said()
    parser.add("v1", VendorState.COMPLETED)
    assert await tick(desk, sweep_of(desk, parser), 0) == [ev.VendorJobSeen("llamaparse", "v1")]


async def test_an_unknown_job_is_lost_once_it_must_be_known(desk: Desk, parser: FakeRemote) -> None:
    job, sweep = await queue(desk), sweep_of(desk, parser)
    assert await tick(desk, sweep, 60_000) == []
    assert await tick(desk, sweep, 30_000) == [
        ev.ParseFailed(
            job.id,
            "acme",
            1,
            "vendor_lost",
            "the parser does not know the job",
            transient=True,
            parser="llamaparse",
        )
    ]
    assert (await desk.job(job.id)).state is State.RETRY_WAIT
    assert parser.operations() == ["look", "look", "see"]


async def test_one_that_only_the_list_does_not_know_is_not_lost(
    desk: Desk, parser: FakeRemote
) -> None:
    job, sweep = await queue(desk), sweep_of(desk, parser)
    parser.add("v1")
    parser.unlisted.add("v1")
    assert await tick(desk, sweep, 90_000) == []
    parser.add("v1", VendorState.COMPLETED)
    assert await tick(desk, sweep, 30_000) == [ev.VendorJobSeen("llamaparse", "v1")]
    parser.failures["see"] = AWAY
    assert await tick(desk, sweep, 30_000) == []
    assert (await desk.job(job.id)).state is State.PARSE_QUEUED


async def test_one_that_no_list_knows_and_nobody_shows_us_is_lost(
    desk: Desk, parser: FakeRemote
) -> None:
    job, sweep = await queue(desk), sweep_of(desk, parser)
    parser.failures["see"] = TransientError(Code.VENDOR_LOST, "not shown")
    (said,) = await tick(desk, sweep, 90_000)
    assert isinstance(said, ev.ParseFailed)
    assert (said.code, said.job_id) == ("vendor_lost", job.id)


async def test_one_that_is_pending_is_asked_about_ever_more_seldom(
    desk: Desk, parser: FakeRemote
) -> None:
    job, sweep = await queue(desk), sweep_of(desk, parser)
    parser.add("v1")
    waits = []
    for age_ms in (30_000, 120_000, 450_000):
        assert await tick(desk, sweep, age_ms) == []
        waits.append(await due_ms(desk, job))
    assert waits == [30_000, 37_500, 150_000]


async def test_one_that_is_pending_for_too_long_is_cancelled_there_and_failed(
    desk: Desk, parser: FakeRemote
) -> None:
    job = await queue(desk)
    parser.add("v1")
    said = await tick(desk, sweep_of(desk, parser), 600_001)
    assert said == [
        ev.ParseFailed(
            job.id,
            "acme",
            1,
            "vendor_stuck",
            "pending for 600 s",
            transient=True,
            parser="llamaparse",
        )
    ]
    assert parser.jobs["v1"].state is VendorState.CANCELLED
    assert (await desk.job(job.id)).state is State.RETRY_WAIT


async def test_one_that_cannot_be_cancelled_waits_but_not_for_ever(
    desk: Desk, parser: FakeRemote
) -> None:
    job, sweep = await queue(desk), sweep_of(desk, parser)
    parser.add("v1")
    parser.failures["cancel"] = TransientError(Code.VENDOR_FAILED, "500")
    assert await tick(desk, sweep, 600_001) == []
    assert (await desk.job(job.id)).state is State.PARSE_QUEUED
    (given_up,) = await tick(desk, sweep, 600_001)
    assert isinstance(given_up, ev.ParseFailed)
    assert given_up.code == "vendor_stuck"
    assert len(await desk.rows("vendor.due_settles", most=9)) == 0
    desk.clock.pass_ms(10_000)
    assert [row["id"] for row in await desk.rows("vendor.due_settles", most=9)] == [job.id]


@pytest.mark.parametrize("failure", [AWAY, PermanentError(Code.VENDOR_REFUSED, "422")])
async def test_nothing_is_concluded_from_a_parser_that_is_away(
    desk: Desk, parser: FakeRemote, failure: Exception
) -> None:
    job, sweep = await queue(desk), sweep_of(desk, parser)
    parser.failures["look"] = failure
    for _ in range(30):
        assert await tick(desk, sweep, 3_600_000) == []
    assert (await desk.job(job.id)).state is State.PARSE_QUEUED
    del parser.failures["look"]
    parser.add("v1", VendorState.COMPLETED)
    assert await tick(desk, sweep, 3_600_000) == [ev.VendorJobSeen("llamaparse", "v1")]


async def test_a_parser_that_is_away_keeps_no_other_from_being_asked(
    desk: Desk, parser: FakeRemote
) -> None:
    await queue(desk)
    other, job = FakeRemote("another"), (await desk.upload(2)).job
    await fold_events(desk, ev.ParseQueued(job.id, "acme", 1, "another", "w1"))
    desk.said()
    parser.failures["look"] = AWAY
    other.add("w1", VendorState.COMPLETED)
    said = await tick(desk, sweep_of(desk, parser, other), 30_000)
    assert said == [ev.VendorJobSeen("another", "w1")]


async def test_a_parser_that_is_not_configured_any_more_loses_its_jobs_at_their_deadline(
    desk: Desk,
) -> None:
    job, sweep = await queue(desk), sweep_of(desk)
    assert await tick(desk, sweep, 600_000) == []
    (lost,) = await tick(desk, sweep, 200_000)
    assert isinstance(lost, ev.ParseFailed)
    assert (lost.code, lost.transient) == ("vendor_lost", True)
    assert lost.message == "llamaparse is not configured any more"
    assert (await desk.job(job.id)).state is State.RETRY_WAIT


async def test_many_are_asked_about_in_one_call(desk: Desk, parser: FakeRemote) -> None:
    for number in (1, 2, 3):
        await queue(desk, f"v{number}", number)
        parser.add(f"v{number}", VendorState.COMPLETED if number == 2 else VendorState.PENDING)
    said = await tick(desk, sweep_of(desk, parser), 30_000)
    assert said == [ev.VendorJobSeen("llamaparse", "v2")]
    assert parser.calls == [("look", "v1,v2,v3")]


async def test_two_sweeps_at_once_do_no_harm(desk: Desk, parser: FakeRemote) -> None:
    job = await queue(desk)
    first, second = sweep_of(desk, parser), sweep_of(desk, parser)
    parser.during["look"] = second.tick
    said = await tick(desk, first, 90_000)
    assert [type(body).__name__ for body in said] == ["ParseFailed"]
    assert parser.operations() == ["look", "see"]
    assert (await desk.job(job.id)).tries == 1


async def test_a_job_that_moves_while_it_is_asked_about_stays_where_it_is(
    desk: Desk, parser: FakeRemote
) -> None:
    job = await queue(desk)

    async def cancel() -> None:
        await fold_events(desk, ev.CancelRequested(job.id, "acme", 1))

    parser.during["look"] = cancel
    await tick(desk, sweep_of(desk, parser), 90_000)
    assert (await desk.job(job.id)).state is State.CANCELLED
    assert (await desk.history(job.id))[-1] == ("ParseFailed", None, None)
