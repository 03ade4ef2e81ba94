"""The intake's records that come again: doubled, redelivered, after trouble at any step."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from schemas.errors import Code, TransientError
from schemas.events import BlobRef, Event
from schemas.submission_events import DocumentAccepted, DocumentRefused
from streams.bus.base import Record
from streams.intake import Intake
from streams.janitor import Janitor
from tests.harness import decode_row
from tests.intake_desk import (
    NAMES_ONE,
    IntakeDesk,
    failing,
    open_intake_desk,
    sha_of,
    submitted_by,
)

DISK_FULL = TransientError(Code.STORAGE_UNAVAILABLE, "no space left")
TABLES_AWAY = TransientError(Code.TABLES_UNAVAILABLE, "locked")


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[IntakeDesk]:
    async with open_intake_desk(tmp_path) as opened:
        yield opened


async def event_for(desk: IntakeDesk, record: Record, intake: Intake | None = None) -> Event:
    """Hand out a record, and give the whole event that answers it."""
    await (intake or desk.intake).handle(submitted_by(record))
    (event,) = desk.answers()
    return event


async def raises(desk: IntakeDesk, record: Record, intake: Intake) -> Exception:
    """Hand out a record that cannot be answered yet, and give what is raised."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each test says what it must be
        await intake.handle(submitted_by(record))
    assert desk.answers() == []
    return caught.value


async def clean(desk: IntakeDesk) -> list[str]:
    """Let the janitor remove what no row names, and give what is left."""
    await Janitor(desk.desk.tables, desk.blobs, orphan_seconds=0.0).remove_orphans()
    return desk.files()


class TestTheSameAnswer:
    async def test_to_a_record_that_comes_again(self, desk: IntakeDesk) -> None:
        record = desk.record()
        first = await event_for(desk, record)
        desk.desk.clock.pass_ms(60_000)
        again = await event_for(desk, record)
        assert (again.id, again.time, again.body) == (first.id, first.time, first.body)
        assert isinstance(again.body, DocumentAccepted)
        assert not again.body.duplicate
        assert (await desk.jobs(), len(desk.files())) == (1, 1)

    async def test_under_the_key_of_whoever_asks(self, desk: IntakeDesk) -> None:
        first = await event_for(desk, desk.record())
        await desk.intake.handle(submitted_by(desk.record(key=b"other")))
        (row,) = [r for r in desk.desk.announced if r.topic == "documents.answered"]
        assert (decode_row(row).id, row.raw_key) == (first.id, b"other")

    async def test_under_every_key_though_none_has_been_sent_yet(self, desk: IntakeDesk) -> None:
        for key in (b"one", b"other", b"one", None, None):
            await desk.intake.handle(submitted_by(desk.record(key=key)))
        sent = await desk.desk.tables.write(
            lambda tx: tx.all("outbox.take_due", takeover_ms=0, most=99)
        )
        assert sent == []
        desk.desk.clock.pass_ms(5_000)
        rows = await desk.desk.tables.write(
            lambda tx: tx.all("outbox.take_due", takeover_ms=0, most=99)
        )
        keys = [row["raw_key"] for row in rows if row["topic"] == "documents.answered"]
        assert sorted(keys, key=repr) == [None, b"one", b"other"]

    async def test_whatever_the_same_id_brings_later(self, desk: IntakeDesk) -> None:
        first = await event_for(desk, desk.record(b"one", {"pw-reference": "r-1"}))
        for value, headers in (
            (b"two", {"pw-reference": "r-2"}),
            (b"", {}),
            (b"one", {"pw-colour": "red"}),
            (b"one", {"pw-name": b"\xff"}),
            (b"x" * 900_001, {}),
        ):
            again = await event_for(desk, desk.record(value, dict(headers)))
            assert (again.id, again.body) == (first.id, first.body)
        assert (await desk.jobs(), len(desk.files())) == (1, 1)

    async def test_that_it_is_refused(self, desk: IntakeDesk) -> None:
        first = await event_for(desk, desk.record(b""))
        assert isinstance(first.body, DocumentRefused)
        again = await event_for(desk, desk.record(b"mended"))
        assert (again.id, again.body) == (first.id, first.body)
        assert (await desk.jobs(), desk.files()) == (0, [])
        mended = await desk.send(b"mended", {"ce_id": "s-2"})
        assert isinstance(mended, DocumentAccepted)

    async def test_to_each_tenant_its_own(self, desk: IntakeDesk) -> None:
        acme = await event_for(desk, desk.record())
        globex = await event_for(desk, desk.record(headers={"pw-tenant": "globex"}))
        assert acme.id != globex.id
        assert await desk.jobs() == 2

    async def test_and_a_blob_put_anew_is_left_alone(self, desk: IntakeDesk) -> None:
        await desk.blobs.put("submitted/acme/a", b"some text")
        first = await desk.name(blob="submitted/acme/a")
        await desk.blobs.put("submitted/acme/a", b"other text")
        assert await desk.name(blob="submitted/acme/a") == first
        assert len(desk.files()) == 2

    async def test_and_an_address_is_not_asked_again(self, desk: IntakeDesk) -> None:
        desk.fetch.there["https://a.example/b"] = (b"some text", None)
        first = await desk.name(url="https://a.example/b")
        assert await desk.name(url="https://a.example/b") == first
        assert len(desk.fetch.asked) == 1


