"""The settling of vendor jobs: nobody's are stopped, every bill is asked for, then it ends."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.errors import Code, PermanentError, TransientError
from schemas.job import Job
from streams.parsers.base import VendorJob, VendorState
from streams.vendor_settle import VendorSettle, outcome_of
from tests.fakes import FakeRemote
from tests.harness import Desk, fold_events, open_memory_desk, queue
from tests.money_desk import BILLING

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
AWAY = TransientError(Code.PARSER_UNAVAILABLE, "no connection")
RESULT = ev.BlobRef("acme/j/1/result", "b" * 64, 5)

Line = tuple[str, str | None, float | None, int]


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


@pytest.fixture
def parser() -> FakeRemote:
    return FakeRemote()


def settle_of(desk: Desk, *parsers: FakeRemote, forget: bool = False) -> VendorSettle:
    named = {parser.name: parser for parser in parsers}
    return VendorSettle(desk.tables, named, desk.recorder, BILLING, forget=forget, every_seconds=1)


async def complete(desk: Desk, vendor_job_id: str = "v1", number: int = 1) -> Job:
    """Put in a job that was elsewhere, and has its result since a moment."""
    job = await queue(desk, vendor_job_id, number)
    await fold_events(desk, ev.ParseSucceeded(job.id, "acme", 1, RESULT, "llamaparse", "9", 2))
    return job


async def tick(desk: Desk, settle: VendorSettle, after_ms: int) -> None:
    desk.clock.pass_ms(after_ms)
    await settle.tick()


async def lines(desk: Desk, job: Job) -> list[Line]:
    """Give (id there, outcome, credits, kept there) of a job's vendor jobs."""
    rows = await desk.rows("vendor.of_job", job_id=job.id)
    return [(r["vendor_job_id"], r["outcome"], r["credits"], r["kept_there"]) for r in rows]


async def timed(desk: Desk) -> list[str]:
    """Give the jobs that have a settle timer, by looking a day later."""
    desk.clock.pass_ms(DAY_MS)
    rows = await desk.rows("vendor.due_settles", most=99)
    desk.clock.pass_ms(-DAY_MS)
    return [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("state", "bill", "age_ms", "outcome"),
    [
        (VendorState.COMPLETED, 3.0, 0, "billed"),
        (VendorState.COMPLETED, 0.0, 0, "billed"),
        (VendorState.FAILED, 1.0, 0, "billed"),
        (VendorState.CANCELLED, 1.0, 0, "billed"),
        (VendorState.COMPLETED, None, DAY_MS, None),
        (VendorState.COMPLETED, None, DAY_MS + 1, "never_told"),
        (VendorState.FAILED, None, HOUR_MS, None),
        (VendorState.FAILED, None, HOUR_MS + 1, "unbilled"),
        (VendorState.CANCELLED, None, HOUR_MS, None),
        (VendorState.CANCELLED, None, HOUR_MS + 1, "unbilled"),
        (VendorState.PENDING, None, DAY_MS, None),
        (VendorState.PENDING, 3.0, DAY_MS, None),
        (VendorState.PENDING, 3.0, DAY_MS + 1, "never_told"),
        (None, None, 60_000, None),
        (None, None, 60_001, "never_told"),
    ],
)
def test_how_a_job_there_is_settled(
    state: VendorState | None, bill: float | None, age_ms: int, outcome: str | None
) -> None:
    seen = None if state is None else VendorJob("v1", state, credits=bill)
    assert outcome_of(age_ms, seen) == outcome


async def test_a_bill_is_asked_for_and_then_nobody_asks_again(
    desk: Desk, parser: FakeRemote
) -> None:
    job, settle = await complete(desk), settle_of(desk, parser)
    parser.add("v1", VendorState.COMPLETED, credits=3.0)
    await tick(desk, settle, 9_999)
    assert parser.calls == []
    await tick(desk, settle, 1)
    assert await lines(desk, job) == [("v1", "billed", 3.0, 1)]
    assert await timed(desk) == []
    await tick(desk, settle, DAY_MS)
    assert parser.calls == [("see", "v1")]


