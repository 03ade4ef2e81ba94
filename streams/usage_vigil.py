"""The vigil over the windows: whether they move, as far as somebody outside should know."""

import time
from collections.abc import Callable


class Vigil:
    """Tells of a process that never came to count, or counts no more although there are events."""

    def __init__(
        self,
        *,
        start_seconds: float,
        stall_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start_seconds = start_seconds
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._began = self._moved_at = clock()
        self._recovered = False
        self._handled = 0
        self._lag: int | None = None

    def look(self, *, recovered: bool, handled: int, lag: int | None) -> None:
        """Take note of how far it is; a lag of None means that the broker is away."""
        if handled != self._handled or not lag or recovered != self._recovered:
            self._moved_at = self._clock()
        self._recovered, self._handled, self._lag = recovered, handled, lag

    def trouble(self) -> str | None:
        """Say what is wrong; None while all is well."""
        now = self._clock()
        if not self._recovered:
            late = now - self._began > self._start_seconds
            return f"not ready after {self._start_seconds:g} s" if late else None
        if self._lag and now - self._moved_at > self._stall_seconds:
            return f"{self._lag} events wait, none was counted for {self._stall_seconds:g} s"
        return None

    def describe(self) -> dict[str, object]:
        """Show what was seen last."""
        return {
            "trouble": self.trouble(),
            "recovered": self._recovered,
            "events_seen": self._handled,
            "lag": self._lag,
        }
