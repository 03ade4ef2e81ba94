"""Checkpoints beside the writers: the file gets what the log holds while the tables are open."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiosqlite import Connection

from streams.tables.sqlite_checkpoint import Checkpoints
from streams.tables.sqlite_connection import on_thread, open_connection


class Watched:
    """Checkpoints at work on a file whose log holds `rows` rows."""

    def __init__(self, path: Path, copier: Connection) -> None:
        self.checkpoints = Checkpoints()
        self._path = path
        self._copier = copier
        self._begun: asyncio.Queue[str | None] = asyncio.Queue(100)

    async def tried(self) -> None:
        """Wait until the copy that is due is over: the thread does one thing after the other."""
        async with asyncio.timeout(10):
            assert await self._begun.get() == "wal_checkpoint"
        await on_thread(self._copier, lambda _raw: None)

    async def judge(self, answer: int) -> None:
        """Note each PRAGMA that begins, and give SQLite this answer to whether it may."""
        loop = asyncio.get_running_loop()

        def judged(action: int, name: str | None, *_: str | None) -> int:
            if action != sqlite3.SQLITE_PRAGMA:
                return sqlite3.SQLITE_OK
            loop.call_soon_threadsafe(self._begun.put_nowait, name)
            return answer

        await on_thread(self._copier, lambda raw: raw.set_authorizer(judged))

    def rows_in_file(self) -> int:
        """Count what stands in the file itself, without its log."""
        alone = self._path.with_name("alone.db")
        shutil.copyfile(self._path, alone)
        reader = sqlite3.connect(alone)
        try:
            (tables,) = reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not tables:
                return 0
            (rows,) = reader.execute("SELECT count(*) FROM t").fetchone()
        finally:
            reader.close()
        return int(rows)


@asynccontextmanager
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    path = tmp_path / "t.db"
    async with open_connection(path) as writer, open_connection(path) as copier:
        await writer.execute_fetchall("CREATE TABLE t (x)")
        await writer.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(50)])
        opened = Watched(path, copier)
        await opened.judge(sqlite3.SQLITE_OK)
        running = asyncio.create_task(opened.checkpoints.run(copier))
        try:
            yield opened
        finally:
            running.cancel()
            await asyncio.wait([running])


async def test_the_file_gets_what_the_log_holds_once_enough_was_changed(tmp_path: Path) -> None:
    async with watched(tmp_path) as log:
        log.checkpoints.committed(7_999)
        assert log.rows_in_file() == 0
        log.checkpoints.committed(8_000)
        await log.tried()
        assert log.rows_in_file() == 50


async def test_a_checkpoint_that_fails_leaves_the_next_to_be_made(tmp_path: Path) -> None:
    async with watched(tmp_path) as log:
        await log.judge(sqlite3.SQLITE_DENY)
        log.checkpoints.committed(8_000)
        await log.tried()
        await log.judge(sqlite3.SQLITE_OK)
        assert log.rows_in_file() == 0
        log.checkpoints.committed(16_000)
        await log.tried()
        assert log.rows_in_file() == 50


async def test_a_count_that_begins_again_below_zero_is_no_end_of_it(tmp_path: Path) -> None:
    """SQLite counts its changes in 32 bits."""
    async with watched(tmp_path) as log:
        for rows in (2**31 - 10, -(2**31) + 9_000):
            log.checkpoints.committed(rows)
            await log.tried()
