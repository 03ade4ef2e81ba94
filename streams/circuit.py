"""A circuit breaker: whether a service may be called, as pure moves over one value.

  closed     --failures in a row, or one that needs a person--> open
  open       --until is over--> half_open: one probe goes out
  half_open  --the probe is answered--> closed; it fails--> open, for twice as long
  half_open  --the probe's own time is over--> half_open: its process died, another probe goes out
Each move starts a new epoch, and a call is judged in the epoch that it entered in: what was under
way when the circuit opened neither closes it nor keeps it open.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from schemas.errors import Code

FAILURES_TO_OPEN = 5
FIRST_OPEN_MS = 5_000
LONGEST_OPEN_MS = 300_000
PROBE_MS = 90_000
"""How long a probe may last before it counts as lost; no call of ours lasts longer."""

TROUBLE = frozenset({Code.PARSER_UNAVAILABLE, Code.PARSE_TIMEOUT, Code.VENDOR_FAILED})
"""The service's own failures; every other code is an answer, and shows that it lives."""

NEEDS_A_PERSON = frozenset({Code.VENDOR_UNAUTHORIZED, Code.VENDOR_QUOTA_SPENT})
"""Waiting mends none of these."""

_MOST_ERRORS = 5
_NOTE_SUCCESS_MS = 30_000


class Standing(StrEnum):
    """How a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A call that failed."""

    at_ms: int
    operation: str
    code: str


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit, and what the last calls said; times by the table's clock."""

    state: Standing = Standing.CLOSED
    epoch: int = 0
    failures: int = 0
    """In a row."""
    opens: int = 0
    """In a row, without an answer between them."""
    since_ms: int = 0
    until_ms: int | None = None
    reason: str | None = None
    last_success_ms: int | None = None
    last_failure_ms: int | None = None
    errors: tuple[Trouble, ...] = ()
    """The last few, the newest first."""

    def refuses_ms(self, now_ms: int) -> int | None:
        """Tell how long it lets nobody through; None where a call may start."""
        if self.state is Standing.CLOSED:
            return None
        if self.until_ms is None:
            return LONGEST_OPEN_MS
        return self.until_ms - now_ms if self.until_ms > now_ms else None

    def entered(self, now_ms: int) -> "Circuit":
        """Let a call through that is not refused; it is the probe where the circuit is open."""
        if self.state is Standing.CLOSED:
            return self
        return self._moved(Standing.HALF_OPEN, now_ms, until_ms=now_ms + PROBE_MS)

    def judged(self, now_ms: int, epoch: int, operation: str, failure: Code | None) -> "Circuit":
        """Take how a call ended that entered in `epoch`; the same value where nothing changes."""
        if epoch != self.epoch or self.state is Standing.OPEN:
            return self
        if failure in NEEDS_A_PERSON or failure in TROUBLE:
            return self._failed(now_ms, operation, failure)
        if self.state is Standing.HALF_OPEN:
            return replace(self.closed(now_ms), last_success_ms=now_ms)
        noted = self.last_success_ms
        if self.failures or noted is None or now_ms - noted >= _NOTE_SUCCESS_MS:
            return replace(self, failures=0, last_success_ms=now_ms)
        return self

    def closed(self, now_ms: int) -> "Circuit":
        """Close it, because the service answered or because a person says so."""
        return replace(
            self._moved(Standing.CLOSED, now_ms, until_ms=None), failures=0, opens=0, reason=None
        )

    def _failed(self, now_ms: int, operation: str, code: Code) -> "Circuit":
        failures, moved = self.failures + 1, self
        waits = code not in NEEDS_A_PERSON
        if not waits or self.state is Standing.HALF_OPEN or failures >= FAILURES_TO_OPEN:
            wait_ms = min(LONGEST_OPEN_MS, FIRST_OPEN_MS << min(self.opens, 10))
            until_ms = now_ms + wait_ms if waits else None
            moved = replace(
                self._moved(Standing.OPEN, now_ms, until_ms=until_ms),
                opens=self.opens + 1,
                reason=code.value,
            )
        return replace(
            moved,
            failures=failures,
            last_failure_ms=now_ms,
            errors=(Trouble(now_ms, operation, code.value), *self.errors[: _MOST_ERRORS - 1]),
        )

    def _moved(self, state: Standing, now_ms: int, *, until_ms: int | None) -> "Circuit":
        since_ms = self.since_ms if state is Standing.HALF_OPEN else now_ms
        return replace(
            self, state=state, epoch=self.epoch + 1, since_ms=since_ms, until_ms=until_ms
        )
