"""The judge of leases: whether their holders have had the chance to renew them."""

_STALE_TICK_MS = 5_000
_FRESH_START_MS = 3_000


class LeaseJudge:
    """Waits before any lease is judged dead: at its start, and after a silence of its own.

    A process's own clock stands still while the machine sleeps, so it goes by the table's.
    """

    def __init__(self, lease_ms: int) -> None:
        self._lease_ms = lease_ms
        self._last_ms: int | None = None
        self._judge_from_ms = 0

    def may_judge(self, now_ms: int) -> bool:
        """Tell whether whoever holds a lease could have renewed it by now."""
        if self._last_ms is None:
            self._judge_from_ms = now_ms + min(_FRESH_START_MS, self._lease_ms)
        elif abs(now_ms - self._last_ms) > _STALE_TICK_MS:
            self._judge_from_ms = now_ms + self._lease_ms
        return now_ms >= self._judge_from_ms

    def ticked(self, now_ms: int) -> None:
        """Note a tick whose transaction has committed."""
        self._last_ms = now_ms
