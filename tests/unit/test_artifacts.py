"""The artifacts reader: which webhook counts for which attempt, and what comes of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.job import State
from streams.artifacts import Artifacts
from streams.blobs.base import elsewhere_key, webhook_key
from streams.blobs.disk import DiskBlobs
from streams.callbacks import Callbacks
from streams.parsers.base import Page
from streams.processor import Parked
from streams.results import decode
from streams.tables.base import Row
from tests.doubles.callback_service import artifact
from tests.harness import Desk, event_of, fold_events, open_memory_desk
from tests.money_desk import BILLING, hold, spend_of

MARKDOWN = [artifact("markdown", "# Hello")]


class Room:
    """A document on its way, the listener, and short ways to tell it something."""

    def __init__(self, desk: Desk, blobs: DiskBlobs, job_id: str, document_id: str) -> None:
        self.desk = desk
        self.blobs = blobs
        self.job_id = job_id
        self.document_id = document_id
        reader = Artifacts("callback", desk.tables, blobs, BILLING, max_pages=3)
        self.callbacks = Callbacks({}, blobs, {"artifacts": reader.read})

    def body(self, status: str = "parsed", **fields: Any) -> bytes:
        told = {"job_id": self.job_id, "document_id": self.document_id, "status": status}
        told |= {"correlation_id": "1", "artifacts": MARKDOWN} | fields
        return orjson.dumps({name: value for name, value in told.items() if value != "left out"})

    async def tell(self, status: str = "parsed", **fields: Any) -> Parked | None:
        return await self.hear(self.body(status, **fields))

    async def hear(self, body: bytes) -> Parked | None:
        event = event_of(ev.WebhookReceived("artifacts", self.job_id, (), body))
        return await self.callbacks.handle(event)

    async def intend(self, parser: str = "callback", attempt: int = 1) -> None:
        """Claim the attempt, as a worker does before it submits."""
        mine = {"job_id": self.job_id, "attempt": attempt, "stage": "parse", "owner": "w"}
        tables = self.desk.tables
        await tables.write(lambda tx: tx.run("attempts.claim", lease_ms=1000, **mine))
        await tables.write(
            lambda tx: tx.run("attempts.intend", parser=parser, lease_ms=1000, **mine)
        )

    async def queue(self, parser: str = "callback") -> None:
        """Let the job be elsewhere."""
        queued = ev.ParseQueued(self.job_id, "acme", 1, parser, f"{self.job_id}.1.p-1")
        await fold_events(self.desk, queued)
        self.desk.said()

    async def retry(self) -> None:
        """Lose the first attempt, and begin the second."""
        lost = ev.ParseFailed(self.job_id, "acme", 1, "vendor_stuck", "m", transient=True)
        await fold_events(self.desk, lost, ev.RetryDue(self.job_id, "acme", 1))
        self.desk.said()

    def said(self) -> list[ev.Body]:
        return [event.body for event in self.desk.said()]

    async def end(self) -> ev.ParseFailed:
        (end,) = self.said()
        assert isinstance(end, ev.ParseFailed)
        return end

    async def vendor_jobs(self) -> list[Row]:
        return await self.desk.rows("vendor.of_job", job_id=self.job_id)


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_memory_desk() as desk:
        admitted = await desk.upload()
        job = await desk.job(admitted.job.id)
        desk.said()
        yield Room(desk, DiskBlobs(tmp_path / "blobs"), job.id, job.document_id)


async def test_a_result_is_kept_said_and_settled_at_no_cost(room: Room) -> None:
    await room.queue()
    meta = {"parser_name": "inkling", "parser_version": "2.1"}
    assert await room.tell(meta=meta) is None
    (end,) = room.said()
    assert isinstance(end, ev.ParseSucceeded)
    assert (end.attempt, end.parser, end.parser_version, end.pages) == (
        1,
        "callback",
        "inkling 2.1",
        1,
    )
    assert end.result.key == elsewhere_key("acme", room.job_id, 1)
    kept = decode(await room.blobs.read(end.result))
    assert kept.pages == (Page(1, "# Hello", "# Hello"),)
    await fold_events(room.desk, end)
    assert (await room.desk.job(room.job_id)).state is State.COMPLETE
    (line,) = await room.vendor_jobs()
    assert (line["vendor_job_id"], line["outcome"], line["credits"]) == (
        f"{room.job_id}.1.p-1",
        "billed",
        0.0,
    )


async def test_the_result_says_what_was_held_for_it(room: Room) -> None:
    await hold(room.desk, room.job_id, spend=spend_of("callback", micro_usd=40))
    await room.queue()
    await room.tell()
    (end,) = room.said()
    assert isinstance(end, ev.ParseSucceeded)
    assert orjson.loads(await room.blobs.read(end.result))["price_micro_usd"] == 40


async def test_one_that_is_sent_twice_has_one_event_and_the_first_content(room: Room) -> None:
    await room.queue()
    await room.tell()
    await room.tell(artifacts=[artifact("markdown", "# Another")])
    first, second = room.desk.said()
    assert first.id == second.id
    assert isinstance(first.body, ev.ParseSucceeded)
    assert isinstance(second.body, ev.ParseSucceeded)
    assert first.body.result == second.body.result
    assert decode(await room.blobs.read(first.body.result)).pages[0].markdown == "# Hello"


async def test_an_early_one_counts_for_the_attempt_that_is_being_submitted(room: Room) -> None:
    await room.intend()
    assert await room.tell("processing", parse_job_id="p-1") is None
    assert room.said() == [
        ev.ParseQueued(room.job_id, "acme", 1, "callback", f"{room.job_id}.1.p-1")
    ]
    assert await room.tell(parse_job_id="p-1") is None
    (end,) = room.said()
    assert isinstance(end, ev.ParseSucceeded)
    await fold_events(room.desk, end)
    assert (await room.desk.job(room.job_id)).state is State.COMPLETE


async def test_processing_says_nothing_of_a_job_that_is_known_to_be_there(room: Room) -> None:
    await room.queue()
    assert await room.tell("processing") is None
    assert room.said() == []


@pytest.mark.parametrize(
    ("fields", "message", "transient"),
    [
        ({"error": "the model ran out of memory"}, "the model ran out of memory", True),
        ({"error": "bad pdf", "transient": False}, "bad pdf", False),
        ({}, "it does not say why", True),
        ({"error": {"a": 1}, "transient": "no"}, "it does not say why", True),
        ({"error": "see\nhttps://x.example/?key=1"}, "see [url]", True),
        ({"error": "x" * 5000}, "x" * 297 + "...", True),
    ],
)
async def test_a_failure_is_the_parsers(
    room: Room, fields: dict[str, Any], message: str, transient: bool
) -> None:
    await room.queue()
    assert await room.tell("failed", **fields) is None
    end = await room.end()
    assert (end.code, end.message) == ("vendor_failed", f"the parser failed: {message}")
    assert (end.transient, end.parser, end.attempt) == (transient, "callback", 1)
    (line,) = await room.vendor_jobs()
    assert line["settled_ms"] is not None


@pytest.mark.parametrize(
    ("artifacts", "code"),
    [
        ([artifact("markdown", "a", sha256="0" * 64)], "artifact_unusable"),
        ([], "artifact_unusable"),
        ("left out", "artifact_unusable"),
        ([artifact("markdown", " \n ")], "document_has_no_text"),
        ([artifact("text", "1\f2\f3\f4")], "document_too_many_pages"),
    ],
)
async def test_a_result_without_use_fails_for_good(room: Room, artifacts: Any, code: str) -> None:
    await room.queue()
    assert await room.tell(artifacts=artifacts) is None
    end = await room.end()
    assert (end.code, end.transient, end.parser) == (code, False, "callback")
    assert not await room.blobs.exists(elsewhere_key("acme", room.job_id, 1))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"job_id": "left out"}, "no job_id, document_id and status"),
        ({"status": "done"}, "no job_id, document_id and status"),
        ({"job_id": "0190a1b2-0000-7000-8000-000000000009"}, "names no job of ours"),
        ({"job_id": "x' OR 1=1"}, "names no job of ours"),
        ({"document_id": "0190a1b2-0000-7000-8000-000000000009"}, "is not the job's"),
        ({"correlation_id": "2"}, "no attempt of the job's"),
        ({"correlation_id": "0"}, "no attempt of the job's"),
        ({"correlation_id": "one"}, "no attempt of the job's"),
    ],
)
async def test_what_fits_no_job_is_parked(room: Room, fields: dict[str, Any], why: str) -> None:
    await room.queue()
    parked = await room.tell(**fields)
    assert parked is not None
    assert parked.code == "webhook_unknown"
    assert why in parked.reason
    assert room.said() == []


@pytest.mark.parametrize(
    ("queued_at", "intended_at", "correlation", "counts"),
    [
        ("callback", None, "1", True),
        ("callback", None, None, True),
        ("llamaparse", None, "1", False),
        ("llamaparse", None, None, False),
        (None, "callback", "1", True),
        (None, "callback", None, False),
        (None, "llamaparse", "1", False),
        (None, None, "1", False),
    ],
)
async def test_only_an_attempt_that_was_sent_there_counts(
    room: Room,
    queued_at: str | None,
    intended_at: str | None,
    correlation: str | None,
    counts: bool,
) -> None:
    if intended_at is not None:
        await room.intend(intended_at)
    if queued_at is not None:
        await room.queue(queued_at)
    parked = await room.tell(correlation_id=correlation)
    assert (parked is None) is counts
    assert len(room.said()) == counts
    assert parked is None or parked.reason == "the job's attempt is not at callback"


async def test_a_late_one_changes_nothing(room: Room) -> None:
    await room.queue()
    await room.retry()
    await room.intend(attempt=2)
    for status in ("parsed", "failed", "processing"):
        assert await room.tell(status, correlation_id="1") is None
    assert room.said() == []
    assert not await room.blobs.exists(elsewhere_key("acme", room.job_id, 1))
    await fold_events(room.desk, ev.CancelRequested(room.job_id, "acme", 2))
    room.said()
    assert await room.tell(correlation_id="2") is None
    assert await room.tell(correlation_id=None) is None
    assert room.said() == []


async def test_a_large_body_is_read_from_its_blob(room: Room) -> None:
    await room.queue()
    body = room.body(artifacts=[artifact("markdown", "# Hello\n" + "word " * 300_000)])
    blob = await room.blobs.put(webhook_key("event"), body)
    received = ev.WebhookReceived("artifacts", room.job_id, (), b"", blob)
    assert await room.callbacks.handle(event_of(received)) is None
    (end,) = room.said()
    assert isinstance(end, ev.ParseSucceeded)
    assert end.result.size_bytes > 3_000_000


async def test_a_source_without_a_reader_is_parked(room: Room) -> None:
    received = ev.WebhookReceived("github", "x", (), b"{}")
    parked = await room.callbacks.handle(event_of(received))
    assert parked is not None
    assert parked.reason == "no parser of this deployment listens to 'github'"
