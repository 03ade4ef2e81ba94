"""The way of one document on an idle system: from its 202 to `complete`.

The table itself is asked every millisecond; a complete job is seen up to a millisecond late.
"""

import asyncio
import sqlite3
import statistics
import time
import uuid
from contextlib import closing

import aiohttp

from bench.alone import parse_alone
from bench.children import open_child
from bench.deployment import UPLOAD, Deployment, open_deployment
from bench.document_speed import upload_all
from bench.figures import BenchError, Figure, median_ratio, percentile
from bench.ground import Ground
from bench.stamps import ONE_PAGE, stamped_copy

_DOCUMENTS = 60
_LOOK_SECONDS = 0.001
_DOCUMENT_SECONDS = 30.0


async def measure_latency(ground: Ground) -> list[Figure]:
    """Upload one document after the other, again and again."""
    folder = ground.folder_of("latency")
    own: list[float] = []
    runs: list[list[float]] = []
    async with open_deployment(ground, folder, worker=True) as deployment:
        async with open_child("load", "bench.load", folder=folder) as load:
            await upload_all(deployment, load, ONE_PAGE, uuid.uuid4().hex, 50)
        for number in range(1, ground.repeat + 1):
            stamp = uuid.uuid4().hex
            alone = await parse_alone(folder, ONE_PAGE, stamp, 200, many=1)
            own.append(alone.median_seconds * 1e3)
            runs.append([seconds * 1e3 for seconds in await _run(deployment, stamp)])
            ground.say(
                f"latency {number}: p50 {statistics.median(runs[-1]):.1f} ms, "
                f"LiteParse's own {own[-1]:.2f} ms"
            )
    middles = [statistics.median(run) for run in runs]
    everything = [value for run in runs for value in run]
    return [
        Figure("one page: LiteParse's own time, idle", statistics.median(own), "ms"),
        Figure("202 to complete, idle: p50", statistics.median(middles), "ms"),
        Figure("202 to complete, idle: p99", percentile(everything, 99), "ms"),
        Figure(
            "202 to complete: p50 / LiteParse's own", median_ratio(middles, own), "ratio", at_most=5
        ),
    ]


async def _run(deployment: Deployment, stamp: str) -> list[float]:
    content = ONE_PAGE.read_bytes()
    url = f"http://127.0.0.1:{deployment.port}{UPLOAD}"
    headers = {
        "Authorization": f"Bearer {deployment.token}",
        "Content-Type": "application/pdf",
    }
    taken = []
    with closing(sqlite3.connect(deployment.folder / "data" / "tables.db", timeout=30)) as reader:
        async with aiohttp.ClientSession(headers=headers) as session:
            for number in range(_DOCUMENTS):
                document = stamped_copy(content, stamp, number)
                async with session.post(url, data=document) as response:
                    answered = time.perf_counter()
                    body = await response.json()
                if response.status != 202:
                    raise BenchError(f"an upload was answered {response.status}: {body}")
                taken.append(await _until_complete(reader, body["job_id"], answered) - answered)
    return taken


async def _until_complete(reader: sqlite3.Connection, job_id: str, answered: float) -> float:
    while time.perf_counter() - answered < _DOCUMENT_SECONDS:
        (state,) = reader.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if state == "complete":
            return time.perf_counter()
        await asyncio.sleep(_LOOK_SECONDS)
    raise BenchError(f"job {job_id} was {state} after {_DOCUMENT_SECONDS:g} s")
