"""The age of the oldest unread record, told without reading it."""

from collections.abc import Callable, Iterable

from streams.bus.base import Lag, Partition


class ReadingAges:
    """Estimates how long the oldest unread record of each partition has waited.

    That record is younger than the last one read, and younger than the last moment at which
    nothing was unread; its age is told from the later of the two, so at most one interval between
    two calls of `lag` too high. Before anything was read it is told from the assignment on.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        self._since: dict[Partition, float] = {}
        self._untouched: set[Partition] = set()

    def begin(self, partitions: Iterable[Partition]) -> None:
        """Start anew with the partitions of an assignment."""
        self._since = dict.fromkeys(partitions, self.now())
        self._untouched = set(self._since)

    def read(self, partition: Partition, timestamp_ms: int) -> None:
        """Take note of the last record that was handed out."""
        seconds = timestamp_ms / 1000
        if partition in self._untouched:
            self._untouched.discard(partition)
            self._since[partition] = seconds
        elif seconds > self._since.get(partition, 0.0):
            self._since[partition] = seconds

    def lag(self, partition: Partition, position: int, end: int) -> Lag:
        """Tell the lag, given the next offset to be read and the log's end."""
        messages = max(0, end - position)
        now = self.now()
        if messages == 0:
            self._since[partition] = now
            self._untouched.discard(partition)
            return Lag(0, 0.0)
        return Lag(messages, max(0.0, now - self._since.get(partition, now)))
