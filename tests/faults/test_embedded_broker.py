"""The embedded broker killed under `parsewire up`: a new one comes, and every job ends."""

import asyncio
import os
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from services.cli.run_file import read_run_file
from tests.pdfs import text_pdf
from tests.processes import until
from tests.up_desk import open_up

pytestmark = [pytest.mark.processes, pytest.mark.embedded]

DOCUMENTS = 100
ALL_END_SECONDS = 60
PAGES = [["# A chapter", "", *["Words to keep a parser busy for a while."] * 30]] * 10


async def test_a_killed_broker_is_replaced_and_every_job_ends(tmp_path: Path) -> None:
    async with open_up(tmp_path) as (up, client):
        uploads = (
            client.upload_surely(text_pdf(PAGES, f"unique {n}"), f"{n}.pdf", within_seconds=60)
            for n in range(DOCUMENTS)
        )
        jobs = set(await asyncio.gather(*uploads))
        before = up.running()
        states = [job["state"] for job in await client.jobs()]
        assert len(jobs) == DOCUMENTS
        assert states.count("complete") < DOCUMENTS - 20, "too late: there is no work left"
        assert before.broker_pid is not None
        os.kill(before.broker_pid, signal.SIGKILL)
        killed = time.monotonic()
        after = await up.new_broker(before.broker_pid)
        replaced_seconds = time.monotonic() - killed

        async def all_complete() -> bool:
            try:
                found = await client.jobs()
            except (aiohttp.ClientError, OSError):
                return False
            return [job["state"] for job in found] == ["complete"] * DOCUMENTS

        await until(all_complete, "every job is complete", within_seconds=ALL_END_SECONDS)
        ended_seconds = time.monotonic() - killed
        said = (
            f"new broker after {replaced_seconds:.1f} s, all jobs ended after {ended_seconds:.1f} s"
        )
        print(said)  # noqa: T201  # a figure for whoever runs it with -s
        assert after.bootstrap_servers != before.bootstrap_servers
        assert {job["job_id"] for job in await client.jobs()} == jobs
        for job_id in jobs:
            history = await client.history(job_id)
            assert [line["to_state"] for line in history].count("complete") == 1
    assert read_run_file(tmp_path) is None
