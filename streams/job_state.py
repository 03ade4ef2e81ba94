"""The job_state fold: moves jobs, keeps their history and timers, says what moved."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args

import orjson

from schemas.codec import type_name
from schemas.errors import Code, PermanentError
from schemas.events import Event, JobInput, JobMoved, ParseDeferred, ParseFailed, ParseQueued
from schemas.ids import sibling_id
from schemas.job import Ignored, Job, Moved, State, move, offer
from schemas.periods import moment_of
from schemas.timings import Clock, Timings
from schemas.topics import JOBS_EVENTS, Topic, key_of
from streams.jobs import from_row, moved_values
from streams.outbox import put_events
from streams.tables.base import Transaction

_INPUTS = frozenset(get_args(JobInput))
_SOURCE = "/parsewire/job_state"
_FAILED = (State.FAILED_PARSE, State.RETRY_WAIT)
_UNPAID = (Code.BUDGET_SPENT, Code.SPENDING_FROZEN)

Link = Callable[[Job, int], str]
"""Writes the address of a complete job's result, from the job and the unix milliseconds."""


@dataclass(slots=True)
class _Changes:
    """What a batch does, gathered in memory and written in sets."""

    before: dict[str, Job]
    jobs: dict[str, Job]
    clock: Clock
    moment: datetime
    link: Link | None
    history: list[dict[str, Any]] = field(default_factory=list)
    steps: dict[str, int | None] = field(default_factory=dict)
    erasures: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[State, int] = field(default_factory=dict)
    outgoing: list[Event] = field(default_factory=list)
    booked: list[dict[str, Any]] = field(default_factory=list)
    settles: dict[str, int] = field(default_factory=dict)
    """When somebody asks for the bills of a job's vendor jobs."""
    unpaid: list[dict[str, Any]] = field(default_factory=list)
    """The attempts that were put off for money."""


