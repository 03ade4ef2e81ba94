"""A worker that sleeps past its lease and wakes up: one result, one end, and it serves on."""

import asyncio
import signal
from pathlib import Path

import pytest

from streams.tables.lockfile import LockFile
from tests.fleet import TENANT, Fleet, open_fleet
from tests.processes import FleetProcess, until

pytestmark = [pytest.mark.processes, pytest.mark.kafka]

THROWN_AWAY = 'parsewire_processed_total{outcome="thrown_away",processor="parse"}'


async def claimed(fleet: Fleet, job_id: str, attempt: int) -> None:
    async def owned() -> bool:
        rows = await fleet.rows("attempts.of_job", job_id=job_id)
        return any(row["attempt"] == attempt for row in rows)

    await until(owned, f"attempt {attempt} is claimed", within_seconds=30)


async def stop_between_writes(fleet: Fleet, worker: FleetProcess) -> None:
    """Stop a worker that holds no lock of the tables: with one, every writer would wait for it."""
    lock = LockFile(fleet.folder / "tables.db")
    try:
        async with asyncio.timeout(30):
            while True:
                worker.signal(signal.SIGSTOP)
                if lock.acquire(0.5):
                    break
                worker.signal(signal.SIGCONT)
                await asyncio.sleep(0.01)
        lock.release()
    finally:
        lock.close()


@pytest.mark.parametrize(
    "latency_seconds",
    [pytest.param(1.5, id="its parse is due when it wakes"), pytest.param(60, id="it parses on")],
)
async def test_a_worker_stopped_past_its_lease(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str, latency_seconds: float
) -> None:
    opened = open_fleet(
        tmp_path, kafka_bootstrap, topic_prefix, mode="mock", mock_latency_seconds=latency_seconds
    )
    async with opened as fleet:
        client = await fleet.client()
        (zombie,) = fleet.workers
        job_id = str((await client.upload(b"slept over", "a.txt")).json["job_id"])
        await claimed(fleet, job_id, 1)
        await stop_between_writes(fleet, zombie)
        other = await fleet.add_worker(mock_latency_seconds=0.1)
        job = await client.reaches(job_id, "complete", within_seconds=40)
        assert (job["attempt"], await fleet.counts()) == (2, {"complete": 1})
        zombie.signal(signal.SIGCONT)

        async def thrown_away() -> bool:
            return await fleet.metric(zombie, THROWN_AWAY) == 1

        await until(thrown_away, "the zombie throws its work away", within_seconds=20)
        await fleet.calm(within_seconds=20)
        assert await client.job(job_id) == job
        history = await client.history(job_id)
        ends = [
            (line["attempt"], line["to_state"])
            for line in history
            if line["type"] == "ParseSucceeded"
        ]
        assert ends == [(2, "parsed"), (2, "complete")]
        codes = [line["code"] for line in history if line["type"] == "ParseFailed"]
        assert codes == ["worker_lost"]

        async def tidy() -> bool:
            blobs = [f"{TENANT}/{job_id}/2/result", f"{TENANT}/{job_id}/source"]
            return await fleet.blob_keys() == blobs

        await until(tidy, "what the zombie kept is removed", within_seconds=5)
        # Alone again, it must serve: what it lost was an attempt, not its place.
        await other.stop()
        fresh = str((await client.upload(b"a new one", "b.txt")).json["job_id"])
        await claimed(fleet, fresh, 1)
        if latency_seconds < 10:
            await client.reaches(fresh, "complete", within_seconds=30)
