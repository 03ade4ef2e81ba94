"""Submitting files over a bus in memory, with an intake that answers what it is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from schemas import codec
from schemas.events import Body
from schemas.submission_events import DocumentAccepted, DocumentRefused
from schemas.topics import DOCUMENTS_ANSWERED, DOCUMENTS_SUBMITTED
from services.cli.bus_submission import BusSubmission, BusTerms, submit_over_bus
from services.cli.submit import submit as submit_verb
from services.cli.terminal import CommandError
from streams.bus.base import Outgoing, Record
from tests.fakes import MemoryBus
from tests.harness import event_of

JOB = "01890000-0000-7000-8000-00000000000a"


def header(record: Record, name: str) -> bytes | None:
    return dict(record.headers).get(name)


def answer_to(record: Record) -> Body:
    submission_id = (header(record, "ce_id") or b"").decode()
    if not record.value:
        return DocumentRefused(submission_id, "acme", "document_empty", "the document has no bytes")
    return DocumentAccepted(submission_id, "acme", JOB, "d", duplicate=False, state="uploaded")


@asynccontextmanager
async def answered(bus: MemoryBus) -> AsyncIterator[None]:
    """Answer each submission, and somebody else's before it."""
    await bus.ensure_topics([DOCUMENTS_SUBMITTED, DOCUMENTS_ANSWERED])

    async def answer() -> None:
        done: list[Record] = []
        while True:
            await bus.until(lambda: len(bus.records("documents.submitted")) > len(done))
            for record in [one for one in bus.records("documents.submitted") if one not in done]:
                done.append(record)
                other = DocumentRefused("another", "acme", "forbidden", "not yours")
                for body in (other, answer_to(record)):
                    value, headers = codec.encode(event_of(body))
                    bus.append(Outgoing("documents.answered", record.key, value, headers))

    running = asyncio.create_task(answer())
    try:
        async with asyncio.timeout(20):
            yield
    finally:
        running.cancel()
        await asyncio.wait({running})


def file_of(folder: Path, name: str, content: bytes) -> BusSubmission:
    (folder / name).write_bytes(content)
    return BusSubmission(folder / name)


async def submit(
    bus: MemoryBus, *submissions: BusSubmission, terms: BusTerms | None = None, wait: bool = True
) -> None:
    await submit_over_bus(lambda: bus, submissions, terms or BusTerms(), wait=wait)


async def test_a_record_is_the_document_and_headers(memory_bus: MemoryBus, tmp_path: Path) -> None:
    submission = file_of(tmp_path, "Zürich.csv", b"a,b\n")
    submission.id = "inv-7/1"
    options = {"max_pages": "9", "disable_cache": "true", "prompt": "Tables\n"}
    async with answered(memory_bus):
        await submit(
            memory_bus, submission, terms=BusTerms("documents.submitted", "acme", "inv-7", options)
        )
    (record,) = memory_bus.records("documents.submitted")
    assert (record.key, record.value) == (b"inv-7/1", b"a,b\n")
    assert dict(record.headers) == {
        "ce_id": b"inv-7/1",
        "content-type": b"text/csv",
        "pw-name": "Zürich.csv".encode(),
        "pw-tenant": b"acme",
        "pw-reference": b"inv-7",
        "pw-max-pages": b"9",
        "pw-disable-cache": b"true",
        "pw-prompt": b"Tables\n",
    }


async def test_each_file_has_its_own_answer(memory_bus: MemoryBus, tmp_path: Path) -> None:
    good = file_of(tmp_path, "a.txt", b"some text")
    empty = file_of(tmp_path, "b.txt", b"")
    large = file_of(tmp_path, "c.txt", b"x" * 900_000)
    nearly = file_of(tmp_path, "d.txt", b"x" * 899_990)
    gone = BusSubmission(tmp_path / "e.txt")
    async with answered(memory_bus):
        await submit(memory_bus, good, empty, large, nearly, gone)
    assert isinstance(good.answer, DocumentAccepted)
    assert (good.answer.job_id, good.answer.submission_id) == (JOB, good.id)
    assert isinstance(empty.answer, DocumentRefused)
    assert empty.answer.code == "document_empty"
    for one in (large, nearly):
        assert one.answer is None
        assert "submit it without --bus, or put it into a blob" in str(one.error)
    assert "No such file" in str(gone.error)
    assert len(memory_bus.records("documents.submitted")) == 2


