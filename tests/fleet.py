"""A fleet for tests: a gateway and workers as real processes, and a producer that talks to them."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from prometheus_client import CollectorRegistry

from schemas.job import UNFINISHED
from services.keys import Role, create_key
from streams.blobs.disk import DiskBlobs
from streams.metrics import Recorder
from streams.tables.base import Row
from streams.tables.sqlite import SqliteTables, open_sqlite
from tests.gateway_desk import Answer
from tests.kafka_process import stable_port
from tests.processes import FAST, FleetProcess, environment_of, run_verb, until

API = "/api/v1"
TENANT = "acme"


class Client:
    """A producer with a key."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self.url = url
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}"}

    async def ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> Answer:
        """Send a request and read the whole answer."""
        sent = self._headers | (headers or {})
        async with self._session.request(method, self.url + path, headers=sent, **more) as got:
            return Answer(got.status, got.headers, await got.read())

    async def upload(
        self, content: bytes, name: str, *, force: bool = False, **more: Any
    ) -> Answer:
        """Upload a document as a form."""
        form = aiohttp.FormData()
        form.add_field("file", content, filename=name, content_type="application/octet-stream")
        if force:
            form.add_field("force", "true")
        return await self.ask("POST", f"{API}/upload", data=form, **more)

    async def upload_surely(self, content: bytes, name: str, *, within_seconds: float) -> str:
        """Upload until it is answered 2xx, and give the job's id."""
        async with asyncio.timeout(within_seconds):
            while True:
                try:
                    answer = await self.upload(content, name)
                except (aiohttp.ClientError, TimeoutError, OSError):
                    await asyncio.sleep(0.1)
                    continue
                if answer.status in (200, 202):
                    return str(answer.json["job_id"])
                assert answer.status >= 500, answer.content
                await asyncio.sleep(0.1)

    async def job(self, job_id: str) -> Any:
        """Show a job."""
        answer = await self.ask("GET", f"{API}/jobs/{job_id}")
        assert answer.status == 200, answer.content
        return answer.json

    async def jobs(self) -> list[Any]:
        """List every job, page by page."""
        found: list[Any] = []
        query = "?limit=200"
        while True:
            page = (await self.ask("GET", f"{API}/jobs{query}")).json
            found += page["jobs"]
            if page["next"] is None:
                return found
            query = f"?limit=200&before={page['next']}"

    async def history(self, job_id: str) -> list[Any]:
        """Give every line of its history."""
        return list((await self.ask("GET", f"{API}/jobs/{job_id}/history")).json["events"])

    async def result(self, job_id: str, suffix: str = ".md") -> Answer:
        """Get its result."""
        return await self.ask("GET", f"{API}/jobs/{job_id}/result{suffix}")

    async def reaches(self, job_id: str, *states: str, within_seconds: float = 20) -> Any:
        """Wait until the job is in one of the states, and show it."""

        async def there() -> Any:
            job = await self.job(job_id)
            return job if job["state"] in states else None

        what = f"job {job_id} is {' or '.join(states)}"
        return await until(there, what, within_seconds=within_seconds)


