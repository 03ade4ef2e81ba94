"""A SQLite connection: its settings, its thread, its schema, and a unit's hands on it."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from schemas.errors import Code, PermanentError
from streams.tables.base import OutboxRow, Row, T
from streams.tables.queries import Statement, load_migrations

PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=30000",
    "cache_size=-16384",
    # The log's bound, 64 MB: it is copied before (sqlite_checkpoint.py), since the commit that
    # has to do it makes every writer wait.
    "wal_autocheckpoint=16000",
)


class SqliteTransaction:
    """A unit's hands on the connection. Its awaits never suspend: it runs on SQLite's thread."""

    def __init__(
        self, connection: sqlite3.Connection, statements: Mapping[str, Statement], now_ms: int
    ) -> None:
        self.now_ms = now_ms
        self.announced: list[OutboxRow] = []
        self._connection = connection
        self._statements = statements

    async def all(self, query: str, **values: Any) -> list[Row]:
        """Give every row."""
        cursor = self._execute(query, values)
        names = _names(cursor)
        return [dict(zip(names, row, strict=True)) for row in cursor]

    async def one(self, query: str, **values: Any) -> Row | None:
        """Give the first row, or None."""
        cursor = self._execute(query, values)
        row = cursor.fetchone()
        return None if row is None else dict(zip(_names(cursor), row, strict=True))

    async def run(self, query: str, **values: Any) -> int:
        """Change rows, and tell how many."""
        return self._execute(query, values).rowcount

    async def run_many(self, query: str, rows: Iterable[Mapping[str, Any]], **shared: Any) -> int:
        """Run one statement for each of many sets of values, and tell how many rows changed."""
        shared["now_ms"] = self.now_ms
        statement = self._statements[query]
        given = statement.bind_many(rows, shared)
        return self._connection.executemany(statement.sql, given).rowcount if given else 0

    def announce(self, rows: Sequence[OutboxRow]) -> None:
        """Hand outbox rows to the relay once the transaction has committed."""
        self.announced.extend(rows)

    def _execute(self, query: str, values: dict[str, Any]) -> sqlite3.Cursor:
        values["now_ms"] = self.now_ms
        statement = self._statements[query]
        return self._connection.execute(statement.sql, statement.bind(values))


def _names(cursor: sqlite3.Cursor) -> list[str]:
    return [column[0] for column in cursor.description or ()]


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to this program's version; refuse a newer one."""
    versions = load_migrations()
    (present,) = connection.execute("PRAGMA user_version").fetchone()
    if present > len(versions):
        raise PermanentError(
            Code.TABLES_UNAVAILABLE,
            f"the tables are at version {present}, this program knows {len(versions)}: "
            "run the newer program, or give it another data directory",
        )
    for number, script in enumerate(versions[present:], start=present + 1):
        connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


@asynccontextmanager
async def open_connection(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """Open the file with a full sync at each commit and readers beside the writer."""
    async with aiosqlite.connect(path, isolation_level=None, cached_statements=256) as connection:
        await on_thread(connection, _set_pragmas)
        yield connection


def _set_pragmas(connection: sqlite3.Connection) -> None:
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()


async def on_thread(connection: aiosqlite.Connection, call: Callable[..., T], *arguments: Any) -> T:
    """Run a function of the raw connection on its thread: one hop for a whole transaction.

    aiosqlite has no public call for that, and a hop per statement costs more than the statements.
    """
    raw: sqlite3.Connection = connection._conn  # noqa: SLF001 - see above
    execute: Any = connection._execute  # noqa: SLF001 - see above
    result: T = await execute(call, raw, *arguments)
    return result


def drive(unit: Any) -> Any:
    """Run a unit's coroutine to its end, where nothing that it awaits suspends."""
    try:
        unit.send(None)
    except StopIteration as end:
        return end.value
    unit.close()
    raise RuntimeError("a unit of work awaits something other than its transaction")
