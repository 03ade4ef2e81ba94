"""The way of a document to a parser elsewhere: at most one submission, and none that is unknown."""

import asyncio
from pathlib import Path

import pytest

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from schemas.events import ParseOptions
from schemas.money import Spend
from streams.attempts import AttemptLostError
from streams.elsewhere import submit
from streams.parsers.base import Document, SubmissionUnresolvedError, VendorJob, VendorState
from streams.processor import Intend
from tests.fakes import FakeRemote
from tests.money_desk import spend_of

DOCUMENT = Document(
    job_id="job",
    tenant="acme",
    attempt=3,
    path=Path("unread.pdf"),
    sha256="a" * 64,
    size_bytes=9,
    media_type="application/pdf",
    options=ParseOptions(),
)
JOB = VendorJob("job-3", VendorState.PENDING, "job", 3)
UNKNOWN = SubmissionUnresolvedError("the answer was lost")


def intend_of(parser: FakeRemote, seconds: float = 15.0, error: Exception | None = None) -> Intend:
    """Make what notes the intent among the parser's calls."""

    async def intend(spend: Spend) -> float:
        parser.calls.append(("intend", spend.service))
        if error is not None:
            raise error
        return seconds

    return intend


class Pause:
    """A place at which a call waits until it is let go."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.open.wait()


async def cancelled_in(operation: str, parser: FakeRemote) -> "asyncio.Task[VendorJob | None]":
    """Cancel a submission twice while this operation is under way, and let that go on."""
    pause = Pause()
    parser.during[operation] = pause
    submitting = asyncio.create_task(submit(parser, DOCUMENT, spend_of(), intend_of(parser)))
    async with asyncio.timeout(5):
        await pause.reached.wait()
        for _ in range(2):
            submitting.cancel()
            await asyncio.sleep(0)
        pause.open.set()
        await asyncio.wait([submitting])
    return submitting


async def test_the_bytes_go_first_then_the_intent_then_the_order() -> None:
    parser = FakeRemote()
    assert await submit(parser, DOCUMENT, spend_of(), intend_of(parser)) == JOB
    assert parser.calls == [("upload", "job"), ("intend", "llamaparse"), ("submit", "file-job")]


async def test_a_lease_that_may_end_before_the_call_forbids_it() -> None:
    parser = FakeRemote()
    with pytest.raises(TransientError) as caught:
        await submit(parser, DOCUMENT, spend_of(), intend_of(parser, seconds=9.9))
    assert caught.value.code == "tables_unavailable"
    assert parser.operations() == ["upload", "intend"]
    assert await submit(parser, DOCUMENT, spend_of(), intend_of(parser, seconds=10.0)) == JOB


@pytest.mark.parametrize(
    "error", [AttemptLostError("job at 3"), TransientError(Code.TABLES_UNAVAILABLE, "m")]
)
async def test_an_intent_that_cannot_be_noted_forbids_it(error: Exception) -> None:
    parser = FakeRemote()
    with pytest.raises(type(error)) as caught:
        await submit(parser, DOCUMENT, spend_of(), intend_of(parser, error=error))
    assert caught.value is error
    assert parser.operations() == ["upload", "intend"]


@pytest.mark.parametrize("operation", ["upload", "submit"])
@pytest.mark.parametrize(
    "error",
    [TransientError(Code.VENDOR_FAILED, "m"), PermanentError(Code.DOCUMENT_TOO_LARGE, "m")],
)
async def test_where_there_surely_is_no_job_the_reason_is_told(
    operation: str, error: ParsewireError
) -> None:
    parser = FakeRemote()
    parser.failures[operation] = error
    with pytest.raises(ParsewireError) as caught:
        await submit(parser, DOCUMENT, spend_of(), intend_of(parser))
    assert caught.value is error
    assert parser.operations().count("submit") == (operation == "submit")


async def test_where_nobody_knows_there_is_no_second_try() -> None:
    parser = FakeRemote()
    parser.failures["submit"] = UNKNOWN
    assert await submit(parser, DOCUMENT, spend_of(), intend_of(parser)) is None
    assert parser.operations() == ["upload", "intend", "submit"]


async def test_cancelled_before_the_order_there_is_none() -> None:
    parser = FakeRemote()
    submitting = await cancelled_in("upload", parser)
    assert submitting.cancelled()
    assert parser.operations() == ["upload"]


async def test_cancelled_in_the_middle_of_the_order_the_job_is_known_all_the_same() -> None:
    parser = FakeRemote()
    submitting = await cancelled_in("submit", parser)
    assert submitting.result() == JOB
    assert parser.operations() == ["upload", "intend", "submit"]


async def test_cancelled_in_the_middle_the_trouble_is_known_too() -> None:
    parser = FakeRemote()
    parser.failures["submit"] = UNKNOWN
    assert (await cancelled_in("submit", parser)).result() is None
    refused = TransientError(Code.VENDOR_RATE_LIMITED, "m")
    parser.failures["submit"] = refused
    assert (await cancelled_in("submit", parser)).exception() is refused
