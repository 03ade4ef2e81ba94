"""Intents to spend whose end nobody told: the parser elsewhere is asked what came of them.

                   found there     not found after 2 min
waited for         ParseQueued     worker_lost
its job went on    ParseQueued     struck out: nothing was spent
A job that was found for a job that went on is booked by that, then stopped and settled.
Nothing is concluded from a parser that does not answer.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from schemas.errors import Code, PermanentError, TransientError
from schemas.job import Job
from schemas.periods import moment_of
from schemas.timings import Timings
from streams.billing import Billing, release
from streams.jobs import from_row
from streams.lease_judge import LeaseJudge
from streams.metrics import STEP_TIMERS_FIRED, Recorder
from streams.outbox import put_events
from streams.parsers.base import RemoteParser, VendorJob
from streams.repeating import repeat
from streams.tables.base import Row, Tables, Transaction
from streams.vendor_events import failed, queued, said_once, timer_event

log = structlog.get_logger(__name__)

_MOST = 20
_FOUND_WITHIN_MS = 120_000
_AGAIN_MS = 10_000
_BEAT_SECONDS = 1.0

_SOURCE = "vendor_intents"
_FAILED = "vendor_intents_failed"


@dataclass(frozen=True, slots=True)
class Intent:
    """An attempt whose worker is gone, or without an answer, after it meant to spend."""

    job: Job
    attempt: int
    parser: str
    since_ms: int
    due_ms: int
    now_ms: int
    waited_for: bool
    booked: bool = False
    """The job that it created there is known."""


def judge(intent: Intent, seen: VendorJob | None, *, known: bool, job_ms: int) -> str:
    """Decide what came of an intent; a parser that is not configured may have its job."""
    if seen is not None:
        return "found"
    if not intent.booked:
        within_ms = _FOUND_WITHIN_MS if known else max(job_ms, _FOUND_WITHIN_MS)
        if intent.now_ms - intent.since_ms <= within_ms:
            return "not_found_yet"
    return "worker_lost" if intent.waited_for else "struck"


class VendorIntents:
    """Resolves intents; any number of these do no harm to each other."""

    def __init__(
        self,
        tables: Tables,
        parsers: Mapping[str, RemoteParser],
        recorder: Recorder,
        timings: Timings,
        billing: Billing,
        *,
        job_ms: int,
        every_seconds: float,
    ) -> None:
        self._tables = tables
        self._billing = billing
        self._parsers = parsers
        self._recorder = recorder
        self._job_ms = job_ms
        self._every_seconds = every_seconds
        self._leases = LeaseJudge(timings.lease_ms)

    async def run(self) -> None:
        """Tick until cancelled; trouble of the tables or of a vendor only delays."""
        async with asyncio.TaskGroup() as group:
            # A vendor's slow answers are no silence after which leases may not be judged.
            group.create_task(repeat(self.beat, _BEAT_SECONDS, failed=_FAILED))
            group.create_task(repeat(self.tick, self._every_seconds, failed=_FAILED))

    async def beat(self) -> None:
        """Note that leases can be renewed: the tables take writes."""

        async def unit(tx: Transaction) -> int:
            self._leases.may_judge(tx.now_ms)
            return tx.now_ms

        self._leases.ticked(await self._tables.write(unit))

    async def tick(self) -> None:
        """Take what is due, look for the jobs it may have made, and say what that means."""
        now_ms, intents = await self._tables.write(self._take)
        self._leases.ticked(now_ms)
        for intent in intents:
            await self._resolve(intent)

    async def _take(self, tx: Transaction) -> tuple[int, list[Intent]]:
        """Put them off before anybody is asked, so that a death in between only delays."""
        found = []
        if self._leases.may_judge(tx.now_ms):
            for row in await tx.all("vendor.due_intents", most=_MOST):
                next_ms = tx.now_ms + _AGAIN_MS
                timer = {"kind": "step", "due_ms": row["due_ms"], "next_ms": next_ms, "repeat": 1}
                if await tx.run("jobs.take_timer", job_id=row["id"], **timer):
                    found.append(_intent(row, row["attempt"], tx.now_ms, waited_for=True))
        for row in await tx.all("vendor.left_intents", most=_MOST):
            intent = _intent(row, row["intent_attempt"], tx.now_ms, waited_for=False)
            put_off = {"due_ms": intent.due_ms, "next_ms": tx.now_ms + _AGAIN_MS}
            if await tx.run("vendor.put_off_intent", **_named(intent), **put_off):
                found.append(intent)
        return tx.now_ms, found

    async def _resolve(self, intent: Intent) -> None:
        parser, seen = self._parsers.get(intent.parser), None
        if parser is not None and not intent.booked:
            since = moment_of(intent.since_ms)
            try:
                seen = await parser.find(intent.job.id, intent.attempt, since)
            except (TransientError, PermanentError) as error:
                log.warning("vendor_not_asked", parser=parser.name, jobs=1, error=error.message)
                return
        outcome = judge(intent, seen, known=parser is not None, job_ms=self._job_ms)
        self._recorder.add(STEP_TIMERS_FIRED, kind="intent", outcome=outcome)
        if outcome != "not_found_yet":
            await self._tables.write(
                lambda tx: self._conclude(tx, intent, outcome, seen, asked=parser is not None)
            )

    async def _conclude(
        self, tx: Transaction, intent: Intent, outcome: str, seen: VendorJob | None, *, asked: bool
    ) -> None:
        if seen is not None:
            job = intent.job
            body = queued(job.id, job.tenant, intent.attempt, intent.parser, seen)
            await put_events(tx, [said_once(body, seen.id, job, _SOURCE, tx.now_ms)])
        elif not await self._missed(tx, intent, outcome, asked=asked):
            return
        if not intent.waited_for:
            await tx.run("vendor.strike_intent", **_named(intent))

    async def _missed(self, tx: Transaction, intent: Intent, outcome: str, *, asked: bool) -> bool:
        """Conclude that there is no job, unless one was heard of while the parser was asked."""
        job = intent.job
        state = {"state": job.state.value, "job_attempt": job.attempt}
        heard = await tx.one("vendor.since_asked", **_named(intent), **state)
        if heard is None or heard["moving"]:
            return False
        if outcome == "worker_lost":
            why = "the worker's lease ran out, and no job of it was found"
            lost = failed(job, Code.WORKER_LOST, why, transient=True, parser=intent.parser)
            await put_events(tx, [timer_event(job, intent.due_ms, lost, _SOURCE, tx.now_ms)])
        if not heard["booked"]:
            await self._free(tx, intent, outcome, asked=asked)
        return True

    async def _free(self, tx: Transaction, intent: Intent, outcome: str, *, asked: bool) -> None:
        """Give the money back; where nobody could be asked, it may be billed all the same."""
        if asked:
            await release(tx, intent.job.id, intent.attempt, outcome)
        else:
            await self._billing.give_up(tx, intent.job.id, intent.attempt)


def _named(intent: Intent) -> dict[str, Any]:
    return {"job_id": intent.job.id, "attempt": intent.attempt}


def _intent(row: Row, attempt: int, now_ms: int, *, waited_for: bool) -> Intent:
    return Intent(
        job=from_row(row),
        attempt=attempt,
        parser=row["intent_parser"] or "",
        since_ms=row["intent_ms"],
        due_ms=row["due_ms"],
        now_ms=now_ms,
        waited_for=waited_for,
        booked=bool(row["booked"]),
    )