async def test_anothers_answer_under_the_same_id_is_not_ours(
    memory_bus: MemoryBus, tmp_path: Path
) -> None:
    await memory_bus.ensure_topics([DOCUMENTS_SUBMITTED, DOCUMENTS_ANSWERED])
    submission = file_of(tmp_path, "a.txt", b"some text")
    submission.id = "invoice-1"
    ours = DocumentAccepted("invoice-1", "acme", JOB, "d", duplicate=False, state="uploaded")

    def say(key: bytes, body: Body) -> None:
        value, headers = codec.encode(event_of(body))
        memory_bus.append(Outgoing("documents.answered", key, value, headers))

    async def answer() -> None:
        await memory_bus.until(lambda: bool(memory_bus.records("documents.submitted")))
        say(b"invoice-1", replace(ours, tenant="globex"))
        say(b"4711", replace(ours, job_id="another"))
        say(b"invoice-1", ours)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(answer())
        await submit(memory_bus, submission, terms=BusTerms(tenant="acme"))
    assert submission.answer == ours


async def test_a_stranger_reads_that_it_was_refused(memory_bus: MemoryBus, tmp_path: Path) -> None:
    await memory_bus.ensure_topics([DOCUMENTS_SUBMITTED, DOCUMENTS_ANSWERED])
    submission = file_of(tmp_path, "a.txt", b"some text")
    refused = DocumentRefused(submission.id, None, "forbidden", "not yours")

    async def answer() -> None:
        await memory_bus.until(lambda: bool(memory_bus.records("documents.submitted")))
        value, headers = codec.encode(event_of(refused))
        memory_bus.append(Outgoing("documents.answered", submission.id.encode(), value, headers))

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(answer())
        await submit(memory_bus, submission, terms=BusTerms(tenant="initech"))
    assert submission.answer == refused


async def test_silence_is_bounded_and_says_what_to_do(
    memory_bus: MemoryBus, tmp_path: Path
) -> None:
    await memory_bus.ensure_topics([DOCUMENTS_SUBMITTED, DOCUMENTS_ANSWERED])
    submission = file_of(tmp_path, "a.txt", b"some text")
    await submit(memory_bus, submission, terms=BusTerms(within_seconds=0.2))
    assert submission.sent
    assert "not answered within 0.2 s" in str(submission.error)
    assert f"--id {submission.id}" in str(submission.error)


async def test_who_waits_for_no_answer_gets_none(memory_bus: MemoryBus, tmp_path: Path) -> None:
    submission = file_of(tmp_path, "a.txt", b"some text")
    async with answered(memory_bus):
        await submit(memory_bus, submission, wait=False)
    assert (submission.sent, submission.answer, submission.error) == (True, None, None)


async def test_a_topic_that_is_not_there_is_a_clear_error(
    memory_bus: MemoryBus, tmp_path: Path
) -> None:
    submission = file_of(tmp_path, "a.txt", b"some text")
    with pytest.raises(CommandError, match="no topic team-a under this prefix"):
        await submit(memory_bus, submission, terms=BusTerms("team-a"))


def test_what_belongs_to_one_way_is_refused_on_the_other(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("some text")
    with pytest.raises(CommandError, match="--id and --no-wait are for --bus"):
        submit_verb([tmp_path / "a.txt"], tenant="acme")
    with pytest.raises(CommandError, match="--wait and --to go over HTTP"):
        submit_verb([tmp_path / "a.txt"], bus=True, wait=True)
    with pytest.raises(CommandError, match="one submission, and these are 2 files"):
        submit_verb([tmp_path], bus=True, submission_id="inv-7")
    for name in ("", "inv\n7", "x" * 256):
        with pytest.raises(CommandError, match="--id has 1 to 255 printable characters"):
            submit_verb([tmp_path / "a.txt"], bus=True, submission_id=name)