class Fleet:
    """A gateway and workers on one folder and one prefix, and a way to look into their tables."""

    def __init__(
        self, folder: Path, tables: SqliteTables, http: aiohttp.ClientSession, **settings: object
    ) -> None:
        self.folder = folder
        self.tables = tables
        self.blobs = DiskBlobs(folder / "blobs")
        self.prefix = str(settings["topic_prefix"])
        self._http = http
        port = stable_port()
        self._settings = FAST | {"data_dir": folder, "gateway_port": port} | settings
        self.url = f"http://127.0.0.1:{port}"
        self.gateway = FleetProcess("gateway", "gateway", folder, self._settings)
        self.workers: list[FleetProcess] = []

    async def start(self, *, workers: int) -> None:
        """Start the gateway and workers, and wait until the gateway is ready."""
        await self.gateway.start()
        for _ in range(workers):
            await self.add_worker()
        await self.gateway_ready()

    async def add_worker(self, **changes: object) -> FleetProcess:
        """Start one more worker."""
        name = f"worker-{len(self.workers) + 1}"
        worker = FleetProcess("worker", name, self.folder, self._settings | changes)
        self.workers.append(worker)
        await worker.start()
        return worker

    async def gateway_ready(self) -> None:
        """Wait until the gateway can serve."""

        async def ready() -> bool:
            assert self.gateway.alive(), "the gateway has ended"
            try:
                async with self._http.get(f"{self.url}/ready") as answer:
                    return answer.status == 200
            except (aiohttp.ClientError, OSError):
                return False

        await until(ready, "the gateway is ready", within_seconds=40)

    async def metric(self, worker: FleetProcess, line: str) -> float | None:
        """Read one of a worker's metrics, by name and labels; None where it does not say."""
        served = [orjson.loads(raw) for raw in worker.log.read_bytes().splitlines()]
        port = next(said["port"] for said in reversed(served) if said["event"] == "metrics_served")
        try:
            async with self._http.get(f"http://127.0.0.1:{port}/metrics") as answer:
                found = re.search(rf"^{re.escape(line)} (\S+)$", await answer.text(), re.MULTILINE)
        except (aiohttp.ClientError, OSError):
            return None
        return float(found[1]) if found else None

    async def cli(self, *arguments: str) -> str:
        """Run a verb of the command line to its good end, and give what it printed."""
        environment = environment_of(self._settings)
        ended = await run_verb(*arguments, environment=environment, folder=self.folder)
        assert ended.code == 0, ended
        return ended.printed.decode()

    async def client(self, tenant: str = TENANT, role: Role = Role.TENANT) -> Client:
        """Make a producer with a new key."""
        _, token = await create_key(self.tables, tenant, "test", role)
        return Client(self._http, self.url, token)

    async def rows(self, query: str, **values: Any) -> list[Row]:
        """Run a query that changes nothing."""
        return await self.tables.read(lambda tx: tx.all(query, **values))

    async def counts(self) -> dict[str, int]:
        """Give the number of jobs in each state that has some."""
        return {row["state"]: row["jobs"] for row in await self.rows("jobs.counts") if row["jobs"]}

    async def at_work(self) -> bool:
        """Tell whether somebody has claimed an attempt and not ended it."""
        return bool(self.sql("SELECT 1 FROM attempts WHERE ended_ms IS NULL LIMIT 1"))

    def sql(self, query: str) -> list[Any]:
        """Ask the file itself, beside every process."""
        with closing(sqlite3.connect(f"file:{self.folder}/tables.db?mode=ro", uri=True)) as file:
            return file.execute(query).fetchall()

    async def calm(self, *, within_seconds: float) -> None:
        """Wait until no job is unfinished and no event is on its way."""

        async def calm() -> bool:
            counts = await self.counts()
            (outbox,) = await self.rows("outbox.depth")
            return not UNFINISHED & counts.keys() and not outbox["events"]

        await until(calm, "every job finished, outbox empty", within_seconds=within_seconds)

    async def outbox_empty(self, *, within_seconds: float) -> None:
        """Wait until no event is on its way."""

        async def empty() -> bool:
            (outbox,) = await self.rows("outbox.depth")
            return not outbox["events"]

        await until(empty, "the outbox is empty", within_seconds=within_seconds)

    async def blob_keys(self) -> list[str]:
        """List every blob."""
        return sorted([stored.key async for stored in self.blobs.list_all()])

    async def close(self) -> None:
        """End every process, and see that none of their children is left."""
        processes = [self.gateway, *self.workers]
        ends = await asyncio.gather(*(p.stop() for p in processes), return_exceptions=True)
        assert not any(ends), ends
        for process in processes:
            await process.no_children_left()


@asynccontextmanager
async def open_fleet(
    folder: Path, servers: str, prefix: str, *, workers: int = 1, **settings: object
) -> AsyncIterator[Fleet]:
    """Run a fleet on a broker for as long as the context lasts; its logs stand in `folder`."""
    places = {"kafka_bootstrap_servers": servers, "topic_prefix": prefix}
    async with AsyncExitStack() as stack:
        recorder = Recorder(CollectorRegistry())
        tables = await stack.enter_async_context(open_sqlite(folder / "tables.db", recorder))
        connector = aiohttp.TCPConnector(force_close=True, limit=32)
        timeout = aiohttp.ClientTimeout(total=30)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, timeout=timeout)
        )
        fleet = Fleet(folder, tables, http, **places, **settings)
        try:
            await fleet.start(workers=workers)
            yield fleet
        finally:
            await fleet.close()
