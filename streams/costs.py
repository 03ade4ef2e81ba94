"""The costs fold: the ledger, its sums, and what budgets hold and have spent.

CostReserved    a line; the reserve call has held the money already
CostSettled     spent; the first of an attempt ends its reservation
CostReleased    the reservation ends, nothing is spent
CostCorrected   spent, more or less than before
What is spent is the sum of its events, in whichever order they come.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

import orjson

from schemas.codec import type_name
from schemas.cost_events import (
    CostCorrected,
    CostReleased,
    CostReserved,
    CostSettled,
    spent_by,
)
from schemas.errors import Code, PermanentError
from schemas.events import CostInput, Event
from schemas.periods import day_of, unix_ms
from schemas.topics import COSTS_EVENTS, Topic
from streams.tables.base import Row, Transaction

_KINDS: dict[type, str] = {
    CostReserved: "reserved",
    CostSettled: "settled",
    CostReleased: "released",
    CostCorrected: "corrected",
}

_HELD = ("reserved_micro_usd", "reserved_pages", "reserved_requests")
_SPENT = ("spent_micro_usd", "spent_pages", "spent_requests")
_DAILY = (*_SPENT, "estimated_micro_usd", "settled_micro_usd")

_Attempt = tuple[str, int]


@dataclass(slots=True)
class _Changes:
    """What a batch does, gathered in memory and written in sets."""

    open: dict[_Attempt, Row]
    """The reservations that the batch may end."""
    lines: list[dict[str, Any]] = field(default_factory=list)
    ends: list[dict[str, Any]] = field(default_factory=list)
    windows: dict[tuple[str, str, int], dict[str, int]] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys((*_HELD, *_SPENT), 0))
    )
    """By tenant, service and moment."""
    days: dict[tuple[str, str, str, str], dict[str, int]] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(_DAILY, 0))
    )
    """By day, tenant, service and tier."""


class Costs:
    """The only one that writes the ledger and ends reservations; days are those of `zone`."""

    name = "costs"
    topics: tuple[Topic, ...] = (COSTS_EVENTS,)

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    async def apply(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Apply the events, each once."""
        bodies: dict[str, tuple[Event, CostInput]] = {}
        for event in events:
            if not isinstance(event.body, CostInput):
                raise PermanentError(
                    Code.POISON_EVENT, f"{type_name(event.body)} does not belong in costs.events"
                )
            bodies.setdefault(event.id, (event, event.body))
        ids = orjson.dumps(list(bodies)).decode()
        seen = {row["event_id"] for row in await tx.all("money.seen_costs", ids=ids)}
        fresh = [pair for event_id, pair in bodies.items() if event_id not in seen]
        changes = _Changes(await _open_reservations(tx, [body for _, body in fresh]))
        for event, body in fresh:
            self._apply(changes, event, body)
        await _write(tx, changes)
        await tx.run("outbox.remove_seen", ids=ids)

    def _apply(self, changes: _Changes, event: Event, body: CostInput) -> None:
        booked_ms = unix_ms(body.booked_at)
        day = day_of(booked_ms, self._zone)
        ended = _ended(changes, body)
        change = {**_given_back(ended), **dict(zip(_SPENT, spent_by(body), strict=True))}
        window = changes.windows[body.tenant, body.service, booked_ms]
        for name, amount in change.items():
            window[name] += amount
        if isinstance(body, CostSettled | CostCorrected):
            daily = changes.days[day, body.tenant, body.service, body.tier or ""]
            for name in _SPENT:
                daily[name] += change[name]
            if ended is not None:
                daily["estimated_micro_usd"] += ended["micro_usd"]
                daily["settled_micro_usd"] += body.micro_usd
        # The reserve call has raised the windows: the line alone tells of it.
        held = body.micro_usd if isinstance(body, CostReserved) else change["reserved_micro_usd"]
        line = _line(event, body) | {name: change[name] for name in _SPENT}
        line |= {"reserved_micro_usd": held, "day": day, "booked_ms": booked_ms}
        changes.lines.append(line)


def _given_back(ended: Row | None) -> dict[str, int]:
    if ended is None:
        return dict.fromkeys(_HELD, 0)
    return dict(zip(_HELD, (-ended["micro_usd"], -ended["pages"], -1), strict=True))


def _ended(changes: _Changes, body: CostInput) -> Row | None:
    """Give the reservation that the event ends, if it is open still."""
    if not isinstance(body, CostSettled | CostReleased):
        return None
    held = changes.open.pop((body.job_id, body.attempt), None)
    if held is not None:
        state = _KINDS[type(body)]
        changes.ends.append({"job_id": body.job_id, "attempt": body.attempt, "state": state})
    return held


async def _open_reservations(tx: Transaction, bodies: Sequence[CostInput]) -> dict[_Attempt, Row]:
    ending = {body.job_id for body in bodies if isinstance(body, CostSettled | CostReleased)}
    if not ending:
        return {}
    job_ids = orjson.dumps(list(ending)).decode()
    rows = await tx.all("money.reservations_of", job_ids=job_ids)
    return {(row["job_id"], row["attempt"]): row for row in rows if row["state"] == "reserved"}


def _line(event: Event, body: CostInput) -> dict[str, Any]:
    billed = body if isinstance(body, CostSettled | CostCorrected) else None
    return {
        "event_id": event.id,
        "kind": _KINDS[type(body)],
        "job_id": body.job_id,
        "attempt": body.attempt,
        "tenant": body.tenant,
        "service": body.service,
        "tier": body.tier,
        "vendor_job_id": billed and billed.vendor_job_id,
        "basis": body.basis if isinstance(body, CostSettled) else None,
        "credits": billed and billed.credits,
        "event_ms": unix_ms(event.time),
    }


async def _write(tx: Transaction, changes: _Changes) -> None:
    if changes.ends and await tx.run_many("money.end_reservation", changes.ends) != len(
        changes.ends
    ):
        raise RuntimeError("a reservation was ended beside its fold")
    await tx.run_many("money.write_line", changes.lines)
    await tx.run_many(
        "money.change_windows",
        [
            {"tenant": tenant, "service": service, "booked_ms": booked_ms, **change}
            for (tenant, service, booked_ms), change in changes.windows.items()
            if any(change.values())
        ],
    )
    await tx.run_many(
        "money.add_to_day",
        [
            {"day": day, "tenant": tenant, "service": service, "tier": tier, **change}
            for (day, tenant, service, tier), change in changes.days.items()
        ],
    )
