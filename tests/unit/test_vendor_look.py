"""The look at a job elsewhere: what it has become is fetched, kept and said, each thing once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.cost_events import CostCorrected
from schemas.errors import Code, PermanentError, TransientError
from schemas.events import Event
from schemas.job import Job, State
from streams.blobs.disk import DiskBlobs
from streams.janitor import Janitor
from streams.parsers.base import Page, Parsed, VendorState
from streams.processor import Parked
from streams.results import decode
from streams.vendor_look import VendorLook
from tests.fakes import FakeRemote
from tests.harness import Desk, fold_events, fold_whole, open_memory_desk, queue, submission_of
from tests.money_desk import BILLING, fold_costs, held, hold, spend_of, spent

AWAY = TransientError(Code.PARSER_UNAVAILABLE, "no connection")
REFUSED = PermanentError(Code.VENDOR_REFUSED, "422")


class Heard:
    """Telemetry that keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, int]] = []

    def emit(self, body: ev.StageTimed | ev.ServiceCalled, traceparent: str | None = None) -> None:
        assert isinstance(body, ev.ServiceCalled)
        assert traceparent == submission_of().traceparent
        self.calls.append((body.operation, body.outcome, body.pages))


class Room:
    """A desk, a parser elsewhere, and the one that looks there."""

    def __init__(self, desk: Desk, blobs: DiskBlobs) -> None:
        self.desk = desk
        self.blobs = blobs
        self.parser = FakeRemote()
        self.heard = Heard()
        self.look = self.look_of(5)

    def look_of(self, seconds: float) -> VendorLook:
        return VendorLook(
            self.parser,
            self.desk.tables,
            self.blobs,
            self.heard,
            self.desk.recorder,
            BILLING,
            seconds=seconds,
        )

    async def at(self, vendor_job_id: str = "v1") -> list[ev.Body]:
        """Look, and tell what was said; nothing may be parked."""
        assert await self.look.at(vendor_job_id) is None
        return [event.body for event in self.desk.said()]

    async def parked(self, vendor_job_id: str = "v1") -> str:
        """Look, and tell why that was put aside; nothing may be said."""
        parked = await self.look.at(vendor_job_id)
        assert isinstance(parked, Parked)
        assert (parked.code, self.desk.said()) == ("webhook_unknown", [])
        return parked.reason

    async def lines(self, job: Job) -> list[tuple[str, int, str | None, float | None]]:
        """Give (id there, attempt, outcome, credits) of a job's vendor jobs."""
        rows = await self.desk.rows("vendor.of_job", job_id=job.id)
        return [(r["vendor_job_id"], r["attempt"], r["outcome"], r["credits"]) for r in rows]

    async def started(self) -> Job:
        """Put in a job whose submission is under way."""
        job = (await self.desk.upload()).job
        await fold_events(self.desk, ev.ParseStarted(job.id, "acme", 1, "w"))
        self.desk.said()
        return await self.desk.job(job.id)

    async def retried(self) -> Job:
        """Put in a job that was elsewhere as v1, and is there as v2 by its second attempt."""
        job = await queue(self.desk)
        stuck = ev.ParseFailed(job.id, "acme", 1, "vendor_stuck", "m", transient=True)
        again = ev.ParseQueued(job.id, "acme", 2, "llamaparse", "v2")
        await fold_events(self.desk, stuck, ev.RetryDue(job.id, "acme", 1), again)
        self.desk.said()
        return await self.desk.job(job.id)


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_memory_desk() as desk:
        yield Room(desk, DiskBlobs(tmp_path / "blobs"))


def failed(job: Job, code: str, message: str, *, transient: bool) -> ev.ParseFailed:
    return ev.ParseFailed(job.id, "acme", 1, code, message, transient, "llamaparse")


