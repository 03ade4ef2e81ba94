"""The callbacks listener: which webhook makes somebody look where, and which is put aside."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.errors import Code, PermanentError, TransientError
from schemas.events import Body, WebhookReceived
from schemas.job import Job
from streams.blobs.base import webhook_key
from streams.blobs.disk import DiskBlobs
from streams.callbacks import Callbacks
from streams.parsers.base import VendorState
from streams.processor import Parked
from streams.vendor_look import VendorLook
from tests.fakes import FakeRemote
from tests.harness import Desk, event_of, open_memory_desk, queue
from tests.money_desk import BILLING

EVENT_ID = "0190a5a6-0000-5000-8000-000000000001"

Form = Callable[[object], bytes]


def as_string(content: object) -> bytes:
    """Write it in LlamaCloud's other format: a string that holds the object."""
    return orjson.dumps(orjson.dumps(content).decode())


FORMATS: list[Form] = [orjson.dumps, as_string]


class Silent:
    """Telemetry that nobody reads."""

    def emit(self, body: ev.StageTimed | ev.ServiceCalled, traceparent: str | None = None) -> None:
        del body, traceparent


class Room:
    """A job that is elsewhere under the id v1, the listener, and a reader of another source."""

    def __init__(self, desk: Desk, blobs: DiskBlobs, job: Job) -> None:
        self.desk = desk
        self.blobs = blobs
        self.job = job
        self.parser = FakeRemote()
        self.read: list[tuple[str, str, bytes]] = []
        look = VendorLook(
            self.parser, desk.tables, blobs, Silent(), desk.recorder, BILLING, seconds=5
        )
        looks = {"llamaparse": look}
        self.callbacks = Callbacks(looks, blobs, {"other": self._read})

    async def _read(self, event_id: str, body: WebhookReceived, content: bytes) -> Parked | None:
        self.read.append((event_id, body.subject, content))
        return Parked(Code.WEBHOOK_UNKNOWN, "as the reader says")

    async def hear(self, content: bytes, subject: str = "v1", source: str = "llamaparse") -> object:
        """Give what comes of a webhook: None, or why it was parked."""
        return await self.handle(WebhookReceived(source, subject, (), content))

    async def handle(self, body: Body) -> object:
        parked = await self.callbacks.handle(event_of(body, EVENT_ID))
        assert parked is None or parked.code == "webhook_unknown"
        return parked and parked.reason

    def said(self) -> list[str]:
        return [type(event.body).__name__ for event in self.desk.said()]


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_memory_desk() as desk:
        yield Room(desk, DiskBlobs(tmp_path / "blobs"), await queue(desk))


def told(kind: object, **data: object) -> dict[str, object]:
    return {"event_id": "e1", "event_type": kind, "timestamp": 1.0, "data": data}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "kind", ["parse.success", "parse.error", "parse.partial_success", "parse.cancelled"]
)
async def test_an_end_is_looked_at_in_both_formats(room: Room, form: Form, kind: str) -> None:
    room.parser.add("v1", VendorState.COMPLETED)
    assert await room.hear(form(told(kind, job_id="v1"))) is None
    assert room.parser.calls == [("see", "v1"), ("fetch", "v1")]
    assert room.said() == ["ParseSucceeded"]


async def test_what_the_webhook_says_is_not_believed(room: Room) -> None:
    room.parser.add("v1", VendorState.FAILED)
    content = orjson.dumps(told("parse.success", job_id="v1", markdown="# Forged"))
    assert await room.hear(content) is None
    assert room.said() == ["ParseFailed"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["parse.pending", "parse.running"])