class TestTwoAtOnce:
    """Neither sees the other's answer before both have the document."""

    @pytest.mark.parametrize("value", [b"some text", b""])
    async def test_get_one_answer(self, desk: IntakeDesk, value: bytes) -> None:
        async def nothing(*_: Any) -> None:
            return None

        blind = [desk.new_intake(tables=failing(desk.desk.tables, read=nothing)) for _ in range(3)]
        submissions = [
            intake.handle(submitted_by(desk.record(value, key=f"{n}".encode())))
            for n, intake in enumerate(blind)
        ]
        async with asyncio.timeout(10):
            await asyncio.gather(*submissions)
        answers = desk.answers()
        assert len(answers) == 3
        assert len({(event.id, repr(event.body)) for event in answers}) == 1
        accepted = 1 if value else 0
        assert (await desk.jobs(), len(desk.files())) == (accepted, accepted)


class TestTrouble:
    """Nothing is answered before it is true, and everything once it can be."""

    async def test_of_the_disk(self, desk: IntakeDesk) -> None:
        def open_writer(key: str) -> Any:
            writer = desk.blobs.open_writer(key)

            async def keep() -> None:
                await type(writer).keep(writer)
                raise DISK_FULL

            writer.keep = keep  # type: ignore[assignment,method-assign]  # a disk that lies
            return writer

        record = desk.record()
        broken = desk.new_intake(blobs=failing(desk.blobs, open_writer=open_writer))
        assert await raises(desk, record, broken) is DISK_FULL
        assert (desk.files(), await desk.jobs()) == ([], 0)
        assert isinstance(await desk.submit(record), DocumentAccepted)

    async def test_of_the_tables_before_anything_is_done(self, desk: IntakeDesk) -> None:
        record = desk.record()
        away = desk.new_intake(tables=failing(desk.desk.tables, read=_fail(TABLES_AWAY)))
        assert await raises(desk, record, away) is TABLES_AWAY
        assert (desk.files(), await desk.jobs()) == ([], 0)
        assert isinstance(await desk.submit(record), DocumentAccepted)

    async def test_of_the_tables_once_the_bytes_are_kept(self, desk: IntakeDesk) -> None:
        record = desk.record()
        away = desk.new_intake(tables=failing(desk.desk.tables, write=_fail(TABLES_AWAY)))
        assert await raises(desk, record, away) is TABLES_AWAY
        assert (len(desk.files()), await desk.jobs()) == (1, 0)
        answer = await desk.submit(record)
        assert isinstance(answer, DocumentAccepted)
        assert await clean(desk) == [f"acme/{answer.job_id}.source"]

    async def test_of_the_tables_after_the_commit(self, desk: IntakeDesk) -> None:
        async def write(unit: Any) -> None:
            await desk.desk.tables.write(unit)
            raise TABLES_AWAY

        record = desk.record()
        with pytest.raises(TransientError):
            await desk.new_intake(tables=failing(desk.desk.tables, write=write)).handle(
                submitted_by(record)
            )
        (first,) = desk.answers()
        again = await event_for(desk, record)
        assert (again.id, again.body) == (first.id, first.body)
        assert isinstance(again.body, DocumentAccepted)
        assert await clean(desk) == [f"acme/{again.body.job_id}.source"]
        assert await desk.jobs() == 1

    async def test_of_the_tables_while_a_refusal_is_written(self, desk: IntakeDesk) -> None:
        record = desk.record(b"")
        away = desk.new_intake(tables=failing(desk.desk.tables, write=_fail(TABLES_AWAY)))
        assert await raises(desk, record, away) is TABLES_AWAY
        assert isinstance(await desk.submit(record), DocumentRefused)

    async def test_of_the_tables_while_a_stranger_is_refused(self, desk: IntakeDesk) -> None:
        record = desk.record(headers={"pw-tenant": ""})
        away = desk.new_intake(tables=failing(desk.desk.tables, write=_fail(TABLES_AWAY)))
        assert await raises(desk, record, away) is TABLES_AWAY
        assert isinstance(await desk.submit(record), DocumentRefused)

    async def test_of_our_own_making(self, desk: IntakeDesk) -> None:
        record = desk.record()
        defect = ZeroDivisionError("a defect")
        broken = desk.new_intake(tables=failing(desk.desk.tables, write=_fail(defect)))
        assert await raises(desk, record, broken) is defect
        assert (desk.files(), await desk.jobs()) == ([], 0)

    async def test_of_a_network_elsewhere(self, desk: IntakeDesk) -> None:
        away = TransientError(Code.STORAGE_UNAVAILABLE, "no route to anywhere")
        desk.fetch.failures["https://a.example/b"] = away
        value = b'{"url": "https://a.example/b", "size_bytes": 9, "sha256": "%s"}' % (b"0" * 64)
        record = desk.record(value, dict(NAMES_ONE))
        assert await raises(desk, record, desk.intake) is away
        assert (desk.files(), await desk.jobs()) == ([], 0)

    async def test_of_a_disk_that_does_not_give_a_blob(self, desk: IntakeDesk) -> None:
        await desk.blobs.put("submitted/acme/a", b"some text")
        away = TransientError(Code.STORAGE_UNAVAILABLE, "the disk said: Input/output error")
        away.__cause__ = OSError(errno.EIO, "Input/output error")
        value = b'{"blob": "submitted/acme/a", "size_bytes": 9, "sha256": "%s"}' % (b"0" * 64)
        broken = desk.new_intake(blobs=failing(desk.blobs, open_local=_raise(away)))
        assert await raises(desk, desk.record(value, dict(NAMES_ONE)), broken) is away

    async def test_of_a_blob_that_changes_while_it_is_read(self, desk: IntakeDesk) -> None:
        key = (await desk.blobs.put("submitted/acme/a-1", b"some text")).key

        @asynccontextmanager
        async def open_local(blob: BlobRef) -> AsyncIterator[Path]:
            async with desk.blobs.open_local(blob) as path:
                path.write_bytes(b"some more")
                yield path

        value = orjson.dumps({"size_bytes": 9, "sha256": sha_of(b"some text"), "blob": key})
        changing = desk.new_intake(blobs=failing(desk.blobs, open_local=open_local))
        answer = await desk.submit(desk.record(value, NAMES_ONE), changing)
        assert answer == DocumentRefused(
            "s-1",
            "acme",
            "source_mismatch",
            "the blob changed while it was read",
        )
        assert (desk.files(), await desk.jobs()) == (["submitted/acme.a-1"], 0)

    async def test_of_removing_what_was_taken(self, desk: IntakeDesk) -> None:
        await desk.blobs.put("submitted/acme/a", b"some text")
        broken = desk.new_intake(blobs=failing(desk.blobs, delete=_fail(DISK_FULL)))
        desk.intake = broken
        answer = await desk.name(blob="submitted/acme/a")
        assert isinstance(answer, DocumentAccepted)
        twice = await desk.send(b"some text", {"ce_id": "s-2"})
        assert isinstance(twice, DocumentAccepted)
        assert twice.duplicate
        assert len(desk.files()) == 3
        assert await clean(desk) == [f"acme/{answer.job_id}.source"]

    async def test_of_a_worker_that_is_cut_off(self, desk: IntakeDesk) -> None:
        reached = asyncio.Event()

        async def fetch(_url: str, write: Any, **_: Any) -> None:
            await write(b"x" * 10_000)
            reached.set()
            await asyncio.Event().wait()

        endless: Any = fetch
        desk.fetch.fetch = endless  # type: ignore[method-assign]  # the one way to it
        value = b'{"url": "https://a.example/b", "size_bytes": 9, "sha256": "%s"}' % (b"0" * 64)
        record = desk.record(value, dict(NAMES_ONE))
        async with asyncio.timeout(10):
            handling = asyncio.create_task(desk.intake.handle(submitted_by(record)))
            await reached.wait()
            handling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await handling
        assert (desk.answers(), desk.files(), await desk.jobs()) == ([], [], 0)


def _raise(error: Exception) -> Any:
    def work(*_: Any) -> None:
        raise error

    return work


def _fail(error: Exception) -> Callable[..., Any]:
    async def fail(*_: Any) -> None:
        raise error

    return fail
