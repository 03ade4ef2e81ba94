"""The publisher of webhooks: many at once, and each for itself."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from schemas import codec
from schemas.errors import Code, PermanentError, TransientError
from schemas.events import BlobRef, WebhookReceived
from schemas.webhook_source import LLAMAPARSE
from services.gateway.problems import RefusedError
from services.gateway.webhook_publisher import Arrival, Publisher
from streams.blobs.disk import DiskBlobs
from streams.bus.base import Outcome, Outgoing
from tests.webhook_desk import ENVELOPE, SECRET, signature, source_of

SOURCE = source_of(LLAMAPARSE, (SECRET, None))
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Told(Arrival):
    """An arrival that keeps what it was told."""

    __slots__ = ("ended", "ends")

    def __init__(self, body: bytes, *, secret: str = SECRET, trace: str = TRACE) -> None:
        headers = {"Content-Type": "application/json"} | signature(body, secret)
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        super().__init__(raw, body, trace)
        self.ends: list[BaseException | None] = []
        self.ended = asyncio.Event()

    def done(self) -> bool:
        return bool(self.ends)

    def end(self, error: BaseException | None) -> None:
        self.ends.append(error)
        self.ended.set()


class Broker:
    """A producer that does with each record what the test says."""

    def __init__(self, judge: Callable[[Outgoing], BaseException | None] = lambda _: None) -> None:
        self.records: list[Outgoing] = []
        self._judge = judge

    async def send(self, record: Outgoing) -> None:
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.send_for(record, outcome)
        await outcome

    def send_for(self, record: Outgoing, outcome: Outcome) -> None:
        error = self._judge(record)
        if error is None:
            self.records.append(record)
            outcome.set_result(None)
        else:
            outcome.set_exception(error)


def publisher_to(broker: Broker, folder: Path, clock: Callable[[], float]) -> Publisher:
    return Publisher(SOURCE, broker, DiskBlobs(folder), clock, event_source="/test")


def body_of(number: int) -> bytes:
    return b'{"event_id":"e%d","data":{"job_id":"pjb-%d"}}' % (number, number)


@pytest.fixture
def now() -> Callable[[], float]:
    return lambda: 1_790_000_000.0


async def test_each_of_a_batch_has_its_own_record_or_refusal(
    tmp_path: Path, now: Callable[[], float]
) -> None:
    broker = Broker()
    good = [Told(body_of(number)) for number in range(3)]
    forged = Told(body_of(9), secret="another", trace=TRACE.replace("0af7", "ffff"))
    with capture_logs() as logs:
        publisher_to(broker, tmp_path, now).publish([good[0], forged, *good[1:]])
    assert [arrival.ends for arrival in good] == [[None]] * 3
    assert [record.key for record in broker.records] == [b"pjb-0", b"pjb-1", b"pjb-2"]
    events = [codec.decode(record.value, record.headers) for record in broker.records]
    assert [event.id for event in events] == [arrival.event_id for arrival in good]
    (refusal,) = forged.ends
    assert isinstance(refusal, RefusedError)
    assert refusal.code is Code.UNAUTHORIZED
    (line,) = logs
    assert (line["event"], line["reason"]) == ("webhook_refused", "mismatch")
    assert line["trace"] == forged.traceparent[3:35], "its own, not that of its batch"


async def test_one_that_breaks_a_step_takes_no_other_along(
    tmp_path: Path, now: Callable[[], float]
) -> None:
    broker = Broker()
    good, broken = [Told(body_of(number)) for number in range(2)], Told(body_of(7))
    broken.raw_headers = [(b"Content-Type", b"application/json"), (b"broken",)]  # type: ignore[list-item]  # no header
    publisher_to(broker, tmp_path, now).publish([good[0], broken, good[1]])
    assert [arrival.ends for arrival in good] == [[None], [None]]
    assert len(broker.records) == 2
    (error,) = broken.ends
    assert isinstance(error, ValueError)


async def test_one_that_cannot_be_sent_takes_no_other_along(
    tmp_path: Path, now: Callable[[], float]
) -> None:
    def judge(record: Outgoing) -> BaseException | None:
        if record.key == b"pjb-0":
            return TransientError(Code.BUS_UNAVAILABLE, "away")
        if record.key == b"pjb-1":
            raise RuntimeError("a defect of the producer")
        return None

    arrivals = [Told(body_of(number)) for number in range(3)]
    publisher_to(Broker(judge), tmp_path, now).publish(arrivals)
    first, second, third = (arrival.ends for arrival in arrivals)
    assert [type(error) for error in (*first, *second)] == [TransientError, RuntimeError]
    assert third == [None]


async def test_what_no_record_can_hold_is_kept_as_a_blob(
    tmp_path: Path, now: Callable[[], float]
) -> None:
    def judge(record: Outgoing) -> BaseException | None:
        return PermanentError(Code.RECORD_TOO_LARGE, "too large") if record.value else None

    broker, arrival = Broker(judge), Told(ENVELOPE)
    publisher_to(broker, tmp_path, now).publish([arrival])
    async with asyncio.timeout(10):
        await arrival.ended.wait()
    assert arrival.ends == [None]
    (record,) = broker.records
    body = codec.decode(record.value, record.headers).body
    assert isinstance(body, WebhookReceived)
    assert isinstance(body.blob, BlobRef)
    assert await DiskBlobs(tmp_path).read(body.blob) == ENVELOPE


async def test_one_whose_deadline_comes_before_its_blob_ends_once(
    tmp_path: Path, now: Callable[[], float]
) -> None:
    def judge(record: Outgoing) -> BaseException | None:
        if record.value:
            return PermanentError(Code.RECORD_TOO_LARGE, "the broker says no")
        # As the deadline of the first record does, while the second is on its way.
        arrival.set_exception(late)
        return None

    arrival, late = Told(ENVELOPE), TransientError(Code.BUS_UNAVAILABLE, "too late")
    broker = Broker(judge)
    publisher = publisher_to(broker, tmp_path, now)
    publisher.publish([arrival])
    async with asyncio.timeout(10):
        await arrival.ended.wait()
        while publisher.keeping:
            await asyncio.wait(publisher.keeping)
    assert arrival.ends == [late]
    assert len(broker.records) == 1
