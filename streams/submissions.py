"""Submissions: the inbox of producers on the bus, and their answers on the way to them.

Who submits the same id again is told the same again, in an event of the same id and time.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import orjson

from schemas.errors import Code, TransientError
from schemas.events import Event
from schemas.ids import derived_id
from schemas.submission_events import DocumentAccepted, DocumentRefused
from streams.outbox import put_keyed
from streams.tables.base import Transaction

Answer = DocumentAccepted | DocumentRefused

_SOURCE = "/parsewire/intake"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an answer goes out with: the submission's own key, and the trace."""

    key: bytes | None
    traceparent: str


async def say_again(
    tx: Transaction, tenant: str, submission_id: str, envelope: Envelope
) -> Answer | None:
    """Answer as before a submission that was answered; None: it was not."""
    row = await tx.one("submissions.answer_of", tenant=tenant, submission_id=submission_id)
    if row is None:
        return None
    kind: type[Answer] = DocumentRefused if row["job_id"] is None else DocumentAccepted
    answer = msgspec.convert(orjson.loads(row["answer"]), kind)
    await _say(tx, _id_of(tenant, submission_id), row["answered_ms"], answer, envelope)
    return answer


async def answer_first(tx: Transaction, tenant: str, answer: Answer, envelope: Envelope) -> None:
    """Answer a submission for good; raise TransientError where somebody else just did."""
    new = await tx.run(
        "submissions.remember",
        tenant=tenant,
        submission_id=answer.submission_id,
        job_id=answer.job_id if isinstance(answer, DocumentAccepted) else None,
        answer=orjson.dumps(answer).decode(),
    )
    if not new:
        raise TransientError(Code.TABLES_UNAVAILABLE, "the submission was answered meanwhile")
    await _say(tx, _id_of(tenant, answer.submission_id), tx.now_ms, answer, envelope)


async def answer_stranger(
    tx: Transaction, record: str, answer: DocumentRefused, envelope: Envelope
) -> None:
    """Refuse whoever may not be remembered: for an id or a tenant that is not known to be theirs.

    `record` says which record of which log is answered, always the same.
    """
    await _say(tx, derived_id("refused", record), tx.now_ms, answer, envelope)


def _id_of(tenant: str, submission_id: str) -> str:
    return derived_id("answer", tenant, submission_id)


async def _say(
    tx: Transaction, event_id: str, at_ms: int, answer: Answer, envelope: Envelope
) -> None:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    event = Event(event_id, _SOURCE, moment, answer, envelope.traceparent)
    await put_keyed(tx, event, envelope.key)
