"""The pace of a reactor: how many records are claimed ahead of the slots."""

AHEAD_SECONDS = 0.25
MOST_AHEAD = 32


class Pace:
    """Claims ahead what the slots work off in a quarter of a second, as many as slots at least.

    One transaction claims many records as dearly as one, and a slot that waits for it does nothing;
    but what waits here could be done by another worker.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._seconds = 1.0

    def worked(self, seconds: float) -> None:
        """Note how long one record was at work."""
        self._seconds += (seconds - self._seconds) / 8

    def room(self, held: int) -> int:
        """Tell how many to claim while `held` are; none until half of what is ahead is gone."""
        worked_off = int(self._slots * AHEAD_SECONDS / max(self._seconds, 0.001))
        ahead = max(self._slots, min(worked_off, MOST_AHEAD))
        free = self._slots + ahead - held
        return free if free >= max(1, (ahead - self._slots) // 2) else 0
