"""Attempts as usage remembers them: what is held for one, and which of its events were counted."""

from dataclasses import dataclass, field

import orjson

from schemas.cost_events import CostReleased, CostReserved, CostSettled, spent_by
from schemas.events import CostInput
from streams.usage_windows import DAY_MS, Amounts

ENDED_KEPT_MS = 2 * DAY_MS
"""How long an ended attempt is remembered after its last event: a double comes within hours."""

OPEN_KEPT_MS = 63 * DAY_MS
"""The same while money is held for it: as long as the windows that hold it."""

_MOST_IDS = 32
"""An attempt has three events, and one more for each correction of its bill."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is held for an attempt at present, and the ids of the events that said so."""

    partition: int
    touched_ms: int
    seen: tuple[str, ...] = field(default=())
    held_micro_usd: int = 0
    held_pages: int = 0
    held_requests: int = 0
    ended: bool = False


def moved(
    before: Attempt | None, event_id: str, body: CostInput, partition: int, now_ms: int
) -> tuple[Attempt, Amounts]:
    """Give the attempt after an event, and what the event adds to the windows of its moment.

    Whichever comes first, the reservation or its end: what is held at last is the same.
    """
    old = before or Attempt(partition, now_ms)
    held = (old.held_micro_usd, old.held_pages, old.held_requests)
    ended, after = old.ended, held
    match body:
        case CostReserved() if not ended:
            after = (body.micro_usd, body.pages, 1)
        case CostSettled() | CostReleased():
            ended, after = True, (0, 0, 0)
    change = tuple(new - was for new, was in zip(after, held, strict=True))
    seen = (*old.seen, event_id)[-_MOST_IDS:]
    return Attempt(old.partition, now_ms, seen, *after, ended), Amounts(*spent_by(body), *change)


def is_forgotten(attempt: Attempt, now_ms: int) -> bool:
    """Tell whether an attempt is remembered no longer."""
    kept_ms = ENDED_KEPT_MS if attempt.ended else OPEN_KEPT_MS
    return attempt.touched_ms <= now_ms - kept_ms


def attempt_key(job_id: str, attempt: int) -> bytes:
    """Write the key under which an attempt is kept."""
    return orjson.dumps(["a", job_id, attempt])
