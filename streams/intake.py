"""The intake: documents submitted on the bus, admitted as an upload is, and answered there."""

import structlog

from schemas.errors import ParsewireError, PermanentError, TransientError
from schemas.ids import uuid7
from schemas.submission_events import DocumentAccepted, DocumentRefused
from schemas.submission_record import Sender, Submitted, Unfit
from schemas.topics import Topic
from streams.admission import Admitted, Submission, admit
from streams.admission_rules import AdmissionRules
from streams.blobs.base import source_key
from streams.intake_metrics import SUBMISSIONS
from streams.metrics import UPLOAD_BYTES, Recorder
from streams.named_sources import NamedSources, Wanted
from streams.reservations import BudgetSpentError
from streams.speakers import Speakers
from streams.submissions import Envelope, answer_first, answer_stranger, say_again
from streams.tables.base import Transaction
from streams.tracing import child_of
from streams.upload_options import given_among

log = structlog.get_logger(__name__)

_ACCEPTED, _AGAIN = "accepted", "again"


class Intake:
    """Answers every submission: accepted, or refused in the words of HTTP.

    Whatever dies between two steps, the record comes again: job, inbox and answer are written in
    one transaction, and a blob that it does not name is the janitor's.
    """

    name = "intake"

    def __init__(
        self,
        speakers: Speakers,
        rules: AdmissionRules,
        sources: NamedSources,
        recorder: Recorder,
        *,
        cluster_id: str,
    ) -> None:
        self.topics: tuple[Topic, ...] = speakers.topics()
        self._speakers = speakers
        self._rules = rules
        self._tables = rules.tables
        self._sources = sources
        self._recorder = recorder
        self._cluster_id = cluster_id

    async def handle(self, event: Submitted | Unfit) -> None:
        """Answer one submission; raise TransientError where that cannot be done yet."""
        envelope = Envelope(event.sender.key, child_of(event.traceparent))
        try:
            tenant, submission_id = self._whose(event)
        except PermanentError as error:
            await self._refuse_stranger(event.sender, error, envelope)
            outcome = error.code.value
        else:
            outcome = await self._answer(event, tenant, submission_id, envelope)
        self._recorder.add(SUBMISSIONS, outcome=outcome)
        log.debug("submission_answered", outcome=outcome)

    def _whose(self, event: Submitted | Unfit) -> tuple[str, str]:
        """Give tenant and id; raise PermanentError where nothing may be remembered under them."""
        sender = event.sender
        if isinstance(event, Submitted):
            tenant = self._speakers.tenant_of(sender.origin.topic, sender.tenant)
            return tenant, event.submission_id
        unfit = PermanentError(event.code, event.message)
        if sender.submission_id is None:
            raise unfit
        try:
            tenant = self._speakers.tenant_of(sender.origin.topic, sender.tenant)
        except PermanentError:
            raise unfit from None
        return tenant, sender.submission_id

    async def _refuse_stranger(
        self, sender: Sender, error: PermanentError, envelope: Envelope
    ) -> None:
        at, tenant = sender.origin, sender.tenant
        if tenant is not None and not self._speakers.may_speak(at.topic, tenant):
            # Who waits for the tenant's answers would take this for one of them.
            tenant = None
        record = f"{self._cluster_id}/{at.topic}/{at.partition}/{at.offset}"
        answer = _refused(sender.submission_id or "", tenant, error, sender.reference)
        await self._tables.write(lambda tx: answer_stranger(tx, record, answer, envelope))

    async def _answer(
        self, event: Submitted | Unfit, tenant: str, submission_id: str, envelope: Envelope
    ) -> str:
        """Answer as before, or for the first time, and tell how."""
        named = {"tenant": tenant, "submission_id": submission_id}
        if await self._tables.read(lambda tx: tx.one("submissions.answer_of", **named)) is not None:
            await self._tables.write(lambda tx: say_again(tx, tenant, submission_id, envelope))
            return _AGAIN
        error: PermanentError | BudgetSpentError
        try:
            if isinstance(event, Submitted):
                return await self._take(event, tenant, envelope)
            error = PermanentError(event.code, event.message)
        except (PermanentError, BudgetSpentError) as refusal:
            error = refusal
        refused = _refused(submission_id, tenant, error, event.sender.reference)

        async def unit(tx: Transaction) -> str:
            if await say_again(tx, tenant, submission_id, envelope) is not None:
                return _AGAIN
            await answer_first(tx, tenant, refused, envelope)
            return refused.code

        return await self._tables.write(unit)

    async def _take(self, event: Submitted, tenant: str, envelope: Envelope) -> str:
        """Keep the document and admit it; what is raised leaves nothing behind."""
        options = given_among(event.options).read()
        await self._rules.check_options(tenant, options.parse)
        job_id = uuid7()
        wanted = Wanted(tenant, event.source, event.media_type, options.name)
        blob, media_type = await self._sources.keep(source_key(tenant, job_id), wanted)
        submission = Submission(
            job_id=job_id,
            tenant=tenant,
            source=blob,
            media_type=media_type,
            name=options.name,
            options=options.parse,
            force=options.force,
            traceparent=envelope.traceparent,
            reference=event.sender.reference,
        )
        outcome = await self._admit(submission, event.submission_id, envelope)
        if outcome != _AGAIN:
            await self._sources.taken(event.source)
        return outcome

    async def _admit(self, submission: Submission, submission_id: str, envelope: Envelope) -> str:
        terms, tenant = self._rules.terms, submission.tenant

        async def unit(tx: Transaction) -> str:
            if await say_again(tx, tenant, submission_id, envelope) is not None:
                return _AGAIN
            admitted = await admit(tx, submission, terms)
            answer = _accepted(submission_id, admitted, submission.reference)
            await answer_first(tx, tenant, answer, envelope)
            return "duplicate" if admitted.duplicate else _ACCEPTED

        try:
            outcome = await self._tables.write(unit)
        except TransientError:
            # The commit may have been made: a blob that no row names is the janitor's, and costs
            # less than a job without its bytes.
            raise
        except Exception:
            await self._sources.forget(submission.source.key)
            raise
        if outcome == _ACCEPTED:
            self._recorder.add(UPLOAD_BYTES, submission.source.size_bytes)
        else:
            await self._sources.forget(submission.source.key)
        return outcome


def _accepted(submission_id: str, admitted: Admitted, reference: str | None) -> DocumentAccepted:
    job = admitted.job
    return DocumentAccepted(
        submission_id=submission_id,
        tenant=job.tenant,
        job_id=job.id,
        document_id=job.document_id,
        duplicate=admitted.duplicate,
        state=job.state.value,
        reference=reference,
    )


def _refused(
    submission_id: str, tenant: str | None, error: ParsewireError, reference: str | None
) -> DocumentRefused:
    return DocumentRefused(submission_id, tenant, error.code.value, error.message, reference)