async def test_what_comes_before_the_end_is_of_no_interest(
    room: Room, form: Form, kind: str
) -> None:
    assert await room.hear(form(told(kind, job_id="v1"))) is None
    assert room.parser.calls == []


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (orjson.dumps(told("extract.success", job_id="v1")), "'extract.success'"),
        (orjson.dumps(told("x" * 81)), "'" + "x" * 80 + "'"),
        (orjson.dumps(told(None)), "'None'"),
        (orjson.dumps(told(["parse.success"])), "\"['parse.success']\""),
        (orjson.dumps(told({})), "'{}'"),
        (orjson.dumps([]), "'None'"),
        (b"no json", "'None'"),
        (b"\xff", "'None'"),
        (b"", "'None'"),
    ],
)
async def test_an_unknown_type_is_put_aside(room: Room, content: bytes, named: str) -> None:
    assert await room.hear(content) == f"the event type {named} means nothing here"
    assert room.parser.calls == []


async def test_one_that_names_no_job_is_put_aside(room: Room) -> None:
    content = orjson.dumps(told("parse.success"))
    assert await room.hear(content, subject=EVENT_ID) == "the webhook names no job"
    assert room.parser.calls == []


async def test_one_of_a_job_that_is_unknown_there_is_put_aside(room: Room) -> None:
    content = orjson.dumps(told("parse.success", job_id="v7"))
    reason = "llamaparse does not know the job that the webhook names"
    assert await room.hear(content, subject="v7") == reason


async def test_a_source_that_nobody_listens_to_is_put_aside(room: Room) -> None:
    reason = "no parser of this deployment listens to 'artifacts'"
    assert await room.hear(b"{}", source="artifacts") == reason


async def test_another_source_goes_to_its_own_reader(room: Room) -> None:
    assert await room.hear(b"any", source="other") == "as the reader says"
    assert room.read == [(EVENT_ID, "v1", b"any")]


async def test_a_large_body_is_read_from_its_blob(room: Room) -> None:
    room.parser.add("v1", VendorState.COMPLETED)
    content = orjson.dumps(told("parse.success", job_id="v1", pad="x" * 1_000_000))
    blob = await room.blobs.put(webhook_key(EVENT_ID), content)
    assert await room.handle(WebhookReceived("llamaparse", "v1", (), b"", blob)) is None
    assert room.said() == ["ParseSucceeded"]
    assert await room.handle(WebhookReceived("other", "v1", (), b"", blob)) == "as the reader says"
    assert room.read == [(EVENT_ID, "v1", content)]


async def test_a_body_whose_blob_is_gone_is_told_as_that(room: Room) -> None:
    gone = ev.BlobRef(webhook_key(EVENT_ID), "a" * 64, 9)
    with pytest.raises(PermanentError) as caught:
        await room.handle(WebhookReceived("llamaparse", "v1", (), b"", gone))
    assert caught.value.code == "source_missing"


async def test_what_the_sweep_has_seen_is_looked_at_like_a_webhook(room: Room) -> None:
    room.parser.add("v1", VendorState.COMPLETED)
    assert await room.handle(ev.VendorJobSeen("llamaparse", "v1")) is None
    assert room.said() == ["ParseSucceeded"]
    assert await room.handle(ev.VendorJobSeen("gone", "w1")) == "gone is not configured here"


async def test_without_llamaparse_its_webhooks_are_put_aside(room: Room) -> None:
    callbacks = Callbacks({}, room.blobs)
    content = orjson.dumps(told("parse.success", job_id="v1"))
    event = event_of(WebhookReceived("llamaparse", "v1", (), content), EVENT_ID)
    assert await callbacks.handle(event) == Parked(
        Code.WEBHOOK_UNKNOWN, "llamaparse is not configured here"
    )


async def test_a_vendor_that_is_away_is_no_fault_of_the_webhook(room: Room) -> None:
    room.parser.failures["see"] = TransientError(Code.PARSER_UNAVAILABLE, "no connection")
    assert await room.hear(orjson.dumps(told("parse.success", job_id="v1"))) is None
    assert room.said() == []


async def test_an_event_of_another_topic_is_poison_here(room: Room) -> None:
    with pytest.raises(PermanentError, match="RetryDue does not belong in webhooks"):
        await room.handle(ev.RetryDue(room.job.id, "acme", 1))
