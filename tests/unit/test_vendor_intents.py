"""Intents to spend: what came of them is found out, whether their jobs wait for it or went on."""

from collections.abc import AsyncIterator
from datetime import datetime

import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.cost_events import CostReleased, CostSettled
from schemas.errors import Code, TransientError
from schemas.job import Job, State
from streams.parsers.base import VendorJob, VendorState
from streams.vendor_intents import VendorIntents
from tests.fakes import FakeRemote
from tests.harness import NOW, TIMINGS, Desk, claim, fold_events, fold_said, open_memory_desk
from tests.money_desk import BILLING, fold_costs, held, hold

JOB_MS = 600_000


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


@pytest.fixture
def parser() -> FakeRemote:
    return FakeRemote()


def intents_of(desk: Desk, *parsers: FakeRemote) -> VendorIntents:
    named = {parser.name: parser for parser in parsers}
    return VendorIntents(
        desk.tables, named, desk.recorder, TIMINGS, BILLING, job_ms=JOB_MS, every_seconds=1
    )


async def intended(desk: Desk, state: State = State.PARSING) -> Job:
    """Put in a job whose worker meant to spend, and was never heard of again."""
    job = (await desk.upload()).job
    await claim(desk, job, intends="llamaparse")
    if state is State.PARSING:
        await fold_events(desk, ev.ParseStarted(job.id, "acme", 1, "w"))
    desk.said()
    return await desk.job(job.id)


async def live(desk: Desk, intents: VendorIntents, seconds: int) -> list[ev.Body]:
    """Let time pass second by second, with all that goes with it; no job is without its timer."""
    said: list[ev.Body] = []
    for _ in range(seconds):
        desk.clock.pass_ms(1_000)
        await intents.beat()
        await intents.tick()
        said += await fold_said(desk)
        assert await desk.untimed() == 0
    return [body for body in said if not isinstance(body, ev.JobMoved)]


async def vendor_jobs(desk: Desk, job: Job) -> list[tuple[str, int]]:
    rows = await desk.rows("vendor.of_job", job_id=job.id)
    return [(row["vendor_job_id"], row["attempt"]) for row in rows]


