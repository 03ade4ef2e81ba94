"""The parse reactor's way elsewhere: what each end of a submission becomes, and who stands in."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from schemas import events as ev
from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from schemas.events import Mode
from schemas.money import Policy, Spend
from streams.attempts import AttemptLostError
from streams.blobs.disk import DiskBlobs
from streams.metrics import Recorder
from streams.parse import Parse
from streams.parsers.base import SubmissionUnresolvedError, VendorState
from streams.parsers.router import Router
from streams.reservations import BudgetSpentError
from tests.fakes import FakeRemote
from tests.money_desk import FakePurse
from tests.unit.test_parse import TRACE, Room, Scripted

CIRCUIT = TransientError(Code.CIRCUIT_OPEN, "m")


class Elsewhere(Room):
    """A room with a parser elsewhere, one of this machine, and a mode."""

    def __init__(self, blobs: DiskBlobs) -> None:
        super().__init__(blobs)
        self.remote = FakeRemote()
        self.mode: Mode = "hybrid"
        self.lease_seconds = 15.0
        self.forbids: Exception | None = None
        router = Router([self.parser], cloud=self.remote, mode=lambda: self.mode)
        self.purse = FakePurse()
        self.parse = Parse(
            router, blobs, self.purse, self.heard, Recorder(CollectorRegistry()), slots=1
        )

    async def intend(self, spend: Spend) -> float:
        self.remote.calls.append(("intend", spend.service))
        if self.forbids is not None:
            raise self.forbids
        return self.lease_seconds

    async def work(self) -> ev.Body | None:
        return await self.parse.work(await self.offer(), TRACE, self.intend)

    def measured(self) -> list[tuple[str, str, str]]:
        """Give (service, operation, outcome) of every call, and of the whole as its last."""
        return [
            (
                body.service,
                body.stage if isinstance(body, ev.StageTimed) else body.operation,
                body.outcome,
            )
            for body in self.heard.bodies
        ]


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Elsewhere]:
    yield Elsewhere(DiskBlobs(tmp_path))


async def test_a_submitted_document_is_said_to_be_there(room: Elsewhere) -> None:
    assert await room.work() == ev.ParseQueued("job", "acme", 1, "llamaparse", "job-1")
    assert room.remote.calls == [
        ("upload", "job"),
        ("intend", "llamaparse"),
        ("submit", "file-job"),
    ]
    assert room.remote.held_pages == [10]
    assert room.parser.seen == []
    assert room.measured() == [("llamaparse", "submit", "ok"), ("llamaparse", "parse", "ok")]


@pytest.mark.parametrize(
    "state", [VendorState.COMPLETED, VendorState.FAILED, VendorState.CANCELLED]
)
async def test_one_that_ended_at_once_is_said_to_be_finished(
    room: Elsewhere, state: VendorState
) -> None:
    room.remote.answers = state
    end = await room.work()
    assert end == ev.ParseQueued("job", "acme", 1, "llamaparse", "job-1", finished=True)


@pytest.mark.parametrize("mode", ["real", "hybrid"])
async def test_an_unresolved_submission_has_no_end_and_nobody_stands_in(
    room: Elsewhere, mode: Mode
) -> None:
    room.mode = mode
    room.remote.failures["submit"] = SubmissionUnresolvedError("the answer was lost")
    assert await room.work() is None
    assert room.parser.seen == []
    assert room.remote.operations() == ["upload", "intend", "submit"]
    assert room.measured() == [
        ("llamaparse", "submit", "unresolved"),
        ("llamaparse", "parse", "unresolved"),
    ]


@pytest.mark.parametrize("operation", ["upload", "submit"])
@pytest.mark.parametrize(
    "error",
    [
        CIRCUIT,
        TransientError(Code.VENDOR_RATE_LIMITED, "m"),
        TransientError(Code.VENDOR_QUOTA_SPENT, "m"),
        TransientError(Code.VENDOR_UNAUTHORIZED, "m"),
        TransientError(Code.VENDOR_FAILED, "m"),
        TransientError(Code.PARSER_UNAVAILABLE, "m"),
        PermanentError(Code.DOCUMENT_TOO_LARGE, "m"),
        PermanentError(Code.VENDOR_REFUSED, "m"),
    ],
    ids=lambda given: given.code,
)
async def test_where_there_surely_is_no_job_the_local_parser_stands_in(
    room: Elsewhere, operation: str, error: ParsewireError
) -> None:
    room.remote.failures[operation] = error
    end = await room.work()
    assert isinstance(end, ev.ParseSucceeded)
    assert (end.parser, end.result.key) == ("scripted", "acme/job/1/result")
    assert room.measured() == [
        ("llamaparse", "submit", error.code),
        ("scripted", "parse", "ok"),
        ("scripted", "parse", "ok"),
    ]


async def test_what_the_one_that_stands_in_cannot_do_fails_by_its_own_name(
    room: Elsewhere,
) -> None:
    room.remote.failures["upload"] = CIRCUIT
    room.parser.error = PermanentError(Code.DOCUMENT_HAS_NO_TEXT, "m")
    assert await room.work() == ev.ParseFailed(
        "job", "acme", 1, "document_has_no_text", "m", transient=False, parser="scripted"
    )


@pytest.mark.parametrize("mode", ["real", "hybrid"])
async def test_what_is_said_of_the_document_itself_is_its_end(room: Elsewhere, mode: Mode) -> None:
    room.mode = mode
    room.remote.failures["submit"] = PermanentError(Code.DOCUMENT_ENCRYPTED, "m")
    assert await room.work() == ev.ParseFailed(
        "job", "acme", 1, "document_encrypted", "m", transient=False, parser="llamaparse"
    )
    assert room.parser.seen == []


@pytest.mark.parametrize(
    ("code", "seconds"),
    [
        (Code.STORAGE_UNAVAILABLE, 10.0),
        (Code.TABLES_UNAVAILABLE, 10.0),
        (Code.CIRCUIT_OPEN, 30.0),
        (Code.VENDOR_RATE_LIMITED, 30.0),
        (Code.VENDOR_UNAUTHORIZED, 300.0),
        (Code.VENDOR_QUOTA_SPENT, 300.0),
    ],
)
async def test_trouble_that_is_not_the_documents_puts_it_off(
    room: Elsewhere, code: Code, seconds: float
) -> None:
    room.mode = "real"
    room.remote.failures["upload"] = TransientError(code, "m")
    assert await room.work() == ev.ParseDeferred("job", "acme", 1, code, seconds)
    room.remote.failures["upload"] = TransientError(code, "m", retry_after_seconds=7.5)
    assert await room.work() == ev.ParseDeferred("job", "acme", 1, code, 7.5)


@pytest.mark.parametrize("code", [Code.VENDOR_FAILED, Code.PARSER_UNAVAILABLE])
async def test_trouble_there_uses_up_a_try_where_nobody_may_stand_in(
    room: Elsewhere, code: Code
) -> None:
    room.mode = "real"
    room.remote.failures["submit"] = TransientError(code, "m", retry_after_seconds=4.0)
    assert await room.work() == ev.ParseFailed(
        "job", "acme", 1, code, "m", transient=True, parser="llamaparse", retry_after_seconds=4.0
    )


@pytest.mark.parametrize("mode", ["real", "hybrid"])
async def test_an_intent_that_took_too_long_puts_it_off_unspent(
    room: Elsewhere, mode: Mode
) -> None:
    room.mode, room.lease_seconds = mode, 9.9
    assert await room.work() == ev.ParseDeferred("job", "acme", 1, "tables_unavailable", 10.0)
    assert room.remote.operations() == ["upload", "intend"]
    assert room.parser.seen == []


async def test_a_lost_attempt_is_neither_submitted_nor_parsed_here(room: Elsewhere) -> None:
    room.forbids = AttemptLostError("job at 1")
    with pytest.raises(AttemptLostError):
        await room.work()
    assert room.remote.operations() == ["upload", "intend"]
    assert room.parser.seen == []


async def test_the_mode_of_the_job_itself_goes_first(room: Elsewhere) -> None:
    options = ev.ParseOptions(mode="local")
    source = (await room.offer()).source
    offer = ev.DocumentUploaded("job", "acme", 1, "doc", source, "application/pdf", options=options)
    end = await room.parse.work(offer, TRACE, room.intend)
    assert isinstance(end, ev.ParseSucceeded)
    assert (end.parser, room.remote.calls) == (Scripted.name, [])


async def test_nobody_stands_in_for_work_that_was_cut_off(room: Elsewhere) -> None:
    room.remote.failures["submit"] = CIRCUIT
    reached, let_go = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        reached.set()
        await let_go.wait()

    room.remote.during["submit"] = pause
    working = asyncio.create_task(room.work())
    async with asyncio.timeout(5):
        await reached.wait()
        working.cancel()
        await asyncio.sleep(0)
        let_go.set()
        await asyncio.wait([working])
    assert (working.cancelled(), room.parser.seen) == (True, [])


def spent(policy: Policy) -> BudgetSpentError:
    return BudgetSpentError(Code.BUDGET_SPENT, "too dear", policy, retry_after_seconds=90.5)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("mode", ["real", "hybrid"])
async def test_a_budget_that_rejects_fails_the_job_for_good(
    room: Elsewhere, mode: Mode, held: bool
) -> None:
    """Whether it is seen before the bytes go, or is spent by somebody else meanwhile."""
    room.mode = mode
    room.purse.error, room.forbids = (
        (None, spent(Policy.REJECT))
        if held
        else (
            spent(Policy.REJECT),
            None,
        )
    )
    end = await room.work()
    assert end == ev.ParseFailed(
        "job", "acme", 1, "budget_spent", "too dear", transient=False, parser="llamaparse"
    )
    assert room.remote.operations() == (["upload", "intend"] if held else [])
    assert room.parser.seen == []


@pytest.mark.parametrize("mode", ["real", "hybrid"])
async def test_a_budget_that_waits_puts_it_off_until_its_next_window(
    room: Elsewhere, mode: Mode
) -> None:
    room.mode, room.purse.error = mode, spent(Policy.WAIT)
    assert await room.work() == ev.ParseDeferred("job", "acme", 1, "budget_spent", 90.5)
    assert room.parser.seen == []


async def test_a_budget_with_the_policy_local_lets_the_local_parser_serve(room: Elsewhere) -> None:
    room.purse.error = spent(Policy.LOCAL)
    end = await room.work()
    assert isinstance(end, ev.ParseSucceeded)
    assert end.parser == room.parser.name
    assert room.remote.calls == []


async def test_where_nothing_local_may_serve_the_policy_local_waits(room: Elsewhere) -> None:
    room.mode, room.purse.error = "real", spent(Policy.LOCAL)
    assert await room.work() == ev.ParseDeferred("job", "acme", 1, "budget_spent", 90.5)
