"""The intake on a bus: its topics read, each record answered, and what is no record at all kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest_asyncio

from schemas import codec
from schemas.errors import Code, TransientError
from schemas.submission_events import DocumentAccepted, DocumentRefused
from schemas.topics import TOPICS
from services.intake_role import read_record, submission_named_by
from services.process import open_relayed
from streams.bus.base import Outgoing, Record
from streams.dead_letters import DeadLetterLimit
from streams.listener import ListenerGround
from streams.runner import Runner
from streams.watchdog import Progress
from tests.fakes import MemoryBus
from tests.harness import open_desk
from tests.intake_desk import Answer, IntakeDesk, failing, sha_of

ANSWERED, SUBMITTED = "documents.answered", "documents.submitted"


class Line:
    """An intake at work on a bus, and a producer."""

    def __init__(self, bus: MemoryBus, desk: IntakeDesk) -> None:
        self.bus = bus
        self.desk = desk

    def send(
        self,
        value: bytes,
        *headers: tuple[str, bytes],
        ce_id: str | None = "s-1",
        key: bytes | None = b"\xff\xfe",
        topic: str = SUBMITTED,
    ) -> None:
        """Write a record for acme."""
        own = (("pw-tenant", b"acme"), *headers)
        if ce_id is not None:
            own = (("ce_id", ce_id.encode()), *own)
        self.bus.append(Outgoing(topic, key, value, own))

    async def answers(self, count: int) -> list[tuple[bytes | None, Answer]]:
        """Wait for so many answers, and give them with their keys, in no order."""
        async with asyncio.timeout(10):
            await self.bus.until(lambda: len(self.bus.records(ANSWERED)) >= count)
        return [(record.key, _read(record)) for record in self.bus.records(ANSWERED)]


def _read(record: Record) -> Answer:
    body = codec.decode(record.value, record.headers).body
    assert isinstance(body, Answer)
    return body


@asynccontextmanager
async def at_work(line: Line) -> AsyncIterator[None]:
    """Run the intake with a relay beside it, as a worker does."""
    desk = line.desk.desk
    limit = DeadLetterLimit("intake", "1", desk.tables, desk.recorder)
    intake = line.desk.intake
    ground = ListenerGround(
        *(intake, desk.tables, "c", limit, desk.recorder),
        slots=4,
        decode=read_record,
        in_order_by=submission_named_by,
    )
    progress = Progress("intake", desk.recorder, stall_seconds=60)
    runner = Runner(ground, line.bus, limit, progress, desk.recorder, drain_seconds=5)
    async with open_relayed(desk.tables, line.bus, desk.recorder):
        running = asyncio.create_task(runner.run())
        try:
            yield
        finally:
            runner.stop()
            async with asyncio.timeout(10):
                await running


@pytest_asyncio.fixture
async def line(tmp_path: Path, memory_bus: MemoryBus) -> AsyncIterator[Line]:
    async with open_desk(tmp_path) as opened:
        desk = IntakeDesk(opened, tmp_path / "blobs")
        await memory_bus.ensure_topics([*TOPICS, *desk.intake.topics[1:]])
        yield Line(memory_bus, desk)


async def test_every_record_is_answered_under_its_key(line: Line) -> None:
    async with at_work(line):
        line.send(b"one", ce_id="s-1", key=b"\xff\xfe")
        line.send(b"", ce_id="s-2", key=b"k2")
        line.send(b"three", ce_id="s-3", key=None)
        line.send(b"four", ce_id=None, key=b"k4")
        line.send(b"five", ce_id="s-5", key=b"k5", topic="theirs")
        found = {body.submission_id: (key, body) for key, body in await line.answers(5)}
    codes = {
        name: body.code if isinstance(body, DocumentRefused) else "accepted"
        for name, (_, body) in found.items()
    }
    assert codes == {
        "s-1": "accepted",
        "s-2": "document_empty",
        "s-3": "accepted",
        "": "invalid_request",
        "s-5": "forbidden",
    }
    keys = {name: key for name, (key, _) in found.items()}
    assert keys == {"s-1": b"\xff\xfe", "s-2": b"k2", "s-3": b"s-3", "": b"k4", "s-5": b"k5"}
    assert await line.desk.jobs() == 2
    assert len(line.bus.records("documents.uploaded")) == 2
    assert await line.desk.desk.rows("positions.letters", before=99, most=99) == []


async def test_only_what_cannot_be_read_at_all_is_a_dead_letter(line: Line) -> None:
    async with at_work(line):
        line.send(b"x", ("ce_pwunreadable", b"the name of header 1 is not UTF-8: ff"), key=b"k")
        line.send(b"x", ("ce_type", b"com.parsewire.DocumentSubmitted"), ce_id="s-2", key=b"k")
        ((_, answer),) = await line.answers(1)
    assert isinstance(answer, DocumentRefused)
    assert (answer.submission_id, answer.code) == ("s-2", "invalid_request")
    (letter,) = await line.desk.desk.rows("positions.letters", before=99, most=99)
    assert (letter["topic"], letter["reason"]) == (
        SUBMITTED,
        "the name of header 1 is not UTF-8: ff",
    )


async def test_rubbish_stops_nobody_elses_documents(line: Line) -> None:
    async with at_work(line):
        for _ in range(60):
            line.send(b"x", ("ce_pwunreadable", b"a name that is not UTF-8"), key=b"k")
        line.send(b"one", key=b"k")
        ((_, answer),) = await line.answers(1)
    assert isinstance(answer, DocumentAccepted)
    letters = await line.desk.desk.rows("positions.letters", before=99, most=99)
    assert len(letters) == 60


async def test_a_doubled_record_is_told_the_same_twice(line: Line) -> None:
    async with at_work(line):
        line.send(b"one", key=b"k")
        line.send(b"one", key=b"k")
        line.send(b"one", key=b"other")
        await line.answers(3)
    records = line.bus.records(ANSWERED)
    assert sorted(record.key or b"" for record in records) == [b"k", b"k", b"other"]
    events = [codec.decode(record.value, record.headers) for record in records]
    assert len({(event.id, event.time, repr(event.body)) for event in events}) == 1
    assert await line.desk.jobs() == 1


async def test_a_slow_address_holds_up_no_other_document_of_its_key(line: Line) -> None:
    slow = "https://docs.acme.example/slow"
    named = {"url": slow, "size_bytes": 9, "sha256": sha_of(b"some text")}
    line.desk.fetch.there[slow] = (b"some text", "text/plain")
    line.desk.fetch.holds[slow] = asyncio.Event()
    names_one = ("ce_type", b"com.parsewire.DocumentSubmitted")
    line.send(orjson.dumps(named), names_one, ce_id="slow", key=b"k")
    line.send(b"one", ce_id="quick", key=b"k")
    async with at_work(line):
        ((_, first),) = await line.answers(1)
        line.desk.fetch.holds[slow].set()
        both = await line.answers(2)
    assert (type(first).__name__, first.submission_id) == ("DocumentAccepted", "quick")
    assert {body.submission_id for _, body in both} == {"quick", "slow"}


async def test_a_worker_that_dies_before_its_commit_leaves_the_rest_to_the_next(
    line: Line,
) -> None:
    away = TransientError(Code.TABLES_UNAVAILABLE, "locked")
    tried = asyncio.Event()

    async def write(_unit: object) -> None:
        tried.set()
        raise away

    well = line.desk.intake
    line.desk.intake = line.desk.new_intake(tables=failing(line.desk.desk.tables, write=write))
    line.send(b"one")
    async with at_work(line), asyncio.timeout(10):
        await tried.wait()
    assert line.bus.records(ANSWERED) == []
    line.desk.intake = well
    async with at_work(line):
        ((key, answer),) = await line.answers(1)
    assert (key, isinstance(answer, DocumentAccepted)) == (b"\xff\xfe", True)
    assert await line.desk.jobs() == 1
