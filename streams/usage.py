"""Usage: the windows of everybody, what they are counted from, and what is to be kept of them.

Nothing here knows of a bus: events come in with their place in a log, changes go out as keys and
values. Whoever keeps those per partition and in order, and notes how far he has read only
afterwards, may die at any moment: what he reads again is counted once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Literal

import msgspec
import orjson

from schemas.cost_events import CostCorrected, CostReleased, CostReserved, CostSettled
from schemas.events import CostInput, Event, ServiceCalled, StageTimed
from schemas.periods import unix_ms
from streams.usage_attempts import Attempt, attempt_key, is_forgotten, moved
from streams.usage_windows import (
    SPENDING,
    Amounts,
    Name,
    Slot,
    Step,
    Window,
    encode,
    is_over,
    measured,
    slots_of,
    window_key,
)

Outcome = Literal["counted", "double", "late", "ignored"]
"""Late: too old for every window, or of the far future."""

_COSTS = (CostReserved, CostSettled, CostReleased, CostCorrected)
_Windows = dict[Name, Window]
_Attempts = dict[tuple[str, int], Attempt]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be kept under a key beside a partition of the events; None: no longer."""

    partition: int
    key: bytes
    value: bytes | None


class Usage:
    """Counts events; days and hours are those of `zone`, `now_ms` is this machine's clock."""

    def __init__(self, zone: tzinfo, now_ms: Callable[[], int]) -> None:
        self.zone = zone
        self.now_ms = now_ms
        self._slots: defaultdict[Slot, _Windows] = defaultdict(dict)
        self._attempts: _Attempts = {}
        self._said: dict[str, int] = {}
        self._new_windows: dict[tuple[Slot, Name], None] = {}
        self._new_attempts: dict[tuple[str, int], None] = {}
        self._new_marks: list[Change] = []
        self._removals: list[Change] = []

    def apply(self, event: Event, place: Place) -> Outcome:
        """Count an event in its windows; nothing of it is counted twice."""
        body = event.body
        if isinstance(body, _COSTS):
            return self._apply_cost(event, body, place)
        if isinstance(body, StageTimed | ServiceCalled):
            name, amounts = measured(body)
            at_ms = unix_ms(event.time)
            return self._add(name, amounts, at_ms, place, seconds=body.seconds)
        return "ignored"

    def at(self, slot: Slot) -> Mapping[Name, Window]:
        """Give the windows of a slot."""
        return self._slots.get(slot, {})

    def slots(self) -> list[Slot]:
        """Give every slot that has windows."""
        return list(self._slots)

    def spending(self, step: Step, start_ms: int, end_ms: int) -> Iterator[tuple[Name, Window]]:
        """Give the windows of money whose slots begin within a span."""
        for slot, windows in self._slots.items():
            if slot.step is step and start_ms <= slot.start_ms < end_ms:
                for name, window in windows.items():
                    if name.stage == SPENDING:
                        yield name, window

    def was_said(self, alert_id: str) -> bool:
        """Tell whether an alert has been raised."""
        return alert_id in self._said

    def note_said(self, alert_id: str, until_ms: int) -> None:
        """Remember until then that an alert has been raised."""
        self._said[alert_id] = until_ms
        self._new_marks.append(Change(0, orjson.dumps(["s", alert_id]), encode(until_ms)))

    def take_changes(self) -> list[Change]:
        """Give what is to be kept since the last time.

        Windows before attempts: the ids of an attempt say that its events are in the windows. What
        is removed comes first, since it may have begun again.
        """
        changes = self._removals
        changes += [
            Change(window.partition, window_key(slot, name), encode(window))
            for slot, name in self._new_windows
            if (window := self._slots[slot].get(name)) is not None
        ]
        changes += [
            Change(attempt.partition, attempt_key(*who), encode(attempt))
            for who in self._new_attempts
            if (attempt := self._attempts.get(who)) is not None
        ]
        changes += self._new_marks
        self._forget_changes()
        return changes

    def forget_old(self) -> None:
        """Forget what is kept no longer; `take_changes` tells of it."""
        now_ms = self.now_ms()
        for slot in [slot for slot in self._slots if is_over(slot, now_ms)]:
            for name, window in self._slots.pop(slot).items():
                self._forget(window.partition, window_key(slot, name))
        for who in [w for w, attempt in self._attempts.items() if is_forgotten(attempt, now_ms)]:
            self._forget(self._attempts.pop(who).partition, attempt_key(*who))
        for alert_id in [a for a, until_ms in self._said.items() if until_ms <= now_ms]:
            del self._said[alert_id]
            self._forget(0, orjson.dumps(["s", alert_id]))

    def restore(self, kept: Iterable[tuple[bytes, bytes]]) -> int:
        """Begin anew from what was kept, and tell how much of it could not be read."""
        self._slots.clear()
        self._attempts, self._said = {}, {}
        self._forget_changes()
        return sum(not self._restore(key, value) for key, value in kept)

    def _apply_cost(self, event: Event, body: CostInput, place: Place) -> Outcome:
        who = body.job_id, body.attempt
        before = self._attempts.get(who)
        if before is not None and event.id in before.seen:
            return "double"
        attempt, amounts = moved(before, event.id, body, place.partition, self.now_ms())
        name = Name(body.tenant, body.service, SPENDING)
        outcome = self._add(name, amounts, unix_ms(body.booked_at), place)
        self._attempts[who] = attempt
        self._new_attempts[who] = None
        return outcome

    def _add(
        self, name: Name, amounts: Amounts, at_ms: int, place: Place, seconds: float | None = None
    ) -> Outcome:
        log = f"{place.topic}/{place.partition}"
        outcome: Outcome = "late"
        for slot in slots_of(at_ms, self.now_ms(), self.zone):
            window = self._slots[slot].setdefault(name, Window(place.partition))
            if window.add(amounts, seconds, log, place.offset):
                self._new_windows[slot, name] = None
                outcome = "counted"
            elif outcome == "late":
                outcome = "double"
        return outcome

    def _forget(self, partition: int, key: bytes) -> None:
        self._removals.append(Change(partition, key, None))

    def _forget_changes(self) -> None:
        self._new_windows, self._new_attempts = {}, {}
        self._new_marks, self._removals = [], []

    def _restore(self, key: bytes, value: bytes) -> bool:
        try:
            match orjson.loads(key):
                case ["w", step, start_ms, tenant, service, stage]:
                    window = msgspec.json.decode(value, type=Window)
                    self._slots[Slot(Step(step), start_ms)][Name(tenant, service, stage)] = window
                case ["a", job_id, attempt]:
                    self._attempts[job_id, attempt] = msgspec.json.decode(value, type=Attempt)
                case ["s", alert_id]:
                    self._said[alert_id] = msgspec.json.decode(value, type=int)
                case _:
                    return False
        except ValueError:
            return False
        return True
