"""Usage windows: what one holds, and how an event adds to it.

Windows tumble by minute, hour and day, and are kept apart by tenant, service and stage. What a
tenant spends at a service stands under the empty stage, a stage under its name, and the calls of a
service under `call.` and their operation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import tzinfo
from enum import StrEnum
from typing import Any

import msgspec
import orjson

from schemas.events import ServiceCalled, StageTimed
from schemas.periods import Period, Span, span
from streams.durations import bucket_of

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

SPENDING = ""
"""The stage under which money stands."""


class Step(StrEnum):
    """How long a window lasts."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


KEPT_MS = {Step.MINUTE: 2 * HOUR_MS, Step.HOUR: 8 * DAY_MS, Step.DAY: 63 * DAY_MS}
"""How long windows are kept after their start: a month, and the bills that come a month late."""

AHEAD_MS = DAY_MS
"""An event from further in the future is no measurement; its window would never end."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One tumble: how long, and when it began, in unix milliseconds."""

    step: Step
    start_ms: int


@dataclass(frozen=True, slots=True)
class Name:
    """Whose window of a slot it is."""

    tenant: str
    service: str
    stage: str


@dataclass(frozen=True, slots=True)
class Amounts:
    """What one event adds to its windows; what is given back is negative."""

    spent_micro_usd: int = 0
    spent_pages: int = 0
    spent_requests: int = 0
    held_micro_usd: int = 0
    held_pages: int = 0
    held_requests: int = 0
    count: int = 0
    errors: int = 0
    pages: int = 0


@dataclass(slots=True)
class Window:
    """What was counted; `read` is the last offset of each log that went into it.

    An event that is read again after a crash is skipped by the windows that have it, and counted
    by those whose record of it was lost.
    """

    partition: int
    spent_micro_usd: int = 0
    spent_pages: int = 0
    spent_requests: int = 0
    held_micro_usd: int = 0
    held_pages: int = 0
    held_requests: int = 0
    count: int = 0
    errors: int = 0
    pages: int = 0
    seconds: dict[int, int] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)

    def add(self, amounts: Amounts, seconds: float | None, log: str, offset: int) -> bool:
        """Add an event, unless it is in already, and tell whether it was added."""
        if self.read.get(log, -1) >= offset:
            return False
        self.read[log] = offset
        for name in _AMOUNTS:
            setattr(self, name, getattr(self, name) + getattr(amounts, name))
        if seconds is not None:
            bucket = bucket_of(seconds)
            self.seconds[bucket] = self.seconds.get(bucket, 0) + 1
        return True

    def error_share(self) -> float:
        """Tell the share of what was measured that did not end well; 0 of nothing."""
        return self.errors / self.count if self.count else 0.0


_AMOUNTS: tuple[str, ...] = tuple(Amounts.__dataclass_fields__)


def measured(body: StageTimed | ServiceCalled) -> tuple[Name, Amounts]:
    """Tell which windows a measurement belongs to, and what it adds to them."""
    errors = int(body.outcome != "ok")
    if isinstance(body, StageTimed):
        return Name(body.tenant, body.service, body.stage), Amounts(count=1, errors=errors)
    name = Name(body.tenant, body.service, f"call.{body.operation}")
    return name, Amounts(count=1, errors=errors, pages=body.pages)


def slots_of(at_ms: int, now_ms: int, zone: tzinfo) -> Iterator[Slot]:
    """Give the slots of a moment that are kept at present; of the far future there are none."""
    if at_ms > now_ms + AHEAD_MS:
        return
    for step, kept_ms in KEPT_MS.items():
        if at_ms > now_ms - kept_ms:
            slot = Slot(step, span_of(step, at_ms, zone).start_ms)
            if not is_over(slot, now_ms):
                yield slot


def span_of(step: Step, at_ms: int, zone: tzinfo) -> Span:
    """Give the window that a moment lies in; days and hours are those of the zone."""
    if step is Step.MINUTE:
        start_ms = at_ms - at_ms % MINUTE_MS
        return Span(start_ms, start_ms + MINUTE_MS)
    return span(Period.HOUR if step is Step.HOUR else Period.DAY, at_ms, zone)


def is_over(slot: Slot, now_ms: int) -> bool:
    """Tell whether a slot is kept no longer."""
    return slot.start_ms <= now_ms - KEPT_MS[slot.step]


def encode(thing: Any) -> bytes:
    """Write a window, or whatever else is kept of usage."""
    return msgspec.json.encode(thing)


def window_key(slot: Slot, name: Name) -> bytes:
    """Write the key under which a window is kept."""
    return orjson.dumps(["w", slot.step, slot.start_ms, name.tenant, name.service, name.stage])