async def test_a_late_bill_is_asked_for_ever_more_seldom(desk: Desk, parser: FakeRemote) -> None:
    job, settle = await complete(desk), settle_of(desk, parser)
    parser.add("v1", VendorState.COMPLETED)
    for wait_ms in (10_000, 10_000, 20_000, 40_000):
        asked = len(parser.calls)
        await tick(desk, settle, wait_ms - 1)
        assert len(parser.calls) == asked
        await tick(desk, settle, 1)
        assert len(parser.calls) == asked + 1
    assert await lines(desk, job) == [("v1", None, None, 1)]
    parser.add("v1", VendorState.COMPLETED, credits=3.0)
    await tick(desk, settle, 80_000)
    assert await lines(desk, job) == [("v1", "billed", 3.0, 1)]


async def test_no_bill_of_a_failed_job_is_waited_for_longer_than_an_hour(
    desk: Desk, parser: FakeRemote
) -> None:
    job, settle = await complete(desk), settle_of(desk, parser)
    parser.add("v1", VendorState.FAILED)
    await tick(desk, settle, HOUR_MS)
    assert await lines(desk, job) == [("v1", None, None, 1)]
    await tick(desk, settle, 10_000)
    assert await lines(desk, job) == [("v1", "unbilled", None, 1)]
    assert await timed(desk) == []


async def test_no_bill_at_all_is_waited_for_longer_than_a_day(
    desk: Desk, parser: FakeRemote
) -> None:
    job, settle = await complete(desk), settle_of(desk, parser)
    parser.add("v1", VendorState.COMPLETED)
    await tick(desk, settle, DAY_MS)
    assert await lines(desk, job) == [("v1", None, None, 1)]
    await tick(desk, settle, 10_000)
    assert await lines(desk, job) == [("v1", "never_told", None, 1)]
    assert await timed(desk) == []


async def test_a_job_that_is_unknown_there_has_no_bill(desk: Desk, parser: FakeRemote) -> None:
    job, settle = await complete(desk), settle_of(desk, parser)
    await tick(desk, settle, 60_000)
    assert await lines(desk, job) == [("v1", None, None, 1)]
    await tick(desk, settle, 10_000)
    assert await lines(desk, job) == [("v1", "never_told", None, 1)]


async def test_one_that_runs_for_nobody_is_stopped_there(desk: Desk, parser: FakeRemote) -> None:
    job, settle = await queue(desk), settle_of(desk, parser)
    await fold_events(desk, ev.CancelRequested(job.id, "acme", 1))
    parser.add("v1")
    await tick(desk, settle, 10_000)
    assert parser.operations() == ["see", "cancel"]
    assert await lines(desk, job) == [("v1", None, None, 1)]
    parser.add("v1", VendorState.CANCELLED, credits=1.0)
    await tick(desk, settle, 10_000)
    assert parser.operations() == ["see", "cancel", "see"]
    assert await lines(desk, job) == [("v1", "billed", 1.0, 1)]


