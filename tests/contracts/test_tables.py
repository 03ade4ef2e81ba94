"""The contract of the tables."""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from schemas.errors import Code, PermanentError, TransientError
from streams.metrics import Recorder
from streams.tables.base import OutboxRow, Transaction, Unit
from streams.tables.lockfile import LockFile
from streams.tables.queries import load_migrations
from streams.tables.sqlite import SqliteTables, open_sqlite
from tests.harness import NOW, Desk, open_desk, open_memory_desk

ROW = OutboxRow("e1", "jobs.events", "k", b"v", b"[]", kept_until_seen=True)


@pytest_asyncio.fixture(params=["sqlite", "memory"])
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    opening = open_desk(tmp_path) if request.param == "sqlite" else open_memory_desk()
    async with opening as opened:
        yield opened


@pytest_asyncio.fixture
async def on_disk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as opened:
        yield opened


async def position(desk: Desk, group: str) -> int | None:
    rows = await desk.rows("positions.stored", cluster_id="c", consumer_group=group)
    return rows[0]["next_offset"] if rows else None


def begin(group: str, offset: int = 1) -> Unit[int]:
    async def unit(tx: Transaction) -> int:
        return await tx.run(
            "positions.begin",
            cluster_id="c",
            consumer_group=group,
            topic="t",
            partition=0,
            next_offset=offset,
        )

    return unit


async def test_a_unit_is_seen_by_readers_once_it_has_returned(desk: Desk) -> None:
    assert await desk.tables.write(begin("g", 7)) == 1
    assert await position(desk, "g") == 7


async def test_a_unit_that_raises_leaves_nothing_and_its_neighbours_commit(desk: Desk) -> None:
    async def broken(tx: Transaction) -> None:
        await begin("broken")(tx)
        tx.announce([ROW])
        raise KeyError("mine")

    outcomes = await asyncio.gather(
        desk.tables.write(begin("a")),
        desk.tables.write(broken),
        desk.tables.write(begin("b")),
        return_exceptions=True,
    )
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], KeyError)
    assert outcomes[2] == 1
    assert [await position(desk, g) for g in ("a", "broken", "b")] == [1, None, 1]
    assert desk.announced == []


async def test_rows_are_announced_after_their_commit(on_disk: Desk, tmp_path: Path) -> None:
    desk = on_disk
    seen_at_announcement: list[bool] = []

    async def unit(tx: Transaction) -> None:
        await begin("g")(tx)
        tx.announce([ROW])

    other = sqlite3.connect(tmp_path / "tables.db")
    desk.tables.on_commit(
        lambda _: seen_at_announcement.append(
            other.execute("SELECT count(*) FROM positions").fetchone() == (1,)
        )
    )
    await desk.tables.write(unit)
    other.close()
    assert desk.announced == [ROW]
    assert seen_at_announcement == [True]


async def test_a_constraint_names_itself_to_the_caller_alone(desk: Desk) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="next_offset"):
        await desk.tables.write(begin("g", -1))


async def test_a_unit_may_await_its_transaction_only(desk: Desk) -> None:
    async def elsewhere(_tx: Transaction) -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="awaits something other"):
        await desk.tables.write(elsewhere)
    assert await desk.tables.write(begin("g")) == 1


async def test_many_units_share_commits(on_disk: Desk) -> None:
    desk = on_disk
    await asyncio.gather(*(desk.tables.write(begin(f"g{n}")) for n in range(500)))
    name = "parsewire_table_transaction_seconds_count"
    commits = desk.recorder.registry.get_sample_value(name)
    units = desk.recorder.registry.get_sample_value(
        "parsewire_table_units_total", {"outcome": "committed"}
    )
    assert units == 500
    assert commits is not None
    assert commits <= 10


async def test_a_cancelled_caller_does_not_stop_the_others(desk: Desk) -> None:
    first = asyncio.ensure_future(desk.tables.write(begin("a")))
    second = asyncio.ensure_future(desk.tables.write(begin("b")))
    first.cancel()
    assert await second == 1


