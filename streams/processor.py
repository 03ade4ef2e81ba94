"""The contracts of a processor: a fold changes tables, a reactor does slow work for one event.

Neither knows the bus: their grounds (`fold.py`, `reactor.py`) turn records into events, keep the
positions and the leases, and bury what cannot be handled.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from schemas.errors import Code
from schemas.events import Body, DocumentUploaded, Event
from schemas.money import Spend
from schemas.topics import Topic
from streams.bus.base import Partition, Record
from streams.tables.base import Transaction

E_contra = TypeVar("E_contra", contravariant=True)

Batch = Mapping[Partition, Sequence[Record]]


class Fold(Protocol):
    """Applies a batch of events to the tables."""

    name: str
    topics: tuple[Topic, ...]

    async def apply(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Change the tables for these events, in order; what it raises undoes the batch."""
        ...


Intend = Callable[[Spend], Awaitable[float]]
"""Holds the money for the attempt, and notes on it that it may be spent from here on.

Gives the seconds that the lease lasts at least; what it raises forbids to spend any.
"""


class Reactor(Protocol):
    """Does the work of one stage for one event of a job."""

    name: str
    stage: str
    topics: tuple[Topic, ...]

    def started(self, offer: DocumentUploaded, worker: str) -> Body:
        """Say that `worker` has claimed the attempt."""
        ...

    async def work(
        self, offer: DocumentUploaded, traceparent: str | None, intend: Intend
    ) -> Body | None:
        """Do the work, and give the event that ends the attempt; expected trouble is one too.

        None where nobody knows how it ended: the lease runs out, and the sweeper finds out.
        """
        ...

    async def settle(self, offer: DocumentUploaded, end: Body | None, *, kept: bool) -> None:
        """Tidy up after the attempt's end was written, or, where not `kept`, thrown away.

        No end: the work was cut off anywhere, because its lease was lost.
        """
        ...


@dataclass(frozen=True, slots=True)
class Parked:
    """A record that nobody can handle and that is nobody's fault: kept for people to see."""

    code: Code
    reason: str


class Listener(Protocol[E_contra]):
    """Does idempotent work for each event; events of one key come one after the other.

    An event is what its ground makes of a record.
    """

    name: str
    topics: tuple[Topic, ...]

    async def handle(self, event: E_contra) -> Parked | None:
        """Handle one event, within a bounded time."""
        ...


class Ground(Protocol):
    """What the runner needs of a processor on its ground."""

    name: str
    topics: tuple[Topic, ...]

    async def positions(self, assigned: frozenset[Partition]) -> Mapping[Partition, int | None]:
        """Tell where to read on: an offset, None for the log's start; absent for the group's."""
        ...

    def room(self) -> int:
        """Tell how many records may be fetched now; 0 pauses the partitions."""
        ...

    async def wait_for_room(self) -> None:
        """Return once there is room."""
        ...

    async def handle(self, batch: Batch) -> None:
        """Take responsibility for the records; afterwards the position may move past them."""
        ...

    async def drain(self, seconds: float) -> None:
        """Finish what is held within the deadline, and give back the rest."""
        ...


class ProcessorStoppedError(Exception):
    """Too many records could not be handled; a person has to look."""


class PositionLostError(Exception):
    """Another worker has moved a position that this one believed its own."""


class LogReplacedError(Exception):
    """A stored position lies beyond the log's end: it was read from another log."""

    def __init__(self, topic: str, message: str) -> None:
        super().__init__(message)
        self.topic = topic
