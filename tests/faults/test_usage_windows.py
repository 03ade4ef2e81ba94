"""The usage windows against the ledger: over SIGTERM, SIGKILL and garbage; each alert once."""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from services.cli.run_file import RunningProcess
from tests.processes import until
from tests.topics import Raw, write_records
from tests.up_desk import open_up
from tests.windows_desk import open_windows_desk

pytestmark = [pytest.mark.processes]

JOBS = 2_000
CENT = 10_000

GARBAGE: list[Raw] = [
    (b"t1", b"\x00\xff", [("ce_type", b"com.parsewire.CostSettled")]),
    (b"t2", b"[" * 100_000, [("ce_type", b"com.parsewire.CostReserved")]),
    (b"t3", None, [("ce_type", b"\xff")]),
    (None, b"{}", []),
]


@pytest.mark.kafka
async def test_windows_equal_the_ledger_over_sigterm_sigkill_and_garbage(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with open_windows_desk(tmp_path, kafka_bootstrap, topic_prefix) as desk:
        await desk.process.start()
        await desk.say(desk.stories(JOBS))
        await desk.some_counted()
        desk.process.signal(signal.SIGTERM)
        assert await desk.process.wait(15) == 0

        await write_records(kafka_bootstrap, f"{topic_prefix}costs.events", GARBAGE)
        await desk.process.start()
        saying = asyncio.create_task(desk.say(desk.stories(JOBS)))
        await desk.some_counted()
        await desk.process.kill()
        await saying

        await desk.process.start()
        # In the middle of what was not committed, if there was any, and of what is new.
        await desk.say(desk.stories(JOBS // 4))
        await desk.some_counted()
        await desk.process.kill()
        await desk.process.start()
        await desk.all_committed()
        assert len(desk.ledger()) == 10
        # What was promised is less: never below the ledger, above it by what was not committed.
        assert await desk.counted() == desk.ledger()
        await desk.second.start()
        assert await desk.second.wait(15) == 1
        assert "already counts for" in desk.second.log.read_text()


@pytest.mark.kafka
async def test_each_threshold_is_said_once_over_a_restart(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with open_windows_desk(tmp_path, kafka_bootstrap, topic_prefix) as desk:
        await desk.limit(100 * CENT)

        async def spend(jobs: int, *percents: int) -> None:
            await desk.say(desk.stories(jobs, CENT))

            async def said() -> bool:
                return await desk.alerts() == dict.fromkeys(percents, 1)

            await until(said, f"alerts at {percents}", within_seconds=40)

        await desk.process.start()
        await spend(55, 50)
        desk.process.signal(signal.SIGTERM)
        assert await desk.process.wait(15) == 0
        await desk.process.start()
        await spend(30, 50, 80)
        # Who ends in order remembers what was said; who is killed may say it again, under its id.
        assert await desk.alerts_sent() == {50: 1, 80: 1}
        await desk.process.kill()
        await desk.process.start()
        await spend(30, 50, 80, 100)


@pytest.mark.embedded
async def test_the_supervisor_puts_another_in_the_place_of_killed_windows(tmp_path: Path) -> None:
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        open_up(tmp_path) as (up, client),
        aiohttp.ClientSession(connector=connector) as http,
    ):

        def windows() -> RunningProcess:
            return next(p for p in up.running().processes if p.name == "windows")

        async def parsed(found: RunningProcess) -> int:
            """Tell how many parses the windows of the day have counted."""
            url = found.metrics_url.replace("/metrics", "/windows")
            try:
                async with http.get(url) as answer:
                    lines = (await answer.json())["windows"]
            except (aiohttp.ClientError, OSError):
                return 0
            stages = [line for line in lines if line.get("stage") == "parse"]
            return sum(line["count"] for line in stages if line["step"] == "day")

        async def counts(total: int) -> bool:
            return await parsed(windows()) == total

        first = windows()
        job_id = str((await client.upload(b"one", "1.txt")).json["job_id"])
        await client.reaches(job_id, "complete")
        await until(lambda: counts(1), "the first parse is counted", within_seconds=60)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)

        async def another() -> bool:
            return windows().pid not in (None, first.pid)

        await until(another, "new windows are there", within_seconds=10)
        job_id = str((await client.upload(b"two", "2.txt")).json["job_id"])
        await client.reaches(job_id, "complete")
        await until(lambda: counts(2), "both are counted", within_seconds=60)