async def test_callers_that_have_all_left_take_no_turn(
    on_disk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = on_disk
    turns: list[float] = []
    acquire = LockFile.acquire

    def counted(lock: LockFile, seconds: float) -> bool:
        turns.append(seconds)
        return acquire(lock, seconds)

    monkeypatch.setattr(LockFile, "acquire", counted)
    left = asyncio.create_task(desk.tables.write(begin("left")))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    assert await desk.tables.write(begin("stays")) == 1
    assert len(turns) == 1
    assert await position(desk, "left") is None


async def test_reading_is_a_snapshot(desk: Desk) -> None:
    async def read_only(tx: Transaction) -> None:
        await begin("g")(tx)

    await desk.tables.read(read_only)
    assert await position(desk, "g") is None


async def test_processes_write_by_turns(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        writers = [
            await stack.enter_async_context(
                open_sqlite(tmp_path / "tables.db", Recorder(CollectorRegistry()))
            )
            for _ in range(4)
        ]

        async def write(n: int) -> int:
            return await writers[n % 4].write(begin(f"g{n}"))

        for start in range(0, 400, 40):
            done = await asyncio.gather(*(write(n) for n in range(start, start + 40)))
            assert done == [1] * 40


async def test_tables_held_by_another_for_too_long_are_unavailable(tmp_path: Path) -> None:
    recorder = Recorder(CollectorRegistry())
    async with open_sqlite(tmp_path / "tables.db", recorder, lock_wait_seconds=0.05) as tables:
        holder = open_desk(tmp_path)
        async with holder as other:
            assert isinstance(other.tables, SqliteTables)
            assert other.tables._lock.acquire(1)
            with pytest.raises(TransientError) as caught:
                await tables.write(begin("g"))
            assert caught.value.code is Code.TABLES_UNAVAILABLE
            # A process that is stopped with the tables in its hands keeps everybody waiting.
            who = f"process {os.getpid()}" if sys.platform == "linux" else "another process"
            assert caught.value.message.startswith(f"{who} has held the tables for 0.05 s")
            other.tables._lock.release()
            assert await tables.write(begin("g")) == 1


async def test_a_full_disk_is_trouble_and_not_the_units_fault(desk: Desk) -> None:
    async def fill(tx: Transaction) -> None:
        await tx.run(
            "positions.stop", processor="p" * 10_000_000, version="1", reason="grows the file"
        )

    await desk.tables.write(begin("g"))
    await desk.tables.write(_limit_pages)
    with pytest.raises(TransientError) as caught:
        await desk.tables.write(fill)
    assert caught.value.code is Code.TABLES_UNAVAILABLE
    assert await position(desk, "g") == 1


async def _limit_pages(tx: Transaction) -> None:
    tx._connection.execute("PRAGMA max_page_count = 100")  # type: ignore[attr-defined]  # SQLite's own


async def test_newer_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tables.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(PermanentError, match="version 99"):
        async with open_sqlite(path, Recorder(CollectorRegistry())):
            pass


async def test_what_is_no_database_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "tables.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(TransientError, match=r"tables\.db: file is not a database") as caught:
        async with open_sqlite(path, Recorder(CollectorRegistry())):
            pass
    assert caught.value.code is Code.TABLES_UNAVAILABLE


async def test_opening_again_keeps_what_was_there(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        await desk.tables.write(begin("g", 5))
    async with open_desk(tmp_path) as desk:
        assert await position(desk, "g") == 5


async def test_tables_of_the_first_version_are_brought_up_to_date(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "tables.db")
    connection.executescript(load_migrations()[0] + "; PRAGMA user_version = 1;")
    connection.execute(
        "INSERT INTO jobs VALUES ('j1', 't', 'd1', '{}', 1, 'retry_wait', 2, 1, 0, 'a.pdf',"
        " 'application/pdf', 't/j1/source', ?, 9, 'liteparse', NULL, NULL, NULL, NULL, NULL, NULL,"
        " '[]', 'parser_down', 'later', NULL, 5, 6)",
        ("0" * 64,),
    )
    connection.execute("INSERT INTO timers VALUES ('j1', 'step', 7, 6, 3)")
    connection.commit()
    connection.close()
    async with open_desk(tmp_path) as desk:
        (job,) = await desk.rows("jobs.by_ids", ids='["j1"]')
        (due,) = await desk.rows("jobs.due_steps", most=10)
    assert (job["state"], job["attempt"], job["error_message"]) == ("retry_wait", 2, "later")
    assert (due["due_ms"], due["repeats"], due["name"]) == (7, 3, "a.pdf")


async def test_the_clock_is_the_tables_own(desk: Desk) -> None:
    async def now(tx: Transaction) -> int:
        return tx.now_ms

    assert await desk.tables.write(now) == NOW
    desk.clock.pass_ms(1500)
    assert await desk.tables.read(now) == NOW + 1500


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET state = 'nowhere'",
        "UPDATE jobs SET state = 'complete'",
        "UPDATE jobs SET state = 'failed_parse'",
        "UPDATE jobs SET state = 'parse_queued'",
        "UPDATE jobs SET tries = 6",
        "UPDATE jobs SET attempt = 0",
        "UPDATE jobs SET result_blob = 'x'",
        "UPDATE jobs SET source_bytes = 0",
        "UPDATE timers SET kind = 'other'",
        "UPDATE job_events SET to_state = NULL",
    ],
)
async def test_impossible_states_are_forbidden(desk: Desk, statement: str) -> None:
    await desk.upload()

    async def unit(tx: Transaction) -> None:
        tx._connection.execute(statement)  # type: ignore[attr-defined]  # SQL that no query has

    with pytest.raises(sqlite3.IntegrityError):
        await desk.tables.write(unit)


@pytest.mark.parametrize(
    "error", [sqlite3.DatabaseError("malformed"), sqlite3.InternalError("i"), MemoryError()]
)
async def test_the_databases_own_trouble_is_nobodys_fault(desk: Desk, error: Exception) -> None:
    async def unit(_tx: Transaction) -> None:
        raise error

    with pytest.raises(TransientError) as caught:
        await desk.tables.write(unit)
    assert caught.value.code is Code.TABLES_UNAVAILABLE


async def test_a_broken_rule_is_the_units_fault(desk: Desk) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await desk.tables.write(begin("g", -1))
