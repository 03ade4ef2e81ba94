"""The tables seam: units of work over named queries.

A query's name is `<file>.<name>`: the file in `sql/` and the `-- name:` line above the statement.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

Row = Mapping[str, Any]
T = TypeVar("T")


class OutboxRow(msgspec.Struct, frozen=True):
    """An event on its way: a record that is to be sent because its transaction made it true."""

    event_id: str
    topic: str
    key: str
    value: bytes
    headers: bytes
    """JSON list of [name, text] pairs; CloudEvents headers are all text."""
    kept_until_seen: bool
    raw_key: bytes | None = None
    """The record's key where it need not be text; else it is `key`."""


class Transaction(Protocol):
    """One transaction, or the part of one that is undone alone."""

    now_ms: int
    """The table's clock when the transaction began, in unix milliseconds UTC."""

    async def all(self, query: str, **values: Any) -> list[Row]:
        """Give every row."""
        ...

    async def one(self, query: str, **values: Any) -> Row | None:
        """Give the first row, or None."""
        ...

    async def run(self, query: str, **values: Any) -> int:
        """Change rows, and tell how many."""
        ...

    async def run_many(self, query: str, rows: Iterable[Mapping[str, Any]], **shared: Any) -> int:
        """Run one statement for each of many sets of values, and tell how many rows changed.

        `shared` are the values that all of them have.
        """
        ...

    def announce(self, rows: Sequence[OutboxRow]) -> None:
        """Hand outbox rows to the relay once the transaction has committed."""
        ...


Unit = Callable[[Transaction], Awaitable[T]]
"""A unit of work. It awaits its transaction and nothing else, since it may run off the loop."""

OnCommit = Callable[[Sequence[OutboxRow]], None]


class Tables(Protocol):
    """A database. Its own trouble is TransientError(TABLES_UNAVAILABLE), nothing of it applied.

    Raise whatever the unit raises, after its effects are undone.
    """

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit and return once it is durable; units of several callers may share a commit."""
        ...

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that changes nothing, on a snapshot, beside the writers."""
        ...

    def on_commit(self, listener: OnCommit) -> None:
        """Tell `listener`, on the event loop, the rows announced by each committed unit."""
        ...
