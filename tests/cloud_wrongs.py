"""What goes wrong with a document at LlamaCloud, how it ends, and how time passes for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.faults import Fault

INTENT_GROWS_OLD = (
    "UPDATE attempts SET intent_ms = intent_ms - 130000 WHERE job_id = ? AND ended_ms IS NULL"
    " AND intent_ms > (strftime('%s', 'now') - 60) * 1000"
)
GROWS_OLD = "UPDATE vendor_jobs SET queued_ms = queued_ms - {} WHERE job_id = ?"
RETRY_NOW = (
    "UPDATE timers SET due_ms = due_ms - 600000 WHERE job_id = ? AND kind = 'step'"
    " AND due_ms > strftime('%s', 'now') * 1000"
    " AND EXISTS (SELECT 1 FROM jobs WHERE id = job_id AND state = 'retry_wait')"
)
SETTLE_NOW = (
    "UPDATE timers SET due_ms = due_ms - 7200000 WHERE job_id = ? AND kind = 'settle'"
    " AND due_ms > strftime('%s', 'now') * 1000"
)

Step = Callable[[Any, str, str], None]
"""What happens to a job there: given the deployment, our job's id and theirs."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a document ended: the states it went through with their codes, who was asked, the price.

    `bills` has an entry for each job there: how it was settled, and its credits. `money` has one
    for each attempt that held some: how that ended, and the micro-dollars that were spent.
    """

    way: str
    parser: str | None
    creates: int
    bills: tuple[str, ...] = ()
    circuit: str | None = None
    money: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wrong:
    """What goes wrong: faults by operation, a plan, and what happens there to the first job."""

    faults: tuple[tuple[str, Fault, Mapping[str, Any]], ...] = ()
    plan: Plan | None = None
    there: Step | None = None
    grows_old: bool = False
    """Two minutes and more pass for an intent whose end nobody told."""
    twice: bool = False
    """The same bytes were parsed a moment before."""
    pages: int = 1


@dataclass(slots=True)
class Seen:
    """A document's end, with what else was seen on the way."""

    ended: Ended
    answers: list[int | None]
    parked: int
    warnings: list[str] = field(default_factory=list)
