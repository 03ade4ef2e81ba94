"""Tables in SQLite: group commit by one writer connection a process, snapshots for readers."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiosqlite

from schemas.errors import Code, PermanentError, TransientError
from streams.metrics import TABLE_SECONDS, TABLE_UNITS, Recorder
from streams.tables.base import OnCommit, OutboxRow, T, Unit
from streams.tables.lockfile import LockFile
from streams.tables.queries import load_statements
from streams.tables.sqlite_checkpoint import Checkpoints
from streams.tables.sqlite_connection import (
    SqliteTransaction,
    drive,
    migrate,
    on_thread,
    open_connection,
)

OLDEST_SQLITE = (3, 37, 0)
"""The first with STRICT tables."""

_GROUP = 256
_WAITING = 2048


@dataclass(slots=True)
class _Waiter:
    unit: Unit[Any]
    done: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    announced: list[OutboxRow] = field(default_factory=list)


class SqliteTables:
    """The tables in one SQLite file; made by `open_sqlite`."""

    def __init__(
        self,
        path: Path,
        recorder: Recorder,
        clock_ms: Callable[[], int],
        lock_wait_seconds: float,
    ) -> None:
        self._path = path
        self._recorder = recorder
        self._clock_ms = clock_ms
        self._lock_wait_seconds = lock_wait_seconds
        self._statements = load_statements()
        self._listeners: list[OnCommit] = []
        self._waiting: asyncio.Queue[_Waiter] = asyncio.Queue(_WAITING)
        self._lock = LockFile(path)
        self._checkpoints = Checkpoints()

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit and return once it is durable; units of several callers share a commit."""
        waiter = _Waiter(unit, asyncio.get_running_loop().create_future())
        await self._waiting.put(waiter)
        result: T = await waiter.done
        return result

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that changes nothing, on a snapshot, beside the writers."""
        try:
            result: T = await on_thread(self._reader, self._snapshot, unit)
        except sqlite3.Error as error:
            raise unavailable(error) from error
        return result

    def on_commit(self, listener: OnCommit) -> None:
        """Tell `listener`, on the event loop, the rows announced by each committed unit."""
        self._listeners.append(listener)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["SqliteTables"]:
        """Open the connections, bring the schema up to date, and serve the writers."""
        async with AsyncExitStack() as stack:
            try:
                writer = await stack.enter_async_context(open_connection(self._path))
                self._reader = await stack.enter_async_context(open_connection(self._path))
                copier = await stack.enter_async_context(open_connection(self._path))
                await on_thread(writer, self._migrate)
            except sqlite3.Error as error:
                raise unavailable(f"{self._path}: {error}") from error
            copying = asyncio.create_task(self._checkpoints.run(copier), name="checkpoints")
            serving = asyncio.create_task(self._serve(writer), name="tables")
            try:
                yield self
            finally:
                serving.cancel()
                copying.cancel()
                await asyncio.wait([serving, copying])
                self._fail_waiting()
        self._lock.close()

    def _snapshot(self, connection: sqlite3.Connection, unit: Unit[T]) -> T:
        connection.execute("BEGIN")
        try:
            transaction = SqliteTransaction(connection, self._statements, self._clock_ms())
            result: T = drive(unit(transaction))
        finally:
            connection.rollback()
        return result

    async def _serve(self, writer: aiosqlite.Connection) -> None:
        while True:
            group = [await self._waiting.get()]
            while len(group) < _GROUP and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            group = [waiter for waiter in group if not waiter.done.cancelled()]
            if not group:
                continue
            committing = asyncio.ensure_future(on_thread(writer, self._commit, group))
            try:
                await asyncio.shield(committing)
            except asyncio.CancelledError:
                await asyncio.wait([committing])
                self._answer(group, committing.exception())
                raise
            except Exception as error:  # noqa: BLE001 - every waiter of the group is told
                self._answer(group, error)
            else:
                self._answer(group, None)
                self._checkpoints.committed(writer.total_changes)

    def _commit(self, connection: sqlite3.Connection, group: list[_Waiter]) -> None:
        started = time.perf_counter()
        self._take_turn()
        try:
            connection.execute("BEGIN IMMEDIATE")
            if len(group) > 1:
                for waiter in group:
                    self._run_savepoint(connection, waiter)
                connection.execute("COMMIT")
            elif self._run(connection, group[0], undo="ROLLBACK"):
                connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.rollback()
            self._lock.release()
        self._recorder.observe(TABLE_SECONDS, time.perf_counter() - started)

    def _take_turn(self) -> None:
        """Wait for this process's turn to write; say who keeps it from the others."""
        if not self._lock.acquire(self._lock_wait_seconds):
            holder = self._lock.holder()
            who = "another process" if holder is None else f"process {holder}"
            raise TransientError(
                Code.TABLES_UNAVAILABLE,
                f"{who} has held the tables for {self._lock_wait_seconds:g} s: "
                "if it is stopped or hangs, end it",
            )

    def _run_savepoint(self, connection: sqlite3.Connection, waiter: _Waiter) -> None:
        connection.execute("SAVEPOINT unit")
        self._run(connection, waiter, undo="ROLLBACK TO unit")
        connection.execute("RELEASE unit")

    def _run(self, connection: sqlite3.Connection, waiter: _Waiter, *, undo: str) -> bool:
        """Run a unit, and tell whether it ended well; else it is undone."""
        transaction = SqliteTransaction(connection, self._statements, self._clock_ms())
        try:
            waiter.result = drive(waiter.unit(transaction))
        except Exception as error:  # noqa: BLE001 - the unit's caller is told, the others go on
            waiter.error = unavailable(error) if is_trouble(error) else error
            connection.execute(undo)
        else:
            waiter.announced = transaction.announced
        return waiter.error is None

    def _answer(self, group: list[_Waiter], error: BaseException | None) -> None:
        if isinstance(error, sqlite3.Error):
            error = unavailable(error)
        for waiter in group:
            failure = error or waiter.error
            self._recorder.add(TABLE_UNITS, outcome="failed" if failure else "committed")
            if failure is None and waiter.announced:
                for listener in self._listeners:
                    listener(waiter.announced)
            if waiter.done.done():
                continue
            if failure is None:
                waiter.done.set_result(waiter.result)
            else:
                waiter.done.set_exception(failure)

    def _fail_waiting(self) -> None:
        while not self._waiting.empty():
            waiter = self._waiting.get_nowait()
            if not waiter.done.done():
                waiter.done.set_exception(
                    TransientError(Code.TABLES_UNAVAILABLE, "the tables are closed")
                )

    def _migrate(self, connection: sqlite3.Connection) -> None:
        self._take_turn()
        try:
            migrate(connection)
        finally:
            self._lock.release()


@asynccontextmanager
async def open_sqlite(
    path: Path,
    recorder: Recorder,
    *,
    clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    lock_wait_seconds: float = 30.0,
) -> AsyncIterator[SqliteTables]:
    """Open the tables in the file `path`, made with its folder where it is missing.

    Raise TransientError(TABLES_UNAVAILABLE), PermanentError for what this program cannot read.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        why = f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or newer is needed"
        raise PermanentError(Code.TABLES_UNAVAILABLE, why)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with SqliteTables(path, recorder, clock_ms, lock_wait_seconds).opened() as tables:
        yield tables


def is_trouble(error: BaseException) -> bool:
    """Tell the database's own trouble from a unit's fault; a corrupt page is a bare DatabaseError.

    Source: the mapping of result codes in CPython's Modules/_sqlite/util.c.
    """
    database = isinstance(error, sqlite3.OperationalError | sqlite3.InternalError | MemoryError)
    return database or type(error) is sqlite3.DatabaseError


def unavailable(error: object) -> TransientError:
    """Say that the database did not do its part."""
    return TransientError(Code.TABLES_UNAVAILABLE, f"SQLite: {error}")