async def test_a_result_is_fetched_kept_and_said(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1, credits=3.0)
    (end,) = await room.at()
    assert isinstance(end, ev.ParseSucceeded)
    assert (end.job_id, end.tenant, end.attempt) == (job.id, "acme", 1)
    assert (end.parser, end.parser_version, end.pages) == ("llamaparse", "9", 2)
    kept = decode(await room.blobs.read(end.result))
    assert [(page.number, page.markdown) for page in kept.pages] == [(1, "# 1"), (2, "# 2")]
    assert await room.lines(job) == [("v1", 1, "billed", 3.0)]
    assert room.heard.calls == [("fetch", "ok", 2)]
    await fold_events(room.desk, end)
    assert (await room.desk.job(job.id)).state is State.COMPLETE


@pytest.mark.parametrize(("credits_billed", "price"), [(None, None), (0.0, 0), (3.0, 6_000)])
async def test_the_result_says_what_it_cost_as_far_as_that_is_known(
    room: Room, credits_billed: float | None, price: int | None
) -> None:
    job = await queue(room.desk)
    # At the price of the moment that the money was held at, whatever it is today.
    await hold(room.desk, job.id, spend=replace(spend_of(), micro_usd_per_kilocredit=2_000_000))
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    room.parser.results["v1"] = replace(room.parser.results["v1"], credits=credits_billed)
    (end,) = await room.at()
    assert isinstance(end, ev.ParseSucceeded)
    kept = orjson.loads(await room.blobs.read(end.result))
    assert kept["price_micro_usd"] == price


