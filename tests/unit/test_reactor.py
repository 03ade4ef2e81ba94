"""The reactor's ground: claimed at most once, leased, ended once, given back on shutdown."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.cost_events import CostReleased, CostReserved
from schemas.errors import Code
from schemas.job import Job, State
from schemas.topics import DOCUMENTS_UPLOADED, Topic
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit
from streams.leases import Leases
from streams.processor import Intend, ProcessorStoppedError
from streams.reactor import ReactorGround
from streams.reservations import BudgetSpentError
from streams.tables.base import Transaction
from tests.harness import NOW, Desk, event_of, fold_events, fold_said, open_memory_desk, record_of
from tests.money_desk import fold_costs, held, spend_of

P0 = Partition("documents.uploaded", 0)
RESULT = ev.BlobRef("acme/j/1/result", "b" * 64, 5)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


class Gate:
    """A reactor whose work waits until it is let through."""

    name = "parse"
    stage = "parse"
    topics: tuple[Topic, ...] = (DOCUMENTS_UPLOADED,)

    def __init__(self) -> None:
        self.began: asyncio.Queue[str] = asyncio.Queue()
        self.open = asyncio.Event()
        self.allowed = asyncio.Event()
        self.allowed.set()
        self.settled: list[tuple[str, bool]] = []
        self.error: BaseException | None = None
        self.parser = "p"
        self.spends = False
        self.resolved = True
        self.vendor_job_id: str | None = None
        self.fails = False
        self.refused: BudgetSpentError | None = None

    def started(self, offer: ev.DocumentUploaded, worker: str) -> ev.Body:
        return ev.ParseStarted(offer.job_id, offer.tenant, offer.attempt, worker)

    async def work(
        self, offer: ev.DocumentUploaded, traceparent: str | None, intend: Intend
    ) -> ev.Body | None:
        await self.allowed.wait()
        try:
            if self.spends:
                await intend(spend_of("elsewhere"))
        except BudgetSpentError as error:
            self.refused = error
            return _failed(offer, error.code)
        assert traceparent is not None
        self.began.put_nowait(offer.job_id)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        if not self.resolved:
            return None
        if self.fails:
            return _failed(offer, "vendor_failed")
        if self.vendor_job_id is not None:
            return ev.ParseQueued(
                offer.job_id, "acme", offer.attempt, "elsewhere", self.vendor_job_id
            )
        return ev.ParseSucceeded(offer.job_id, "acme", offer.attempt, RESULT, self.parser, "1", 1)

    async def settle(self, offer: ev.DocumentUploaded, end: ev.Body | None, *, kept: bool) -> None:
        assert offer.attempt >= 1
        self.settled.append((type(end).__name__, kept))


def _failed(offer: ev.DocumentUploaded, code: str) -> ev.ParseFailed:
    return ev.ParseFailed(offer.job_id, "acme", offer.attempt, code, "m", transient=False)


class Bench:
    def __init__(
        self, desk: Desk, owner: str = "w1", slots: int = 1, say_begun_seconds: float = 60
    ) -> None:
        self.reactor = Gate()
        self.leases = Leases(desk.tables, owner, 15_000, renew_seconds=1)
        limit = DeadLetterLimit("parse", "1", desk.tables, desk.recorder, most=2, window=10)
        self.ground = ReactorGround(
            self.reactor,
            desk.tables,
            self.leases,
            "c",
            limit,
            desk.recorder,
            slots=slots,
            say_begun_seconds=say_begun_seconds,
        )

    async def idle(self) -> None:
        """Wait until nothing is held."""
        while self.ground._held:
            await asyncio.wait(self.ground._held)


async def offers(desk: Desk, *numbers: int) -> tuple[list[Job], dict[Partition, Sequence[Record]]]:
    jobs = [(await desk.upload(number)).job for number in numbers]
    events = [e for e in desk.said() if isinstance(e.body, ev.DocumentUploaded)]
    return jobs, {P0: [record_of(e, "documents.uploaded", n) for n, e in enumerate(events)]}


def kinds(desk: Desk) -> list[str]:
    return [type(event.body).__name__ for event in desk.said()]


async def test_a_document_is_claimed_worked_on_and_ended(desk: Desk) -> None:
    bench = Bench(desk)
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    assert kinds(desk) == []
    (attempt,) = await desk.rows("attempts.of_job", job_id=job.id)
    assert (attempt["owner"], attempt["deadline_ms"]) == ("w1", NOW + 15_000)
    bench.reactor.open.set()
    await bench.idle()
    assert kinds(desk) == ["ParseStarted", "ParseSucceeded"]
    (attempt,) = await desk.rows("attempts.of_job", job_id=job.id)
    assert attempt["ended_ms"] == NOW
    assert bench.reactor.settled == [("ParseSucceeded", True)]


async def test_work_that_lasts_tells_its_begin_before_its_end(desk: Desk) -> None:
    bench = Bench(desk, say_begun_seconds=0)
    committed = asyncio.Event()
    desk.tables.on_commit(lambda rows: committed.set() if rows else None)
    _, batch = await offers(desk, 1)
    committed.clear()
    await bench.ground.handle(batch)
    await asyncio.wait_for(committed.wait(), 5)
    assert kinds(desk) == ["ParseStarted"]
    bench.reactor.open.set()
    await bench.idle()
    assert kinds(desk) == ["ParseSucceeded"]


async def test_an_intent_stands_on_the_attempt_with_a_whole_lease_ahead(desk: Desk) -> None:
    bench = Bench(desk)
    bench.reactor.spends = True
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    desk.clock.pass_ms(5_000)
    await bench.reactor.began.get()
    (attempt,) = await desk.rows("attempts.of_job", job_id=job.id)
    assert (attempt["intent_ms"], attempt["deadline_ms"]) == (NOW + 5_000, NOW + 20_000)
    bench.reactor.open.set()
    await bench.idle()


async def test_nothing_is_spent_for_a_cancelled_job(desk: Desk) -> None:
    bench = Bench(desk)
    bench.reactor.spends = True
    bench.reactor.allowed.clear()
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await fold_events(desk, ev.CancelRequested(job.id, "acme", 1))
    desk.said()
    bench.reactor.allowed.set()
    await bench.idle()
    assert bench.reactor.began.empty()
    assert bench.reactor.settled == [("NoneType", False)]
    assert kinds(desk) == []


async def test_work_with_an_unknown_end_is_left_to_its_lease(desk: Desk) -> None:
    bench = Bench(desk)
    bench.reactor.resolved = False
    bench.reactor.open.set()
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.idle()
    assert (kinds(desk), bench.reactor.settled) == ([], [])
    desk.clock.pass_ms(1_000)
    await bench.leases.renew()
    (attempt,) = await desk.rows("attempts.of_job", job_id=job.id)
    assert (attempt["ended_ms"], attempt["deadline_ms"]) == (None, NOW + 15_000)


@pytest.mark.parametrize("wish", [ev.CancelRequested, ev.DeleteRequested])
async def test_a_job_made_elsewhere_for_nobody_is_told_all_the_same(
    desk: Desk, wish: type[ev.CancelRequested | ev.DeleteRequested]
) -> None:
    bench = Bench(desk)
    bench.reactor.spends, bench.reactor.vendor_job_id = True, "v1"
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.reactor.began.get()
    await fold_events(desk, wish(job.id, "acme", 1))
    desk.said()
    bench.reactor.open.set()
    await bench.idle()
    assert bench.reactor.settled == [("ParseQueued", False)]
    assert await fold_said(desk) == [ev.ParseQueued(job.id, "acme", 1, "elsewhere", "v1")]
    (line,) = await desk.rows("vendor.of_job", job_id=job.id)
    assert (line["vendor_job_id"], line["settled_ms"]) == ("v1", None)
    assert [row["id"] for row in await desk.rows("vendor.due_settles", most=9)] == [job.id]


async def test_an_end_that_the_sweep_told_first_changes_nothing(desk: Desk) -> None:
    bench = Bench(desk)
    bench.reactor.spends, bench.reactor.vendor_job_id = True, "v1"
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.reactor.began.get()
    await fold_events(desk, ev.ParseQueued(job.id, "acme", 1, "elsewhere", "v1"))
    desk.said()
    bench.reactor.open.set()
    await bench.idle()
    assert kinds(desk) == ["ParseStarted", "ParseQueued"]
    (attempt,) = await desk.rows("attempts.of_job", job_id=job.id)
    assert attempt["ended_ms"] == NOW
    assert bench.reactor.settled == [("ParseQueued", True)]


async def test_the_trace_goes_along(desk: Desk) -> None:
    bench = Bench(desk)
    _, batch = await offers(desk, 1)
    bench.reactor.open.set()
    await bench.ground.handle(batch)
    await bench.idle()
    assert {event.traceparent for event in desk.said()} == {
        "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"
    }


async def test_an_offer_said_twice_is_worked_on_once(desk: Desk) -> None:
    first, second = Bench(desk), Bench(desk, "w2")
    _, batch = await offers(desk, 1)
    await first.ground.handle(batch)
    await second.ground.handle(batch)
    await first.ground.handle(batch)
    first.reactor.open.set()
    await first.idle()
    assert second.ground.room() == 2
    assert kinds(desk) == ["ParseStarted", "ParseSucceeded"]


async def test_an_old_attempts_offer_is_not_claimed(desk: Desk) -> None:
    bench = Bench(desk)
    (job,), batch = await offers(desk, 1)
    await fold_events(desk, ev.CancelRequested(job.id, "acme", 1))
    await bench.ground.handle(batch)
    assert bench.ground.room() == 2
    assert await desk.rows("attempts.of_job", job_id=job.id) == []


async def test_slots_bound_the_work_and_room_bounds_the_claims(desk: Desk) -> None:
    bench = Bench(desk, slots=2)
    _, batch = await offers(desk, 1, 2, 3, 4)
    assert bench.ground.room() == 4
    await bench.ground.handle(batch)
    assert bench.ground.room() == 0
    await bench.reactor.began.get()
    await bench.reactor.began.get()
    assert bench.reactor.began.empty()
    bench.reactor.open.set()
    await asyncio.wait_for(bench.ground.wait_for_room(), 5)
    await bench.idle()
    assert bench.ground.room() == 4


async def test_renewing_moves_the_deadline(desk: Desk) -> None:
    bench = Bench(desk)
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.reactor.began.get()
    desk.clock.pass_ms(20_000)
    await bench.leases.renew()
    (attempt,) = await desk.rows("attempts.of_job", job_id=job.id)
    assert attempt["deadline_ms"] == NOW + 35_000
    bench.reactor.open.set()
    await bench.idle()
    assert bench.reactor.settled == [("ParseSucceeded", True)]


async def test_a_cancelled_job_stops_its_work_at_the_next_renewal(desk: Desk) -> None:
    bench = Bench(desk)
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.reactor.began.get()
    await fold_events(desk, ev.CancelRequested(job.id, "acme", 1))
    desk.said()
    await bench.leases.renew()
    await asyncio.wait_for(bench.idle(), 5)
    assert kinds(desk) == []
    assert bench.reactor.settled == [("NoneType", False)]


async def test_a_zombies_work_is_thrown_away(desk: Desk) -> None:
    zombie, heir = Bench(desk, "zombie"), Bench(desk, "heir")
    (job,), batch = await offers(desk, 1)
    await zombie.ground.handle(batch)
    await zombie.reactor.began.get()
    lost = ev.ParseFailed(job.id, "acme", 1, "worker_lost", "m", transient=True)
    await fold_events(desk, lost, ev.RetryDue(job.id, "acme", 1))
    offered = [e for e in desk.said() if isinstance(e.body, ev.DocumentUploaded)]
    await heir.ground.handle({P0: [record_of(offered[0], "documents.uploaded", 9)]})
    heir.reactor.open.set()
    await heir.idle()
    desk.said()
    zombie.reactor.open.set()
    await zombie.idle()
    assert kinds(desk) == []
    assert zombie.reactor.settled == [("ParseSucceeded", False)]
    assert heir.reactor.settled == [("ParseSucceeded", True)]


async def test_a_bug_in_the_work_is_a_dead_letter_and_a_failed_job(desk: Desk) -> None:
    bench = Bench(desk)
    bench.reactor.error = ZeroDivisionError("bug")
    bench.reactor.open.set()
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.idle()
    ends = [e.body for e in desk.said() if isinstance(e.body, ev.ParseFailed)]
    assert [(e.code, e.transient) for e in ends] == [("poison_event", False)]
    assert "bug" not in ends[0].message
    (letter,) = await desk.rows("positions.letters", before=10, most=10)
    assert (letter["key_text"], letter["reason"]) == (job.id, "ZeroDivisionError('bug')")


async def test_work_that_cancels_itself_has_a_bug_and_is_not_put_off(desk: Desk) -> None:
    bench = Bench(desk)
    bench.reactor.error = asyncio.CancelledError()
    bench.reactor.open.set()
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.idle()
    ends = [e.body for e in desk.said() if not isinstance(e.body, ev.ParseStarted)]
    assert [type(end).__name__ for end in ends] == ["ParseFailed"]
    (letter,) = await desk.rows("positions.letters", before=10, most=10)
    assert letter["key_text"] == job.id
    assert letter["reason"] == "CancelledError('nobody asked for it')"


async def test_an_end_that_cannot_be_written_is_a_dead_letter_too(desk: Desk) -> None:
    bench = Bench(desk)
    bench.reactor.parser = "\ud800"
    bench.reactor.open.set()
    _, batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.idle()
    ends = [e.body for e in desk.said() if isinstance(e.body, ev.ParseFailed)]
    assert [(e.code, e.transient) for e in ends] == [("poison_event", False)]
    (letter,) = await desk.rows("positions.letters", before=10, most=10)
    assert "surrogates" in letter["reason"]


async def test_what_is_no_offer_is_a_dead_letter_and_the_rest_is_claimed(desk: Desk) -> None:
    bench = Bench(desk, slots=2)
    _, batch = await offers(desk, 1)
    garbage = Record(P0, 7, b"k", b"\xff", (), NOW)
    stray = record_of(event_of(ev.RetryDue("j", "acme", 1)), "documents.uploaded", 8)
    await bench.ground.handle({P0: [garbage, stray, *batch[P0]]})
    assert bench.ground.room() == 3
    letters = await desk.rows("positions.letters", before=10, most=10)
    assert [letter["record_offset"] for letter in letters] == [8, 7]
    with pytest.raises(ProcessorStoppedError):
        await bench.ground.handle({P0: [garbage]})
    await bench.ground.drain(0.01)


async def test_draining_finishes_what_it_can_and_puts_off_the_rest(desk: Desk) -> None:
    bench = Bench(desk)
    (_, waiting), batch = await offers(desk, 1, 2)
    await bench.ground.handle(batch)
    await bench.reactor.began.get()
    desk.said()
    draining = asyncio.create_task(bench.ground.drain(5))
    await asyncio.sleep(0)
    bench.reactor.open.set()
    await draining
    ends = {type(e.body).__name__: e.body for e in desk.said()}
    assert set(ends) == {"ParseStarted", "ParseSucceeded", "ParseDeferred"}
    assert ends["ParseDeferred"] == ev.ParseDeferred(waiting.id, "acme", 1, Code.SHUTDOWN)


async def test_draining_ends_at_its_deadline(desk: Desk) -> None:
    bench = Bench(desk)
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.reactor.began.get()
    desk.said()
    await bench.ground.drain(0.01)
    await bench.idle()
    assert kinds(desk) == ["ParseStarted", "ParseDeferred"]
    await fold_events(desk, ev.ParseDeferred(job.id, "acme", 1, Code.SHUTDOWN))
    assert (await desk.job(job.id)).state is State.RETRY_WAIT


async def test_an_end_said_again_after_a_lost_answer_counts_as_kept(desk: Desk) -> None:
    bench = Bench(desk)
    _, batch = await offers(desk, 1)
    await bench.ground.handle(batch)

    async def end(tx: Transaction) -> int:
        return await tx.run(
            "attempts.end", job_id=(await _only_job(tx)), attempt=1, stage="parse", owner="w1"
        )

    assert await desk.tables.write(end) == 1
    bench.reactor.open.set()
    await bench.idle()
    assert bench.reactor.settled == [("ParseSucceeded", True)]


async def _only_job(tx: Transaction) -> str:
    (row,) = await tx.all("jobs.page", tenant="acme", before="~", most=2)
    return str(row["id"])


@pytest.mark.parametrize("failed", [False, True])
async def test_money_that_was_held_for_nothing_is_given_back_with_the_end(
    desk: Desk, failed: bool
) -> None:
    bench = Bench(desk)
    bench.reactor.spends, bench.reactor.fails = True, failed
    bench.reactor.open.set()
    _, batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.idle()
    reserved, released = await fold_costs(desk)
    assert (type(reserved), type(released)) == (CostReserved, CostReleased)
    assert isinstance(released, CostReleased)
    assert released.reason == ("vendor_failed" if failed else "served_here")
    assert await held(desk) == 0


async def test_money_for_a_job_elsewhere_stays_held_until_its_bill(desk: Desk) -> None:
    bench = Bench(desk)
    bench.reactor.spends, bench.reactor.vendor_job_id = True, "v1"
    bench.reactor.open.set()
    _, batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.idle()
    assert [type(body) for body in await fold_costs(desk)] == [CostReserved]
    assert await held(desk) == 37_500


async def test_without_money_nothing_is_intended(desk: Desk) -> None:
    bench = Bench(desk)
    bench.reactor.spends = True
    budget = {"id": "deployment/day", "scope": "deployment", "subject": "", "period": "day"}
    limits = {"limit_micro_usd": 37_499, "limit_pages": None, "limit_requests": None}
    await desk.tables.write(
        lambda tx: tx.run("money.set_budget", hard=1, policy="reject", **budget, **limits)
    )
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.idle()
    assert isinstance(bench.reactor.refused, BudgetSpentError)
    (attempt,) = await desk.rows("attempts.of_job", job_id=job.id)
    assert (attempt["intent_ms"], attempt["ended_ms"]) == (None, NOW)
    assert await fold_costs(desk) == []


async def test_a_defect_after_the_intent_is_left_to_the_sweep_and_shown(desk: Desk) -> None:
    """A job elsewhere may be there: its money stays held, and its attempt open."""
    bench = Bench(desk)
    bench.reactor.spends, bench.reactor.error = True, ValueError("a defect")
    bench.reactor.open.set()
    (job,), batch = await offers(desk, 1)
    await bench.ground.handle(batch)
    await bench.idle()
    assert (kinds(desk), bench.reactor.settled) == ([], [])
    (attempt,) = await desk.rows("attempts.of_job", job_id=job.id)
    assert (attempt["intent_ms"], attempt["ended_ms"]) == (NOW, None)
    assert await held(desk) == 37_500
    (letter,) = await desk.rows("positions.letters", before=10**9, most=9)
    assert letter["reason"] == "ValueError('a defect')"
