"""Checkpoints beside the writers: what the log holds is copied into the file while they go on."""

import asyncio
import sqlite3

import aiosqlite
import structlog

from streams.tables.sqlite_connection import on_thread

log = structlog.get_logger(__name__)

_ROWS = 8_000
"""Rows changed between two checkpoints: the log grows by about half as many pages."""


class Checkpoints:
    """Copies the log now and then, on a connection and thread of its own.

    A commit that has to copy it makes every writer wait for some 35 ms. One still does when the
    log is at its bound (`wal_autocheckpoint`), but little is left to it, and it ends the log.
    """

    def __init__(self) -> None:
        self._due = asyncio.Event()
        self._copied_at = 0

    def committed(self, rows_changed: int) -> None:
        """Take note of how many rows the writer has changed since it was opened."""
        # SQLite counts in 32 bits, and begins again below zero.
        if (rows_changed - self._copied_at) % (1 << 32) >= _ROWS:
            self._copied_at = rows_changed
            self._due.set()

    async def run(self, connection: aiosqlite.Connection) -> None:
        """Copy whenever it is due; never wait for anybody, never make anybody wait."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await on_thread(connection, _copy)
            except sqlite3.Error as error:
                # The commit at the log's bound meets the same trouble, and tells its writers.
                log.warning("not_checkpointed", error=str(error))


def _copy(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
