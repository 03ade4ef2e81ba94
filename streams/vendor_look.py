"""A look at a job elsewhere: what it has become there is fetched, kept and said once."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

import structlog

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from schemas.events import BlobRef, ParseFailed, ParseQueued, ParseSucceeded
from schemas.job import OPEN, Job, State
from streams.billing import Billing
from streams.blobs.base import Blobs, elsewhere_key
from streams.ends import succeeded
from streams.jobs import from_row
from streams.metrics import Recorder
from streams.outbox import put_events
from streams.parsers.base import Parsed, RemoteParser, VendorJob, VendorState
from streams.processor import Parked
from streams.results import encode
from streams.service_call import ServiceCall
from streams.tables.base import Tables, Transaction
from streams.telemetry import Telemetry
from streams.vendor_events import failed, queued, said_once

log = structlog.get_logger(__name__)

_SOURCE = "callbacks"

_FETCHED_WITHIN_MS = 4 * 3_600_000
_OF_THE_RESULT = frozenset({Code.VENDOR_LOST, Code.VENDOR_FAILED, Code.PARSE_TIMEOUT})
"""Trouble that may be this result's alone: after hours of it, its job is not kept waiting."""
_FETCH_SHARE = 0.8


class LeftToTheSweepError(Exception):
    """The parser did not answer: the job's timer brings somebody back to it."""


@dataclass(frozen=True, slots=True)
class _Owner:
    """Our job, the attempt that made the vendor's job, whether that is booked, and its age."""

    job: Job
    attempt: int
    booked: bool
    age_ms: int


