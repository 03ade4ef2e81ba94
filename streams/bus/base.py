"""The bus seam: records in and out of topics, with explicit positions."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import msgspec

from schemas.codec import Headers
from schemas.topics import Topic


class Partition(msgspec.Struct, frozen=True, order=True):
    """A partition: its topic's name without the deployment's prefix, and its number."""

    topic: str
    number: int


class Record(msgspec.Struct, frozen=True):
    """A record as it was read.

    No dataclass, like Outgoing: one is made for each event that comes in.
    """

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int


class Outgoing(msgspec.Struct, frozen=True):
    """A record to send; `topic` without the deployment's prefix.

    No dataclass: one is made for each event that leaves, and a frozen one takes four times as long.
    """

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a consumer is behind on one partition."""

    messages: int
    seconds: float


OnAssigned = Callable[[frozenset[Partition]], Awaitable[None]]
"""Told the newly assigned partitions before any of their records is handed out; may seek."""

OnRevoked = Callable[[frozenset[Partition]], Awaitable[None]]
"""Told the partitions about to be taken away; what is held is drained in here, within bounds."""


class Consumer(Protocol):
    """A member of a consumer group, reading from the log's start where nothing else is said."""

    async def fetch(
        self, *, max_records: int, timeout_seconds: float
    ) -> Mapping[Partition, Sequence[Record]]:
        """Give the next records of the assigned, unpaused partitions; empty after the time-out.

        Raise TransientError(BUS_UNAVAILABLE) when the broker is away; calling again is allowed.
        """
        ...

    async def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`; raise StaleLogError when it is beyond the log's end."""
        ...

    async def seek_to_start(self, partition: Partition) -> None:
        """Read on from the first record that the log still has."""
        ...

    async def seek_to_end(self, partition: Partition) -> int:
        """Read on from the next record that the log will get, and tell its offset."""
        ...

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        """Tell the group the next offsets; partitions no longer assigned are left out."""
        ...

    def pause(self, partitions: frozenset[Partition]) -> None:
        """Hand out nothing of these until `resume`."""
        ...

    def resume(self, partitions: frozenset[Partition]) -> None:
        """Hand out records of these again."""
        ...

    def assignment(self) -> frozenset[Partition]:
        """Tell the partitions that are this member's own at the moment."""
        ...

    def is_settled(self) -> bool:
        """Tell whether the group has given this member its share, which may be nothing."""
        ...

    async def lag(self) -> Mapping[Partition, Lag]:
        """Tell, for each assigned partition, how far the group's reading is behind its end."""
        ...


class Outcome(Protocol):
    """Whoever is told what became of a record, as a future is; raises nothing."""

    def done(self) -> bool:
        """Tell whether nobody waits for it any more: such a record need not be sent."""
        ...

    def set_result(self, result: None, /) -> None:
        """It is acknowledged."""
        ...

    def set_exception(self, error: BaseException, /) -> None:
        """It is not, or nobody knows."""
        ...


class Sender(Protocol):
    """Sends records and waits for the acknowledgement of all in-sync replicas."""

    async def send(self, record: Outgoing) -> None:
        """Return once the broker has acknowledged the record.

        Raise PermanentError(RECORD_TOO_LARGE) before sending, when it would pass 900 kB; raise
        TransientError(BUS_UNAVAILABLE) when no answer came in time: the outcome is unknown then.
        """
        ...


class Producer(Sender, Protocol):
    """A sender for many at once."""

    def send_for(self, record: Outgoing, outcome: Outcome) -> None:
        """Send it and return at once; `outcome` is told what `send` would return or raise."""
        ...


class StaleLogError(Exception):
    """A stored position lies beyond the log's end: this is not the log that it was read from."""


class Bus(Protocol):
    """A cluster of brokers, as one process sees it."""

    async def cluster_id(self) -> str:
        """Ask the cluster who it is; raise TransientError(BUS_UNAVAILABLE) when it is away."""
        ...

    async def ensure_topics(self, topics: Sequence[Topic]) -> frozenset[str]:
        """Make the missing topics and tell their names.

        Raise PermanentError(INVALID_REQUEST) when an existing one has another partition count.
        """
        ...

    async def partition_counts(self, topics: Sequence[Topic]) -> Mapping[str, int]:
        """Count the partitions of those topics that are there, by their names; change nothing."""
        ...

    def open_producer(self) -> AbstractAsyncContextManager[Producer]:
        """Open a producer; it is flushed and closed at the end."""
        ...

    def open_consumer(
        self,
        group: str,
        topics: Sequence[Topic],
        *,
        on_assigned: OnAssigned,
        on_revoked: OnRevoked,
    ) -> AbstractAsyncContextManager[Consumer]:
        """Join `group` on `topics`; the group is left at the end."""
        ...