async def test_one_that_is_waited_for_is_neither_asked_about_nor_stopped(
    desk: Desk, parser: FakeRemote
) -> None:
    job = await queue(desk)
    settle = settle_of(desk, parser, forget=True)
    # The late second name of the same attempt sets the timer.
    await fold_events(desk, ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v2"))
    parser.add("v1")
    parser.add("v2", VendorState.COMPLETED, credits=3.0)
    await tick(desk, settle, 0)
    assert parser.calls == [("see", "v2"), ("forget", "v2")]
    assert await lines(desk, job) == [("v1", None, None, 1), ("v2", "billed", 3.0, 0)]
    assert await timed(desk) == [job.id]


async def test_it_is_forgotten_there_once_its_bill_is_known(desk: Desk, parser: FakeRemote) -> None:
    job, settle = await complete(desk), settle_of(desk, parser, forget=True)
    parser.add("v1", VendorState.COMPLETED)
    await tick(desk, settle, 10_000)
    assert parser.operations() == ["see"]
    parser.add("v1", VendorState.COMPLETED, credits=3.0)
    await tick(desk, settle, 10_000)
    assert parser.operations() == ["see", "see", "forget"]
    assert await lines(desk, job) == [("v1", "billed", 3.0, 0)]
    assert await timed(desk) == []


async def test_one_whose_bill_came_with_its_result_is_only_forgotten(
    desk: Desk, parser: FakeRemote
) -> None:
    job, settle = await complete(desk), settle_of(desk, parser, forget=True)
    parser.add("v1", VendorState.COMPLETED, credits=9.0)
    billed = {"parser": "llamaparse", "vendor_job_id": "v1", "outcome": "billed", "credits": 3.0}
    await desk.tables.write(lambda tx: tx.run("vendor.settle", micro_usd=0, **billed))
    parser.failures["forget"] = AWAY
    await tick(desk, settle, 10_000)
    assert await lines(desk, job) == [("v1", "billed", 3.0, 1)]
    parser.failures.clear()
    await tick(desk, settle, 10_000)
    assert parser.operations() == ["forget", "forget"]
    assert await lines(desk, job) == [("v1", "billed", 3.0, 0)]
    assert await timed(desk) == []


async def test_one_that_cannot_be_forgotten_there_is_left_after_a_week(
    desk: Desk, parser: FakeRemote
) -> None:
    job, settle = await complete(desk), settle_of(desk, parser, forget=True)
    parser.add("v1", VendorState.COMPLETED, credits=3.0)
    parser.failures["forget"] = PermanentError(Code.VENDOR_REFUSED, "405")
    await tick(desk, settle, 7 * DAY_MS)
    assert await timed(desk) == [job.id]
    await tick(desk, settle, HOUR_MS)
    assert await lines(desk, job) == [("v1", "billed", 3.0, 1)]
    assert await timed(desk) == []


async def test_all_attempts_of_a_job_are_settled_before_its_timer_goes(
    desk: Desk, parser: FakeRemote
) -> None:
    job, settle = await queue(desk), settle_of(desk, parser)
    stuck = ev.ParseFailed(job.id, "acme", 1, "vendor_stuck", "m", transient=True)
    again = ev.ParseQueued(job.id, "acme", 2, "llamaparse", "v2")
    await fold_events(desk, stuck, ev.RetryDue(job.id, "acme", 1), again)
    parser.add("v1", VendorState.CANCELLED, credits=1.0)
    parser.add("v2", VendorState.COMPLETED, credits=2.0)
    await tick(desk, settle, 10_000)
    assert await lines(desk, job) == [("v1", "billed", 1.0, 1), ("v2", None, None, 1)]
    assert await timed(desk) == [job.id]
    await fold_events(desk, ev.ParseSucceeded(job.id, "acme", 2, RESULT, "llamaparse", "9", 2))
    await tick(desk, settle, 10_000)
    assert await lines(desk, job) == [("v1", "billed", 1.0, 1), ("v2", "billed", 2.0, 1)]
    assert parser.calls == [("see", "v1"), ("see", "v2")]
    assert await timed(desk) == []


async def test_one_that_is_over_before_its_settling_ends_is_settled_next(
    desk: Desk, parser: FakeRemote
) -> None:
    """As where a vendor answers slowly, and the next attempt comes and goes meanwhile."""
    job, settle = await queue(desk), settle_of(desk, parser)
    stuck = ev.ParseFailed(job.id, "acme", 1, "vendor_stuck", "m", transient=True)
    await fold_events(desk, stuck, ev.RetryDue(job.id, "acme", 1))

    async def come_and_go() -> None:
        parser.during.clear()
        again = ev.ParseQueued(job.id, "acme", 2, "llamaparse", "v2")
        await fold_events(desk, again, ev.CancelRequested(job.id, "acme", 2))

    parser.add("v1", VendorState.CANCELLED, credits=1.0)
    parser.add("v2", VendorState.COMPLETED, credits=2.0)
    parser.during["see"] = come_and_go
    await tick(desk, settle, 10_000)
    assert await timed(desk) == [job.id]
    await tick(desk, settle, 10_000)
    assert await lines(desk, job) == [("v1", "billed", 1.0, 1), ("v2", "billed", 2.0, 1)]
    assert await timed(desk) == []


@pytest.mark.parametrize("forget", [False, True])
async def test_a_parser_that_is_not_configured_any_more_is_waited_for_a_day(
    desk: Desk, forget: bool
) -> None:
    job, settle = await complete(desk), settle_of(desk, forget=forget)
    await tick(desk, settle, DAY_MS)
    assert await lines(desk, job) == [("v1", None, None, 1)]
    assert await timed(desk) == [job.id]
    await tick(desk, settle, 10_000)
    assert await lines(desk, job) == [("v1", "never_told", None, 1)]
    assert await timed(desk) == []


async def test_one_that_is_not_shown_to_us_is_waited_for_a_day(
    desk: Desk, parser: FakeRemote
) -> None:
    job, settle = await complete(desk), settle_of(desk, parser, forget=True)
    parser.failures["see"] = TransientError(Code.VENDOR_LOST, "not shown")
    await tick(desk, settle, DAY_MS)
    assert await lines(desk, job) == [("v1", None, None, 1)]
    await tick(desk, settle, 10_000)
    assert await lines(desk, job) == [("v1", "never_told", None, 1)]
    assert await timed(desk) == []


@pytest.mark.parametrize("operation", ["see", "cancel"])
@pytest.mark.parametrize("failure", [AWAY, PermanentError(Code.VENDOR_REFUSED, "422")])
async def test_nothing_is_concluded_from_a_parser_that_is_away(
    desk: Desk, parser: FakeRemote, operation: str, failure: Exception
) -> None:
    job, settle = await complete(desk), settle_of(desk, parser)
    parser.add("v1")
    parser.failures[operation] = failure
    for _ in range(3):
        await tick(desk, settle, DAY_MS)
    assert await lines(desk, job) == [("v1", None, None, 1)]
    assert await timed(desk) == [job.id]
    parser.failures.clear()
    parser.add("v1", VendorState.COMPLETED, credits=3.0)
    await tick(desk, settle, HOUR_MS)
    assert await lines(desk, job) == [("v1", "billed", 3.0, 1)]


async def test_a_parser_that_is_away_keeps_no_other_from_being_asked(
    desk: Desk, parser: FakeRemote
) -> None:
    other = FakeRemote("another")
    await complete(desk)
    job = (await desk.upload(2)).job
    gone = ev.CancelRequested(job.id, "acme", 1)
    await fold_events(desk, ev.ParseQueued(job.id, "acme", 1, "another", "w1"), gone)
    parser.failures["see"] = AWAY
    other.add("w1", VendorState.COMPLETED, credits=3.0)
    await tick(desk, settle_of(desk, parser, other), 10_000)
    assert await lines(desk, job) == [("w1", "billed", 3.0, 1)]


async def test_two_at_once_ask_once(desk: Desk, parser: FakeRemote) -> None:
    job = await complete(desk)
    first, second = settle_of(desk, parser), settle_of(desk, parser)
    parser.add("v1", VendorState.COMPLETED, credits=3.0)
    parser.during["see"] = second.tick
    await tick(desk, first, 10_000)
    assert parser.calls == [("see", "v1")]
    assert await lines(desk, job) == [("v1", "billed", 3.0, 1)]