class VendorLook:
    """Looks at one parser's jobs; doing so again changes nothing.

    `seconds` bounds one look, the vendor's answers and the keeping of the result together.
    """

    def __init__(
        self,
        parser: RemoteParser,
        tables: Tables,
        blobs: Blobs,
        telemetry: Telemetry,
        recorder: Recorder,
        billing: Billing,
        *,
        seconds: float,
    ) -> None:
        self._parser = parser
        self._tables = tables
        self._blobs = blobs
        self._telemetry = telemetry
        self._recorder = recorder
        self._billing = billing
        self._seconds = seconds

    async def at(self, vendor_job_id: str) -> Parked | None:
        """Look at a job, and say what has become of it; park one that is nobody's."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._at(vendor_job_id)
        except (LeftToTheSweepError, TimeoutError) as error:
            log.warning("left_to_the_sweep", parser=self._parser.name, error=str(error))
            return None

    async def _at(self, vendor_job_id: str) -> Parked | None:
        seen = await self._see(vendor_job_id)
        if seen is None:
            # A webhook that comes again finds a job that was deleted there once it was settled.
            if await self._tables.read(lambda tx: self._is_settled(tx, vendor_job_id)):
                return None
            return self._unknown("does not know the job that the webhook names")
        owner = await self._tables.read(lambda tx: self._owner(tx, seen))
        if owner is None:
            return self._unknown("made a job that is none of ours")
        job = owner.job
        if not _counts(owner, seen):
            if not owner.booked:
                await self._book(owner, seen)
            elif seen.credits is not None and seen.state is not VendorState.PENDING:
                # A bill that came, or changed, after its job was settled.
                await self._tables.write(lambda tx: self._bill(tx, seen))
            return None
        if seen.state is VendorState.PENDING:
            if job.state is not State.PARSE_QUEUED:
                await self._book(owner, seen)
            return None
        end = await self._end(owner, seen)
        counts = await self._tables.write(lambda tx: self._say(tx, job, seen, end))
        if isinstance(end, ParseSucceeded) and not counts:
            # Its job was moved on, and what was erased with it must not lie here again.
            await self._blobs.delete(end.result.key)
        return None

    async def _end(self, owner: _Owner, seen: VendorJob) -> ParseSucceeded | ParseFailed:
        job, name = owner.job, self._parser.name
        if seen.state is VendorState.CANCELLED:
            why = "somebody cancelled the job there"
            return failed(job, Code.VENDOR_CANCELLED, why, transient=True, parser=name)
        if seen.state is VendorState.FAILED:
            code, why = (
                seen.code or Code.VENDOR_FAILED,
                seen.message or "the parser does not say why",
            )
            return failed(job, code, why, transient=seen.transient, parser=name)
        try:
            parsed = await self._fetch(job, seen)
        except PermanentError as error:
            return failed(job, error.code, error.message, transient=False, parser=name)
        except TransientError as error:
            if error.code not in _OF_THE_RESULT or owner.age_ms <= _FETCHED_WITHIN_MS:
                raise _left(error) from error
            return failed(job, error.code, error.message, transient=True, parser=name)
        result = await self._keep(job, parsed)
        return succeeded(job.id, job.tenant, job.attempt, result, parsed)

    async def _fetch(self, job: Job, seen: VendorJob) -> Parsed:
        name = self._parser.name
        with ServiceCall(
            self._recorder,
            self._telemetry,
            name,
            "fetch",
            tenant=job.tenant,
            traceparent=job.traceparent,
        ) as call:
            parsed = await self._within_its_time(self._parser.fetch(seen.id))
            call.pages = len(parsed.pages)
        return parsed

    async def _within_its_time(self, fetching: Awaitable[Parsed]) -> Parsed:
        try:
            async with asyncio.timeout(self._seconds * _FETCH_SHARE):
                return await fetching
        except TimeoutError:
            why = f"the result did not come in {self._seconds * _FETCH_SHARE:g} s"
            raise TransientError(Code.PARSE_TIMEOUT, why) from None

    async def _keep(self, job: Job, parsed: Parsed) -> BlobRef:
        name = self._parser.name
        price = await self._tables.read(
            lambda tx: self._billing.price(tx, name, job, parsed.credits)
        )
        content = await asyncio.to_thread(encode, parsed, price)
        # Somebody else may fetch the same job: what its event names must not change under it.
        return await self._blobs.put_first(elsewhere_key(job.tenant, job.id, job.attempt), content)

    async def _say(
        self, tx: Transaction, job: Job, seen: VendorJob, end: ParseSucceeded | ParseFailed
    ) -> bool:
        """Say the end, and tell whether the job may still come to it, or came to it already."""
        named = {"parser": self._parser.name, "vendor_job_id": seen.id}
        said: list[ParseQueued | ParseSucceeded | ParseFailed] = [end]
        if job.state is not State.PARSE_QUEUED:
            # Its submission may never be answered, and then nobody else has its bill asked for.
            said.insert(0, queued(job.id, job.tenant, job.attempt, self._parser.name, seen))
        await put_events(tx, [said_once(body, seen.id, job, _SOURCE, tx.now_ms) for body in said])
        await tx.run("vendor.book", job_id=job.id, attempt=job.attempt, **named)
        if seen.credits is not None:
            await self._bill(tx, seen)
        row = await tx.one("jobs.by_id", id=job.id)
        return row is not None and _may_end(from_row(row), end)

    async def _bill(self, tx: Transaction, seen: VendorJob) -> None:
        name, billed = self._parser.name, seen.credits
        await self._billing.settle(tx, name, seen.id, "billed", credits_billed=billed)

    async def _book(self, owner: _Owner, seen: VendorJob) -> None:
        """Say whose the job there is: for the bill, and to have it stopped if nobody wants it."""
        job = owner.job
        body = queued(job.id, job.tenant, owner.attempt, self._parser.name, seen)

        async def unit(tx: Transaction) -> None:
            await put_events(tx, [said_once(body, seen.id, job, _SOURCE, tx.now_ms)])

        await self._tables.write(unit)

    async def _owner(self, tx: Transaction, seen: VendorJob) -> _Owner | None:
        named = {"parser": self._parser.name, "vendor_job_id": seen.id}
        booked = await tx.one("vendor.by_id", **named)
        job_id, attempt = seen.job_id, seen.attempt
        if (job_id is None or attempt is None) and booked is not None:
            job_id, attempt = booked["job_id"], booked["attempt"]
        row = await tx.one("jobs.by_id", id=job_id) if job_id is not None else None
        if row is None or attempt is None:
            return None
        job = from_row(row)
        since_ms = job.updated_ms if booked is None else booked["queued_ms"]
        return _Owner(job, attempt, booked is not None, tx.now_ms - since_ms)

    async def _is_settled(self, tx: Transaction, vendor_job_id: str) -> bool:
        named = {"parser": self._parser.name, "vendor_job_id": vendor_job_id}
        booked = await tx.one("vendor.by_id", **named)
        return booked is not None and booked["settled_ms"] is not None

    def _unknown(self, what: str) -> Parked:
        return Parked(Code.WEBHOOK_UNKNOWN, f"{self._parser.name} {what}")

    async def _see(self, vendor_job_id: str) -> VendorJob | None:
        try:
            return await self._parser.see(vendor_job_id)
        except (TransientError, PermanentError) as error:
            if error.code is Code.VENDOR_LOST:
                return None
            # It says nothing of the job, and a day of such answers would stop this processor.
            raise _left(error) from error


def _left(error: ParsewireError) -> LeftToTheSweepError:
    return LeftToTheSweepError(f"{error.code}: {error.message}")


def _may_end(job: Job, end: ParseSucceeded | ParseFailed) -> bool:
    if job.attempt == end.attempt and job.state in OPEN:
        return True
    return isinstance(end, ParseSucceeded) and job.result is not None and job.result == end.result


def _counts(owner: _Owner, seen: VendorJob) -> bool:
    """Tell whether it says something of the job; a second one of its attempt may only serve it."""
    job = owner.job
    if job.attempt != owner.attempt or job.state not in OPEN:
        return False
    second = job.state is State.PARSE_QUEUED and job.vendor_job_id != seen.id
    return not second or seen.state is VendorState.COMPLETED