@pytest.mark.parametrize("state", [State.UPLOADED, State.PARSING])
async def test_a_job_that_was_created_is_found(
    desk: Desk, parser: FakeRemote, state: State
) -> None:
    job, intents = await intended(desk, state), intents_of(desk, parser)
    parser.add("v1", job_id=job.id, attempt=1)
    assert await live(desk, intents, 32) == [ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1")]
    after = await desk.job(job.id)
    assert (after.state, after.vendor_job_id) == (State.PARSE_QUEUED, "v1")
    assert parser.calls == [("find", f"{job.id}/1 since {NOW // 1000}")]


async def test_one_that_ended_meanwhile_is_found_as_finished(
    desk: Desk, parser: FakeRemote
) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    assert await live(desk, intents, 32) == [
        ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1", finished=True)
    ]


async def test_one_of_another_attempt_is_not_it(desk: Desk, parser: FakeRemote) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    parser.add("v1", job_id=job.id, attempt=2)
    assert await live(desk, intents, 119) == []


async def test_what_is_not_found_for_two_minutes_was_not_spent(
    desk: Desk, parser: FakeRemote
) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    assert await live(desk, intents, 120) == []
    assert await live(desk, intents, 10) == [
        ev.ParseFailed(
            job.id,
            "acme",
            1,
            "worker_lost",
            "the worker's lease ran out, and no job of it was found",
            transient=True,
            parser="llamaparse",
        )
    ]
    after = await desk.job(job.id)
    assert (after.state, after.losses, after.tries) == (State.RETRY_WAIT, 1, 0)


async def test_nothing_is_concluded_from_a_parser_that_is_away(
    desk: Desk, parser: FakeRemote
) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    parser.failures["find"] = TransientError(Code.CIRCUIT_OPEN, "left alone")
    assert await live(desk, intents, 200) == []
    parser.failures.clear()
    parser.add("v1", job_id=job.id, attempt=1)
    assert await live(desk, intents, 10) == [ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1")]


async def test_a_parser_that_is_not_configured_may_have_the_job_until_its_deadline(
    desk: Desk,
) -> None:
    job, intents = await intended(desk), intents_of(desk)
    assert await live(desk, intents, 600) == []
    (lost,) = await live(desk, intents, 10)
    assert isinstance(lost, ev.ParseFailed)
    assert (lost.code, lost.job_id) == ("worker_lost", job.id)


async def test_no_lease_is_judged_right_after_a_sleep(desk: Desk, parser: FakeRemote) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    parser.add("v1", job_id=job.id, attempt=1)
    assert await live(desk, intents, 5) == []
    desk.clock.pass_ms(3_600_000)
    await intents.tick()
    assert await live(desk, intents, 14) == []
    assert parser.calls == []
    assert len(await live(desk, intents, 3)) == 1


async def test_slow_answers_are_no_sleep(desk: Desk, parser: FakeRemote) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    await live(desk, intents, 14)

    async def take_long() -> None:
        for _ in range(12):
            desk.clock.pass_ms(1_000)
            await intents.beat()

    parser.during["find"] = take_long
    assert await live(desk, intents, 1) == []
    parser.add("v1", job_id=job.id, attempt=1)
    assert len(await live(desk, intents, 1)) == 1


async def test_a_live_lease_is_left_alone(desk: Desk, parser: FakeRemote) -> None:
    await intended(desk)
    assert await live(desk, intents_of(desk, parser), 14) == []
    assert parser.calls == []


async def test_two_at_once_do_no_harm(desk: Desk, parser: FakeRemote) -> None:
    job, first, second = await intended(desk), intents_of(desk, parser), intents_of(desk, parser)
    parser.during["find"] = second.tick
    assert await live(desk, second, 20) == []
    assert len(await live(desk, first, 111)) == 1
    assert (await desk.job(job.id)).losses == 1


@pytest.mark.parametrize("wish", [ev.CancelRequested, ev.DeleteRequested])
async def test_what_was_created_for_a_job_that_nobody_wants_is_found_and_booked(
    desk: Desk, parser: FakeRemote, wish: type[ev.CancelRequested | ev.DeleteRequested]
) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    await fold_events(desk, wish(job.id, "acme", 1))
    desk.said()
    parser.add("v1", job_id=job.id, attempt=1)
    assert await live(desk, intents, 15) == [ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1")]
    assert await vendor_jobs(desk, job) == [("v1", 1)]
    assert [row["id"] for row in await desk.rows("vendor.due_settles", most=9)] == [job.id]
    assert await live(desk, intents, 60) == []
    assert parser.operations() == ["find"]


async def test_what_nobody_created_is_struck_out_after_two_minutes(
    desk: Desk, parser: FakeRemote
) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    await fold_events(desk, ev.CancelRequested(job.id, "acme", 1))
    desk.said()
    assert await live(desk, intents, 130) == []
    asked = len(parser.calls)
    assert asked == 12
    assert await live(desk, intents, 60) == []
    assert len(parser.calls) == asked
    (attempt,) = await desk.rows("attempts.of_job", job_id=job.id)
    assert (attempt["intent_ms"], attempt["ended_ms"]) == (None, None)


async def test_one_that_comes_into_the_list_late_is_booked_for_the_lost_attempt(
    desk: Desk, parser: FakeRemote
) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    (lost,) = await live(desk, intents, 125)
    assert isinstance(lost, ev.ParseFailed)
    parser.add("v1", job_id=job.id, attempt=1)
    await fold_events(desk, ev.RetryDue(job.id, "acme", 1))
    desk.said()
    assert await live(desk, intents, 11) == [ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1")]
    after = await desk.job(job.id)
    assert (after.state, after.attempt) == (State.UPLOADED, 2)
    assert await vendor_jobs(desk, job) == [("v1", 1)]


async def test_one_that_is_known_already_is_not_looked_for(desk: Desk, parser: FakeRemote) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    await fold_events(desk, ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1"))
    desk.said()
    assert await live(desk, intents, 60) == []
    assert parser.calls == []
    (attempt,) = await desk.rows("attempts.of_job", job_id=job.id)
    assert attempt["intent_ms"] is None
    assert (await desk.job(job.id)).state is State.PARSE_QUEUED


@pytest.mark.parametrize("waited_for", [True, False])
async def test_what_was_not_spent_is_given_back(
    desk: Desk, parser: FakeRemote, waited_for: bool
) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    await hold(desk, job.id)
    if not waited_for:
        await fold_events(desk, ev.CancelRequested(job.id, "acme", 1))
    await live(desk, intents, 140)
    kinds = [type(body).__name__ for body in await fold_costs(desk)]
    assert kinds == ["CostReserved", "CostReleased"]
    assert await held(desk) == 0


async def test_the_money_of_a_job_that_is_found_stays_held(desk: Desk, parser: FakeRemote) -> None:
    job, intents = await intended(desk), intents_of(desk, parser)
    await hold(desk, job.id)
    parser.add("v1", job_id=job.id, attempt=1)
    await live(desk, intents, 140)
    await fold_costs(desk)
    assert await held(desk) == 37_500


async def test_where_nobody_can_be_asked_the_estimate_is_spent(desk: Desk) -> None:
    job, intents = await intended(desk), intents_of(desk)
    await hold(desk, job.id)
    await live(desk, intents, 620)
    _, given_up = await fold_costs(desk)
    assert isinstance(given_up, CostSettled)
    assert (given_up.basis, given_up.micro_usd) == ("estimated", 37_500)
    assert await held(desk) == 0


class LateRemote(FakeRemote):
    """Finds nothing, and its webhook is heard while it is asked after two minutes."""

    def __init__(self, desk: Desk, heard: ev.ParseQueued) -> None:
        super().__init__()
        self._desk = desk
        self._heard: ev.ParseQueued | None = heard

    async def find(self, job_id: str, attempt: int, since: datetime) -> VendorJob | None:
        found = await super().find(job_id, attempt, since)
        if self._heard is not None and self._desk.clock.now_ms > NOW + 120_000:
            await fold_events(self._desk, self._heard)
            self._heard = None
        return found


@pytest.mark.parametrize("waited_for", [True, False])
async def test_what_is_heard_of_while_the_parser_is_asked_keeps_its_money(
    desk: Desk, waited_for: bool
) -> None:
    job = await intended(desk)
    await hold(desk, job.id)
    if not waited_for:
        await fold_events(desk, ev.CancelRequested(job.id, "acme", 1))
    parser = LateRemote(desk, ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1"))
    assert await live(desk, intents_of(desk, parser), 150) == []
    assert not any(isinstance(body, CostReleased) for body in await fold_costs(desk))
    assert await held(desk) == 37_500
    assert await vendor_jobs(desk, job) == [("v1", 1)]
    after = await desk.job(job.id)
    assert after.state is (State.PARSE_QUEUED if waited_for else State.CANCELLED)