class JobState:
    """The only one that changes jobs."""

    name = "job_state"
    topics: tuple[Topic, ...] = (JOBS_EVENTS,)

    def __init__(
        self,
        timings: Timings,
        chance: Callable[[], float] = random.random,
        *,
        link: Link | None = None,
    ) -> None:
        self._timings = timings
        self._chance = chance
        self._link = link

    async def apply(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Apply the events in order, each once."""
        for event in events:
            if type(event.body) not in _INPUTS:
                raise PermanentError(
                    Code.POISON_EVENT, f"{type_name(event.body)} does not belong in jobs.events"
                )
        ids = orjson.dumps([event.id for event in events]).decode()
        seen = {row["event_id"] for row in await tx.all("jobs.seen_events", ids=ids)}
        job_ids = orjson.dumps(list({key_of(event.body) for event in events})).decode()
        before = {row["id"]: from_row(row) for row in await tx.all("jobs.by_ids", ids=job_ids)}
        clock = Clock(tx.now_ms, self._chance, self._timings)
        moment = moment_of(tx.now_ms)
        changes = _Changes(before, dict(before), clock, moment, self._link)
        for event in events:
            if event.id not in seen:
                seen.add(event.id)
                _apply(changes, event)
        await _write(tx, changes)
        await _wake_unpaid(tx, changes)
        await tx.run("outbox.remove_seen", ids=ids)


def _apply(changes: _Changes, event: Event) -> None:
    body: Any = event.body
    job = changes.jobs.get(body.job_id)
    outcome = move(job, body, changes.clock)
    _book(changes, body, job, outcome)
    if isinstance(outcome, Ignored) or job is None:
        reason = outcome.reason if isinstance(outcome, Ignored) else "no such job"
        changes.history.append(_line(event, event.id, ignored=reason))
        return
    changes.jobs[job.id] = outcome.job
    changes.steps[job.id] = outcome.step_due_ms
    if outcome.erase_due_ms is not None:
        changes.erasures.append({"job_id": job.id, "due_ms": outcome.erase_due_ms})
    if isinstance(body, ParseDeferred) and body.code in _UNPAID:
        changes.unpaid.append({"job_id": job.id, "attempt": body.attempt})
    _record(changes, event, job, outcome)


def _book(changes: _Changes, body: Any, job: Job | None, outcome: Moved | Ignored) -> None:
    """Keep every vendor job, late ones too, and see that its bill is asked for."""
    if job is None:
        return
    if isinstance(body, ParseQueued):
        changes.booked.append(
            {
                "parser": body.parser,
                "vendor_job_id": body.vendor_job_id,
                "job_id": job.id,
                "attempt": body.attempt,
            }
        )
        if isinstance(outcome, Ignored):
            changes.settles[job.id] = changes.clock.now_ms
    if job.state is State.PARSE_QUEUED and isinstance(outcome, Moved):
        due_ms = changes.clock.now_ms + changes.clock.timings.settle_ms
        changes.settles.setdefault(job.id, due_ms)


def _record(changes: _Changes, event: Event, job: Job, moved: Moved) -> None:
    """Write a history line and a JobMoved for each state that the job went through."""
    state = job.state
    trace = event.traceparent or job.traceparent
    for step, target in enumerate(moved.through):
        line_id = event.id if step == 0 else sibling_id(event.id, target)
        changes.history.append(_line(event, line_id, from_state=state, to_state=target))
        changes.counts[state] = changes.counts.get(state, 0) - 1
        changes.counts[target] = changes.counts.get(target, 0) + 1
        moved_id = sibling_id(event.id, "moved", target)
        said = _said(moved.job, state, target, changes)
        changes.outgoing.append(Event(moved_id, _SOURCE, changes.moment, said, trace))
        state = target
    if state is State.UPLOADED:
        offer_id = sibling_id(event.id, "offer")
        offered = offer(moved.job)
        changes.outgoing.append(Event(offer_id, _SOURCE, changes.moment, offered, trace))


def _said(job: Job, source: State, target: State, changes: _Changes) -> JobMoved:
    link = changes.link if target is State.COMPLETE else None
    return JobMoved(
        job_id=job.id,
        tenant=job.tenant,
        attempt=job.attempt,
        document_id=job.document_id,
        from_state=str(source),
        to_state=str(target),
        code=job.error_code if target in _FAILED else None,
        parser=job.parser,
        pages=job.pages,
        result=job.result,
        reference=job.reference,
        result_url=None if link is None else link(job, changes.clock.now_ms),
    )


def _line(
    event: Event,
    line_id: str,
    *,
    from_state: State | None = None,
    to_state: State | None = None,
    ignored: str | None = None,
) -> dict[str, Any]:
    body: Any = event.body
    return {
        "event_id": line_id,
        "job_id": body.job_id,
        "type": type_name(body),
        "attempt": body.attempt,
        "from_state": from_state and str(from_state),
        "to_state": to_state and str(to_state),
        "ignored": ignored,
        "code": body.code if isinstance(body, (ParseFailed, ParseDeferred)) else None,
        "message": body.message if isinstance(body, ParseFailed) else None,
        "event_ms": int(event.time.timestamp() * 1000),
    }


async def _write(tx: Transaction, changes: _Changes) -> None:
    moved = [moved_values(changes.before[job_id], changes.jobs[job_id]) for job_id in changes.steps]
    if await tx.run_many("jobs.update", moved) != len(moved) and moved:
        raise RuntimeError("a job was changed beside its fold")
    await tx.run_many("jobs.remember", changes.history)
    await tx.run_many(
        "jobs.remove_timer",
        [{"job_id": job_id} for job_id, due_ms in changes.steps.items() if due_ms is None],
        kind="step",
    )
    await tx.run_many(
        "jobs.set_timer",
        [
            {"job_id": job_id, "due_ms": due_ms}
            for job_id, due_ms in changes.steps.items()
            if due_ms is not None
        ],
        kind="step",
    )
    await tx.run_many("jobs.set_timer", changes.erasures, kind="erase")
    await tx.run_many("vendor.book", changes.booked)
    await tx.run_many(
        "vendor.set_settle",
        [{"job_id": job_id, "due_ms": due_ms} for job_id, due_ms in changes.settles.items()],
    )
    await tx.run_many(
        "jobs.count_moves",
        [{"state": state.value, "change": by} for state, by in changes.counts.items() if by],
    )
    await put_events(tx, changes.outgoing)


async def _wake_unpaid(tx: Transaction, changes: _Changes) -> None:
    """Have those looked at now whose budgets were changed while their wait was on its way."""
    changed = await tx.one("limits.money_changed") if changes.unpaid else None
    if changed is not None:
        await tx.run_many("money.wake_put_off", changes.unpaid, **changed)
