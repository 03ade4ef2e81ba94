"""Tables in memory, held to the same contract suite as those on disk."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache

from streams.metrics import TABLE_UNITS, Recorder
from streams.tables.base import OnCommit, T, Unit
from streams.tables.queries import load_statements
from streams.tables.sqlite import is_trouble, unavailable
from streams.tables.sqlite_connection import SqliteTransaction, drive, migrate


@cache
def empty_tables() -> bytes:
    """Give a database with every table and no row."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        return connection.serialize()


class MemoryTables:
    """SQLite in memory: the real schema and statements, with no file, thread or sync."""

    def __init__(
        self, connection: sqlite3.Connection, recorder: Recorder, clock_ms: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._recorder = recorder
        self._clock_ms = clock_ms
        self._statements = load_statements()
        self._listeners: list[OnCommit] = []

    async def write(self, unit: Unit[T]) -> T:
        # As with a thread that writes, others run before the answer comes.
        await asyncio.sleep(0)
        outcome = "failed"
        try:
            with self._undone_unless_committed() as transaction:
                result: T = drive(unit(transaction))
                self._connection.execute("COMMIT")
            outcome = "committed"
        finally:
            self._recorder.add(TABLE_UNITS, outcome=outcome)
        if transaction.announced:
            for listener in self._listeners:
                listener(transaction.announced)
        return result

    async def read(self, unit: Unit[T]) -> T:
        await asyncio.sleep(0)
        with self._undone_unless_committed() as transaction:
            result: T = drive(unit(transaction))
        return result

    def on_commit(self, listener: OnCommit) -> None:
        self._listeners.append(listener)

    @contextmanager
    def _undone_unless_committed(self) -> Iterator[SqliteTransaction]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield SqliteTransaction(self._connection, self._statements, self._clock_ms())
        except Exception as error:
            if is_trouble(error):
                raise unavailable(error) from error
            raise
        finally:
            self._connection.rollback()


@contextmanager
def open_memory_tables(recorder: Recorder, clock_ms: Callable[[], int]) -> Iterator[MemoryTables]:
    """Open empty tables in memory."""
    opened = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)
    with closing(opened) as connection:
        connection.deserialize(empty_tables())
        yield MemoryTables(connection, recorder, clock_ms)
