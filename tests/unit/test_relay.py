"""The relay: sends after the commit, sends again what is overdue, keeps what must be seen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from schemas import events as ev
from schemas.errors import Code, TransientError
from schemas.submission_events import DocumentRefused
from streams.bus.base import Outgoing
from streams.outbox import put_events, put_keyed
from streams.relay import Relay
from tests.harness import Desk, event_of, open_memory_desk


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


class Sink:
    """A producer that notes what it is given, or fails while `away`."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Outgoing] = asyncio.Queue()
        self.failed: asyncio.Queue[Outgoing] = asyncio.Queue()
        self.away = False

    async def send(self, record: Outgoing) -> None:
        if self.away:
            self.failed.put_nowait(record)
            raise TransientError(Code.BUS_UNAVAILABLE, "away")
        self.sent.put_nowait(record)


async def outbox(desk: Desk) -> int:
    (row,) = await desk.rows("outbox.depth")
    return int(row["events"])


async def put(desk: Desk, body: ev.Body) -> None:
    await desk.tables.write(lambda tx: put_events(tx, [event_of(body)]))


def moved(job: str = "j") -> ev.JobMoved:
    return ev.JobMoved(job, "acme", 1, "d", "uploaded", "parsing")


async def test_an_event_is_sent_after_its_commit_and_leaves_the_outbox(desk: Desk) -> None:
    sink = Sink()
    relay = Relay(desk.tables, sink, desk.recorder)
    running = asyncio.create_task(relay.run())
    await put(desk, moved())
    record = await asyncio.wait_for(sink.sent.get(), 5)
    assert (record.topic, record.key) == ("jobs.moved", b"j")
    assert ("ce_type", b"com.parsewire.JobMoved") in record.headers
    await _stop(running)
    await relay.close(5)
    assert await outbox(desk) == 0


async def test_an_event_goes_under_a_key_that_is_no_text(desk: Desk) -> None:
    body = DocumentRefused("s-1", None, "forbidden", "no")
    await desk.tables.write(lambda tx: put_keyed(tx, event_of(body), b"\xff\x00k"))
    await desk.tables.write(lambda tx: put_keyed(tx, event_of(body), b""))
    await desk.tables.write(lambda tx: put_keyed(tx, event_of(body), None))
    desk.clock.pass_ms(5_000)
    for announced in (False, True):
        sink = Sink()
        relay = Relay(desk.tables, sink, desk.recorder)
        if announced:
            relay._offer(desk.announced)
            await relay.close(0)
        else:
            assert await relay._send_overdue() == 3
        async with asyncio.timeout(5):
            records = [await sink.sent.get() for _ in range(3)]
        assert [(r.topic, r.key) for r in records] == [
            ("documents.answered", b"\xff\x00k"),
            ("documents.answered", b""),
            ("documents.answered", b"s-1"),
        ]


async def test_what_must_be_seen_has_no_key_of_its_own(desk: Desk) -> None:
    event = event_of(ev.RetryDue("j", "acme", 1))
    with pytest.raises(ValueError, match=r"jobs\.events"):
        await desk.tables.write(lambda tx: put_keyed(tx, event, b"k"))


async def test_events_for_a_fold_stay_until_it_has_seen_them(desk: Desk) -> None:
    sink = Sink()
    relay = Relay(desk.tables, sink, desk.recorder)
    running = asyncio.create_task(relay.run())
    await put(desk, ev.RetryDue("j", "acme", 1))
    await asyncio.wait_for(sink.sent.get(), 5)
    await _stop(running)
    await relay.close(5)
    assert await outbox(desk) == 1
    desk.clock.pass_ms(59_000)
    assert await relay._send_overdue() == 0
    desk.clock.pass_ms(1_000)
    assert await relay._send_overdue() == 1
    await relay.close(5)
    desk.clock.pass_ms(119_000)
    assert await relay._send_overdue() == 0
    desk.clock.pass_ms(1_000)
    assert await relay._send_overdue() == 1
    await relay.close(5)


async def test_what_a_dead_process_announced_is_sent_by_another(desk: Desk) -> None:
    await put(desk, moved())
    sink = Sink()
    relay = Relay(desk.tables, sink, desk.recorder)
    assert await relay._send_overdue() == 0
    desk.clock.pass_ms(5_000)
    assert await relay._send_overdue() == 1
    assert (await asyncio.wait_for(sink.sent.get(), 5)).topic == "jobs.moved"
    await relay.close(5)
    assert await outbox(desk) == 0


async def test_an_outage_only_delays(desk: Desk) -> None:
    sink = Sink()
    sink.away = True
    relay = Relay(desk.tables, sink, desk.recorder, scan_seconds=0.01)
    running = asyncio.create_task(relay.run())
    with capture_logs() as lines:
        await put(desk, moved())
        await asyncio.wait_for(sink.failed.get(), 5)
        sink.away = False
        desk.clock.pass_ms(5_000)
        assert (await asyncio.wait_for(sink.sent.get(), 5)).key == b"j"
        await _stop(running)
        await relay.close(5)
    assert [(line["event"], line["error"]) for line in lines] == [("event_not_sent", "away")]
    assert await outbox(desk) == 0


async def test_a_backlog_delays_what_it_gathers_and_its_end_sends_the_rest(desk: Desk) -> None:
    sink = Sink()
    relay = Relay(desk.tables, sink, desk.recorder, is_behind=lambda: True)
    running = asyncio.create_task(relay.run())
    for job in ("a", "b"):
        await put(desk, moved(job))
        assert (await asyncio.wait_for(sink.sent.get(), 5)).key == job.encode()
    await put(desk, moved("c"))
    await _stop(running)
    await relay.close(5)
    assert (await asyncio.wait_for(sink.sent.get(), 5)).key == b"c"
    assert await outbox(desk) == 0


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
