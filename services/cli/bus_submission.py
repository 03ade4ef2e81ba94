"""Submitting files over the bus: records with headers out, answers in, no gateway asked."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from schemas.codec import CodecError, decode
from schemas.errors import Code, PermanentError, TransientError
from schemas.ids import uuid7
from schemas.submission_events import DocumentAccepted, DocumentRefused
from schemas.topics import DOCUMENTS_ANSWERED, DOCUMENTS_SUBMITTED, MAX_RECORD_BYTES
from services.cli.reading import FindBus, Reading, open_reading
from services.cli.terminal import CommandError
from streams.backoff import Backoff
from streams.bus.base import Bus, Outgoing, Producer, Record
from streams.media import named

_AT_ONCE = 8

Answer = DocumentAccepted | DocumentRefused


@dataclass(slots=True)
class BusSubmission:
    """A file, the id that it is submitted under, and what became of it."""

    file: Path
    id: str = field(default_factory=uuid7)
    sent: bool = False
    answer: Answer | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class BusTerms:
    """How files are submitted: to which topic, for whom, with which options."""

    topic: str = DOCUMENTS_SUBMITTED.name
    tenant: str | None = None
    reference: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    within_seconds: float = 60.0
    """How long sending, and waiting for the answers, may last."""

    def record(self, submission: BusSubmission, content: bytes) -> Outgoing:
        """Write the record: the document's bytes, and all else about it in headers."""
        texts = {
            "ce_id": submission.id,
            "content-type": named(submission.file.name),
            "pw-name": submission.file.name,
            "pw-tenant": self.tenant,
            "pw-reference": self.reference,
        }
        texts |= {f"pw-{name.replace('_', '-')}": text for name, text in self.options.items()}
        # A file's name may hold bytes that are no text.
        headers = tuple(
            (name, text.encode(errors="replace"))
            for name, text in texts.items()
            if text is not None
        )
        return Outgoing(self.topic, submission.id.encode(), content, headers)


class Answers:
    """The answers to some submissions, as they come in."""

    def __init__(self, submissions: Sequence[BusSubmission], tenant: str | None) -> None:
        self._open = {submission.id: submission for submission in submissions}
        self._tenant = tenant
        self._changed = asyncio.Event()

    def take(self, record: Record) -> None:
        """Note an answer to one of them; the topic has everybody's."""
        try:
            body = decode(record.value, record.headers).body
        except CodecError:
            return
        if not isinstance(body, Answer) or record.key != body.submission_id.encode():
            return
        # Another tenant may have given the same id to a document of its own.
        strange = None not in (self._tenant, body.tenant) and body.tenant != self._tenant
        if not strange and (found := self._open.pop(body.submission_id, None)):
            found.answer = body
            found.sent, found.error = True, None
            self._changed.set()

    async def wait(self) -> None:
        """Return once everything that was sent is answered."""
        while any(submission.error is None for submission in self._open.values()):
            self._changed.clear()
            await self._changed.wait()


async def submit_over_bus(
    find_bus: FindBus, submissions: Sequence[BusSubmission], terms: BusTerms, *, wait: bool
) -> None:
    """Send every file, and fill in what is answered; a file's failure is its own."""
    bus = find_bus()
    await _check_topic(bus, terms.topic)
    answers = Answers(submissions, terms.tenant)
    reading = Reading(find_bus, [DOCUMENTS_ANSWERED], answers.take, from_start=False)
    async with AsyncExitStack() as stack:
        if wait:
            await stack.enter_async_context(open_reading(reading))
        try:
            async with asyncio.timeout(terms.within_seconds):
                await _send_all(bus, submissions, terms)
                if wait:
                    await answers.wait()
        except TimeoutError:
            for submission in submissions:
                if not (submission.answer or submission.error or (submission.sent and not wait)):
                    submission.error = _silence(submission, terms)


def _silence(submission: BusSubmission, terms: BusTerms) -> str:
    what = "not answered" if submission.sent else "not sent"
    return (
        f"{what} within {terms.within_seconds:g} s: is a worker there that reads {terms.topic} "
        f"(PARSEWIRE_INTAKE)? The same again is --id {submission.id}"
    )


async def _check_topic(bus: Bus, name: str) -> None:
    topic = replace(DOCUMENTS_SUBMITTED, name=name)
    if name not in await bus.partition_counts([topic]):
        raise CommandError(f"the broker has no topic {name} under this prefix")


async def _send_all(bus: Bus, submissions: Sequence[BusSubmission], terms: BusTerms) -> None:
    waiting = iter(submissions)

    async def send_by_turns(producer: Producer) -> None:
        for submission in waiting:
            try:
                await _send(producer, submission, terms)
            except (PermanentError, OSError) as error:
                submission.error = _trouble(error)

    async with bus.open_producer() as producer, asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(send_by_turns(producer))


def _trouble(error: PermanentError | OSError) -> str:
    if isinstance(error, PermanentError) and error.code is Code.RECORD_TOO_LARGE:
        return (
            f"{error.message}: a record may have {MAX_RECORD_BYTES} with its headers; submit it "
            "without --bus, or put it into a blob and name that (docs/bus.md)"
        )
    return str(error)


async def _send(producer: Producer, submission: BusSubmission, terms: BusTerms) -> None:
    size = submission.file.stat().st_size
    if size >= MAX_RECORD_BYTES:
        raise PermanentError(Code.RECORD_TOO_LARGE, f"it has {size} bytes")
    record = terms.record(submission, await asyncio.to_thread(submission.file.read_bytes))
    # Whether a send that timed out has arrived is unknown; the same id twice is one submission.
    await Backoff().retry(lambda: producer.send(record), TransientError)
    submission.sent = True
