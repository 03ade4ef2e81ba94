"""The parse reactor: what each end of a parse becomes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from schemas import events as ev
from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from schemas.money import Spend
from streams.blobs.base import elsewhere_key, result_key, source_key
from streams.blobs.disk import DiskBlobs
from streams.metrics import Recorder
from streams.parse import Parse
from streams.parsers.base import Document, Page, Parsed
from streams.parsers.router import Router
from streams.results import decode
from tests.money_desk import FakePurse

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


class Scripted:
    """A parser that does as it is told."""

    name = "scripted"
    version = "7"

    def __init__(self, error: ParsewireError | None = None) -> None:
        self.error = error
        self.seen: list[tuple[bytes, int]] = []

    def accepts(self, media_type: str) -> bool:
        return media_type == "application/pdf"

    async def parse(self, document: Document) -> Parsed:
        self.seen.append((document.path.read_bytes(), document.attempt))
        if self.error is not None:
            raise self.error
        return Parsed([Page(1, "# One", "One")], self.name, self.version, ("a_warning",))


class Heard:
    """Telemetry that keeps what it is told."""

    def __init__(self) -> None:
        self.bodies: list[ev.StageTimed | ev.ServiceCalled] = []

    def emit(self, body: ev.StageTimed | ev.ServiceCalled, traceparent: str | None = None) -> None:
        assert traceparent == TRACE
        self.bodies.append(body)


async def no_intent(_spend: Spend) -> float:
    raise AssertionError("parsing on this machine costs nothing")


class Room:
    def __init__(self, blobs: DiskBlobs) -> None:
        self.blobs = blobs
        self.parser = Scripted()
        self.heard = Heard()
        recorder = Recorder(CollectorRegistry())
        self.parse = Parse(Router([self.parser]), blobs, FakePurse(), self.heard, recorder, slots=1)

    async def offer(
        self, attempt: int = 1, media_type: str = "application/pdf"
    ) -> ev.DocumentUploaded:
        source = await self.blobs.put(source_key("acme", "job"), b"bytes")
        return ev.DocumentUploaded("job", "acme", attempt, "doc", source, media_type)


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    yield Room(DiskBlobs(tmp_path))


async def test_a_parsed_document_is_kept_and_named(room: Room) -> None:
    end = await room.parse.work(await room.offer(), TRACE, no_intent)
    assert isinstance(end, ev.ParseSucceeded)
    assert (end.parser, end.parser_version, end.pages) == ("scripted", "7", 1)
    assert end.warnings == ("a_warning",)
    assert end.result.key == "acme/job/1/result"
    kept = decode(await room.blobs.read(end.result))
    assert [(page.number, page.markdown) for page in kept.pages] == [(1, "# One")]
    assert room.parser.seen == [(b"bytes", 1)]
    assert [type(body).__name__ for body in room.heard.bodies] == ["ServiceCalled", "StageTimed"]


@pytest.mark.parametrize(
    ("error", "transient", "wait"),
    [
        (PermanentError(Code.DOCUMENT_BROKEN, "m"), False, None),
        (TransientError(Code.PARSE_TIMEOUT, "m"), True, None),
        (TransientError(Code.PARSER_UNAVAILABLE, "m", retry_after_seconds=4.0), True, 4.0),
    ],
)
async def test_expected_trouble_is_a_failure_of_its_kind(
    room: Room, error: ParsewireError, transient: bool, wait: float | None
) -> None:
    room.parser.error = error
    end = await room.parse.work(await room.offer(), TRACE, no_intent)
    assert end == ev.ParseFailed("job", "acme", 1, error.code, "m", transient, "scripted", wait)


@pytest.mark.parametrize("code", [Code.STORAGE_UNAVAILABLE, Code.SHUTDOWN])
async def test_our_own_trouble_puts_the_attempt_off(room: Room, code: Code) -> None:
    room.parser.error = TransientError(code, "m")
    end = await room.parse.work(await room.offer(), TRACE, no_intent)
    assert isinstance(end, ev.ParseDeferred)
    assert end.code == code
    assert end.retry_after_seconds == 10.0


async def test_a_missing_source_and_a_changed_one_fail_by_their_codes(room: Room) -> None:
    offer = await room.offer()
    await room.blobs.put(source_key("acme", "job"), b"other")
    changed = await room.parse.work(offer, TRACE, no_intent)
    await room.blobs.delete(source_key("acme", "job"))
    missing = await room.parse.work(offer, TRACE, no_intent)
    assert isinstance(changed, ev.ParseFailed)
    assert isinstance(missing, ev.ParseFailed)
    assert (changed.code, missing.code) == ("source_corrupt", "source_missing")
    assert room.parser.seen == []


async def test_a_media_type_without_a_parser_fails_for_good(room: Room) -> None:
    end = await room.parse.work(await room.offer(media_type="text/html"), TRACE, no_intent)
    assert isinstance(end, ev.ParseFailed)
    assert (end.code, end.transient, end.parser) == ("unsupported_media_type", False, None)


async def test_a_kept_result_outlives_those_of_lost_attempts(room: Room) -> None:
    ends = [
        await room.parse.work(await room.offer(attempt), TRACE, no_intent) for attempt in (1, 2, 3)
    ]
    await room.parse.settle(await room.offer(2), ends[1], kept=True)
    kept = [await room.blobs.exists(result_key("acme", "job", n)) for n in (1, 2, 3)]
    assert kept == [False, True, True]
    await room.parse.settle(await room.offer(3), ends[2], kept=False)
    assert not await room.blobs.exists(result_key("acme", "job", 3))
    assert await room.blobs.exists(result_key("acme", "job", 2))
    await room.parse.settle(await room.offer(2), None, kept=False)
    assert not await room.blobs.exists(result_key("acme", "job", 2))


@pytest.mark.parametrize(
    "end",
    [
        ev.ParseQueued("job", "acme", 1, "llamaparse", "pjb-1"),
        ev.ParseSucceeded("job", "acme", 1, ev.BlobRef("k", "a" * 64, 1), "scripted", "7", 1),
        ev.ParseFailed("job", "acme", 1, "parse_timeout", "m", transient=True),
        None,
    ],
)
async def test_a_result_that_came_from_elsewhere_meanwhile_stays(
    room: Room, end: ev.Body | None
) -> None:
    """As of a service that refused a document, and parsed it all the same."""
    theirs = await room.blobs.put_first(elsewhere_key("acme", "job", 1), b"came by a webhook")
    ours = await room.parse.work(await room.offer(), TRACE, no_intent)
    assert isinstance(ours, ev.ParseSucceeded)
    await room.parse.settle(await room.offer(), end, kept=False)
    assert await room.blobs.read(theirs) == b"came by a webhook"


async def test_what_came_late_for_an_earlier_attempt_is_removed(room: Room) -> None:
    late = [await room.blobs.put_first(elsewhere_key("acme", "job", n), b"late") for n in (1, 2)]
    end = await room.parse.work(await room.offer(2), TRACE, no_intent)
    await room.parse.settle(await room.offer(2), end, kept=True)
    assert [await room.blobs.exists(blob.key) for blob in late] == [False, True]