async def test_a_bill_that_is_not_known_yet_is_left_to_the_settling(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    await room.at()
    assert await room.lines(job) == [("v1", 1, None, None)]


async def test_what_is_looked_at_twice_is_said_by_one_id_and_kept_once(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    said: list[Event] = []
    for credits_known in (None, 3.0):
        room.parser.add("v1", VendorState.COMPLETED, credits=credits_known)
        assert await room.look.at("v1") is None
        said += room.desk.said()
    assert [event.id for event in said] == [said[0].id] * 2
    assert said[0].body == said[1].body
    await fold_whole(room.desk, said)
    assert [kind for kind, _, _ in await room.desk.history(job.id)] == [
        "DocumentUploaded",
        "ParseQueued",
        "ParseSucceeded",
        "ParseSucceeded",
    ]
    assert await room.lines(job) == [("v1", 1, "billed", 3.0)]


async def test_two_looks_at_once_name_the_same_result(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    async with asyncio.timeout(5):
        await asyncio.gather(room.look.at("v1"), room.look_of(5).at("v1"))
    first, second = (event.body for event in room.desk.said())
    assert first == second
    assert isinstance(first, ev.ParseSucceeded)
    assert len(decode(await room.blobs.read(first.result)).pages) == 2


@pytest.mark.parametrize("transient", [True, False])
async def test_a_failure_there_is_told_as_it_was_told(room: Room, transient: bool) -> None:
    job = await queue(room.desk)
    room.parser.add(
        "v1",
        VendorState.FAILED,
        job_id=job.id,
        attempt=1,
        code=Code.DOCUMENT_BROKEN,
        message="m" * 501,
        transient=transient,
    )
    assert await room.at() == [failed(job, "document_broken", "m" * 500, transient=transient)]
    assert room.parser.operations() == ["see"]


async def test_a_failure_without_a_reason_says_so(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.FAILED, job_id=job.id, attempt=1)
    why = "the parser does not say why"
    assert await room.at() == [failed(job, "vendor_failed", why, transient=False)]


async def test_another_result_of_the_same_attempt_does_not_change_what_is_kept(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    (first,) = await room.at()
    assert isinstance(first, ev.ParseSucceeded)
    room.parser.results["v1"] = Parsed([Page(1, "# other", "other")], "llamaparse", "9")
    room.parser.add("v2", VendorState.COMPLETED, job_id=job.id, attempt=1)
    room.parser.results["v2"] = room.parser.results["v1"]
    await room.at("v1")
    await room.at("v2")
    kept = decode(await room.blobs.read(first.result))
    assert [page.markdown for page in kept.pages] == ["# 1", "# 2"]


async def test_one_that_was_cancelled_there_is_tried_again(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.CANCELLED, job_id=job.id, attempt=1)
    why = "somebody cancelled the job there"
    (end,) = await room.at()
    assert end == failed(job, "vendor_cancelled", why, transient=True)
    await fold_events(room.desk, end)
    assert (await room.desk.job(job.id)).state is State.RETRY_WAIT


async def test_a_result_that_can_never_be_fetched_fails_the_job(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1, credits=3.0)
    room.parser.failures["fetch"] = PermanentError(Code.ARTIFACT_UNUSABLE, "no pages")
    assert await room.at() == [failed(job, "artifact_unusable", "no pages", transient=False)]
    assert await room.lines(job) == [("v1", 1, "billed", 3.0)]
    assert room.heard.calls == [("fetch", "artifact_unusable", 0)]


@pytest.mark.parametrize(
    ("operation", "failure"), [("see", AWAY), ("fetch", AWAY), ("see", REFUSED)]
)
async def test_a_vendor_without_an_answer_is_left_to_the_sweep(
    room: Room, operation: str, failure: Exception
) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    room.parser.failures[operation] = failure
    assert await room.at() == []
    assert (await room.desk.job(job.id)).state is State.PARSE_QUEUED
    assert await room.desk.untimed() == 0


async def test_a_fetch_without_an_answer_is_measured_by_its_trouble(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    room.parser.failures["fetch"] = AWAY
    assert await room.at() == []
    assert room.heard.calls == [("fetch", "parser_unavailable", 0)]


@pytest.mark.parametrize("code", [Code.VENDOR_LOST, Code.VENDOR_FAILED, Code.PARSE_TIMEOUT])
async def test_a_result_that_is_not_to_be_had_for_hours_is_given_up(room: Room, code: Code) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    room.parser.failures["fetch"] = TransientError(code, "no result")
    room.desk.clock.pass_ms(4 * 3_600_000)
    assert await room.at() == []
    room.desk.clock.pass_ms(1)
    assert await room.at() == [failed(job, code.value, "no result", transient=True)]


async def test_a_result_that_takes_too_long_for_hours_is_given_up(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    room.parser.during["fetch"] = asyncio.Event().wait
    room.look = room.look_of(0.5)
    assert await room.at() == []
    room.desk.clock.pass_ms(4 * 3_600_000 + 1)
    (end,) = await room.at()
    assert isinstance(end, ev.ParseFailed)
    assert (end.code, end.transient) == ("parse_timeout", True)


async def test_no_result_is_given_up_because_the_vendor_is_away(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    room.parser.failures["fetch"] = AWAY
    room.desk.clock.pass_ms(48 * 3_600_000)
    assert await room.at() == []
    room.parser.failures.clear()
    assert [type(body).__name__ for body in await room.at()] == ["ParseSucceeded"]


async def test_a_vendor_that_answers_too_slowly_is_left_to_the_sweep(room: Room) -> None:
    await queue(room.desk)
    room.look = room.look_of(0.01)
    room.parser.during["see"] = asyncio.Event().wait
    async with asyncio.timeout(5):
        assert await room.at() == []


async def test_trouble_of_our_own_is_nothing_to_be_left_to_anybody(
    room: Room, tmp_path: Path
) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    (tmp_path / "file").write_bytes(b"")
    room.blobs = DiskBlobs(tmp_path / "file")
    with pytest.raises(TransientError) as caught:
        await room.look_of(5).at("v1")
    assert caught.value.code == "storage_unavailable"


async def test_one_that_is_pending_is_waited_for(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", job_id=job.id, attempt=1)
    assert await room.at() == []
    assert room.parser.operations() == ["see"]


async def test_one_that_is_pending_before_its_submission_was_answered_is_told(room: Room) -> None:
    job = await room.started()
    room.parser.add("v1", job_id=job.id, attempt=1)
    (told,) = await room.at()
    assert told == ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1")
    await fold_events(room.desk, told)
    assert (await room.desk.job(job.id)).state is State.PARSE_QUEUED


async def test_one_that_ended_before_its_submission_was_answered_is_told_and_settled(
    room: Room,
) -> None:
    """The worker may have died meanwhile, and never tell of the job."""
    job = await room.started()
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    told, end = await room.at()
    assert told == ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1", finished=True)
    assert isinstance(end, ev.ParseSucceeded)
    await fold_events(room.desk, told, end)
    after = await room.desk.job(job.id)
    assert (after.state, after.vendor_job_id) == (State.COMPLETE, "v1")
    room.desk.clock.pass_ms(10_000)
    assert [row["id"] for row in await room.desk.rows("vendor.due_settles", most=9)] == [job.id]


async def test_the_answer_to_the_submission_may_come_after_the_end(room: Room) -> None:
    job = await room.started()
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    late = ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1")
    await fold_events(room.desk, *await room.at(), late)
    assert (await room.desk.job(job.id)).state is State.COMPLETE
    assert await room.lines(job) == [("v1", 1, None, None)]


async def test_one_of_an_earlier_attempt_is_booked_and_changes_nothing_else(room: Room) -> None:
    job = await room.started()
    lost = ev.ParseFailed(job.id, "acme", 1, "worker_lost", "m", transient=True)
    await fold_events(room.desk, lost, ev.RetryDue(job.id, "acme", 1))
    room.desk.said()
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    (told,) = await room.at()
    assert told == ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v1", finished=True)
    await fold_events(room.desk, told)
    assert await room.lines(job) == [("v1", 1, None, None)]
    room.desk.said()
    assert await room.at() == []
    assert room.parser.operations() == ["see", "see"]
    assert (await room.desk.job(job.id)).state is State.UPLOADED


async def test_two_looks_at_an_earlier_attempts_say_it_by_one_id(room: Room) -> None:
    job = await queue(room.desk)
    await fold_events(room.desk, ev.CancelRequested(job.id, "acme", 1))
    room.desk.said()
    room.parser.add("v0", job_id=job.id, attempt=1)
    for _ in range(2):
        assert await room.look.at("v0") is None
    first, second = room.desk.said()
    assert (first.id, first.body) == (second.id, second.body)


@pytest.mark.parametrize("state", [VendorState.COMPLETED, VendorState.FAILED])
async def test_one_that_is_booked_and_over_is_of_no_interest(
    room: Room, state: VendorState
) -> None:
    job = await room.retried()
    room.parser.add("v1", state, job_id=job.id, attempt=1)
    assert await room.at() == []
    assert (await room.desk.job(job.id)).attempt == 2


@pytest.mark.parametrize("state", [VendorState.PENDING, VendorState.FAILED, VendorState.CANCELLED])
async def test_a_second_one_of_its_attempt_is_booked_and_does_not_fail_the_job(
    room: Room, state: VendorState
) -> None:
    """It is stopped there, since nobody waits for it; then it ends, and says so."""
    job = await queue(room.desk)
    room.parser.add("v2", state, job_id=job.id, attempt=1)
    finished = state is not VendorState.PENDING
    (told,) = await room.at("v2")
    assert told == ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v2", finished=finished)
    await fold_events(room.desk, told)
    assert await room.at("v2") == []
    assert (await room.desk.job(job.id)).vendor_job_id == "v1"


async def test_a_second_one_of_its_attempt_may_serve_the_job(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v2", VendorState.COMPLETED, job_id=job.id, attempt=1)
    (end,) = await room.at("v2")
    assert isinstance(end, ev.ParseSucceeded)
    assert await room.lines(job) == [("v1", 1, None, None), ("v2", 1, None, None)]


async def test_without_user_metadata_the_row_says_whose_it_is(room: Room) -> None:
    job = await room.retried()
    room.parser.add("v2", VendorState.COMPLETED)
    (end,) = await room.at("v2")
    assert isinstance(end, ev.ParseSucceeded)
    assert (end.job_id, end.attempt) == (job.id, 2)
    assert end.result.key == f"acme/{job.id}/2/elsewhere"
    room.parser.add("v1", VendorState.COMPLETED)
    assert await room.at("v1") == []


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"job_id": "0190a5a6-0000-7000-8000-000000000001", "attempt": 1},
        {"job_id": "not an id", "attempt": 1},
        {"attempt": 1},
    ],
)
async def test_one_that_is_none_of_ours_is_put_aside(
    room: Room, metadata: dict[str, object]
) -> None:
    await queue(room.desk)
    room.parser.add("v7", VendorState.COMPLETED, **metadata)
    assert await room.parked("v7") == "llamaparse made a job that is none of ours"
    assert room.parser.operations() == ["see"]


async def test_one_that_names_a_job_and_no_attempt_is_put_aside(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v7", VendorState.COMPLETED, job_id=job.id)
    assert await room.parked("v7") == "llamaparse made a job that is none of ours"


async def test_one_that_is_unknown_there_is_put_aside(room: Room) -> None:
    await queue(room.desk)
    assert await room.parked() == "llamaparse does not know the job that the webhook names"


async def test_one_of_another_project_is_put_aside(room: Room) -> None:
    await queue(room.desk)
    room.parser.failures["see"] = TransientError(Code.VENDOR_LOST, "not shown")
    assert await room.parked() == "llamaparse does not know the job that the webhook names"


async def test_one_that_was_settled_and_deleted_there_is_put_aside_no_more(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1, credits=3.0)
    await room.at()
    await room.parser.forget("v1")
    assert await room.at() == []


async def test_a_deleted_jobs_is_booked_and_its_result_left_there(room: Room) -> None:
    job = await queue(room.desk)
    await fold_events(room.desk, ev.DeleteRequested(job.id, "acme", 1))
    room.desk.said()
    for name in ("v1", "v2"):
        room.parser.add(name, VendorState.COMPLETED, job_id=job.id, attempt=1)
    assert await room.at("v1") == []
    (told,) = await room.at("v2")
    assert told == ev.ParseQueued(job.id, "acme", 1, "llamaparse", "v2", finished=True)
    assert room.parser.operations() == ["see", "see"]
    assert [stored async for stored in room.blobs.list_all()] == []


async def test_a_job_that_moves_while_its_result_is_fetched_stays_where_it_is(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)

    async def cancel() -> None:
        await fold_events(room.desk, ev.CancelRequested(job.id, "acme", 1))
        room.desk.said()

    room.parser.during["fetch"] = cancel
    await fold_events(room.desk, *await room.at())
    assert (await room.desk.job(job.id)).state is State.CANCELLED
    assert (await room.desk.history(job.id))[-1] == ("ParseSucceeded", None, None)


async def test_a_result_that_comes_after_its_job_was_erased_is_not_left_behind(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)
    janitor = Janitor(room.desk.tables, room.blobs)

    async def erase() -> None:
        await fold_events(room.desk, ev.DeleteRequested(job.id, "acme", 1))
        assert await janitor.erase_deleted() == 1

    room.parser.during["fetch"] = erase
    await room.at()
    assert [stored async for stored in room.blobs.list_all()] == []


async def test_a_second_fetch_leaves_the_result_of_the_first(room: Room) -> None:
    job = await queue(room.desk)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1)

    async def another_looks() -> None:
        room.parser.during.clear()
        await fold_events(room.desk, *await room.at())

    room.parser.during["fetch"] = another_looks
    await room.at()
    after = await room.desk.job(job.id)
    assert after.result is not None
    assert len(decode(await room.blobs.read(after.result)).pages) == 2


async def test_a_bill_that_changed_after_the_job_was_settled_is_corrected(room: Room) -> None:
    job = await queue(room.desk)
    await hold(room.desk, job.id)
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1, credits=3.0)
    (end,) = await room.at()
    await fold_events(room.desk, end)
    await fold_costs(room.desk)
    assert await spent(room.desk) == 3_750
    room.parser.add("v1", VendorState.COMPLETED, job_id=job.id, attempt=1, credits=6.0)
    assert await room.at() == []
    assert await room.at() == []
    (corrected,) = await fold_costs(room.desk)
    assert isinstance(corrected, CostCorrected)
    assert (await spent(room.desk), await held(room.desk)) == (7_500, 0)
    assert await room.lines(job) == [("v1", 1, "billed", 6.0)]
