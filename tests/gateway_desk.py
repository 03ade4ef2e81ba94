"""A bench for the gateway: a real server, tables and blobs in a folder, two tenants."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from prometheus_client import CollectorRegistry
from yarl import URL

from schemas.events import Body, Event, ParseFailed, ParseSucceeded
from schemas.job import Job
from schemas.result_link import LinkKeys
from services.gateway.app import build_app
from services.gateway.parts import Check, Limits, Parts, WebhookRules
from services.gateway.server import open_server
from services.keys import create_key, find_key
from services.result_links import ResultLinks
from streams import results
from streams.blobs.base import Blobs, result_key
from streams.blobs.disk import DiskBlobs
from streams.job_state import JobState
from streams.jobs import from_row
from streams.metrics import Recorder
from streams.parsers.base import Page, Parsed
from streams.tables.base import OutboxRow
from streams.tables.sqlite import SqliteTables, open_sqlite
from tests.fakes import MemoryBus
from tests.harness import TIMINGS, FakeClock, decode_row, event_of, lay_tables

UPLOAD = "/api/v1/upload"
LINK_SECRET = "the secret of links"
PAGES = (Page(1, "# One\n", "One\n"), Page(2, "Two\n", "Two\n"))


class Answer:
    """An answer, read whole."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    @property
    def json(self) -> Any:
        return orjson.loads(self.content)


class GatewayDesk:
    """A running gateway and short ways to use it and to look behind it."""

    def __init__(
        self,
        port: int,
        session: aiohttp.ClientSession,
        tables: SqliteTables,
        folder: Path,
        registry: CollectorRegistry,
    ) -> None:
        self.port = port
        self.url = URL(f"http://127.0.0.1:{port}")
        self.registry = registry
        self.session = session
        self.tables = tables
        self.folder = folder
        self.blobs = DiskBlobs(folder)
        self.tokens: dict[str, str] = {}
        self.announced: list[OutboxRow] = []
        tables.on_commit(self.announced.extend)

    def bearer(self, tenant: str = "acme") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[tenant]}"}

    async def ask(
        self, method: str, path: str, *, tenant: str | None = "acme", **more: Any
    ) -> Answer:
        """Send one request, with the tenant's key unless there is no tenant."""
        headers = dict(more.pop("headers", None) or {})
        if tenant is not None:
            headers = self.bearer(tenant) | headers
        url = self.url.join(URL(path, encoded=True))
        async with asyncio.timeout(20):
            async with self.session.request(method, url, headers=headers, **more) as response:
                return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.ask("GET", path, **more)

    async def post(self, path: str, **more: Any) -> Answer:
        return await self.ask("POST", path, **more)

    async def upload(
        self, content: bytes = b"some text", *, query: str = "", name: str = "a.txt", **more: Any
    ) -> Answer:
        """Upload a raw body of plain text."""
        headers = {
            "Content-Type": "text/plain",
            "Content-Disposition": f'attachment; filename="{name}"',
        } | (more.pop("headers", None) or {})
        return await self.post(UPLOAD + query, data=content, headers=headers, **more)

    async def job(self, job_id: str) -> Job:
        row = await self.tables.read(lambda tx: tx.one("jobs.by_id", id=job_id))
        assert row is not None
        return from_row(row)

    def said(self) -> list[Body]:
        """Give every event announced so far, and forget them."""
        rows, self.announced[:] = list(self.announced), []
        return [decode_row(row).body for row in rows]

    def files(self) -> list[str]:
        """Give every blob's path, the unfinished ones too."""
        return sorted(
            str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()
        )

    async def happen(self, body: Body) -> None:
        """Let the job_state fold apply an event."""
        event: Event = event_of(body)
        await self.tables.write(lambda tx: JobState(TIMINGS).apply(tx, [event]))

    async def complete(self, job_id: str) -> None:
        """Give the job a result of two pages."""
        job = await self.job(job_id)
        content = results.encode(Parsed(PAGES, "mock", "1"))
        blob = await self.blobs.put(result_key(job.tenant, job.id, job.attempt), content)
        await self.happen(ParseSucceeded(job.id, job.tenant, job.attempt, blob, "mock", "1", 2))

    async def fail(self, job_id: str, code: str = "document_broken") -> None:
        job = await self.job(job_id)
        await self.happen(
            ParseFailed(job.id, job.tenant, job.attempt, code, "no good", transient=False)
        )

    async def until_idle(self) -> None:
        """Return once the gateway is at no request any more."""
        # The gateway sees a closed connection by itself; no event of ours tells when.
        async with asyncio.timeout(20):
            while self.metric("parsewire_http_requests_in_progress"):  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.001)

    def metric(self, name: str, **labels: str) -> float:
        """Give one series' value, 0 where there is none."""
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def open_gateway(
    folder: Path,
    *,
    limits: Limits | None = None,
    checks: Mapping[str, Check] | None = None,
    blobs: Blobs | None = None,
    clock: FakeClock | None = None,
    drain_seconds: float = 10.0,
    **changes: Any,
) -> AsyncIterator[GatewayDesk]:
    """Run a gateway for the tenants acme and globex."""
    recorder = Recorder(CollectorRegistry())
    store = folder / "blobs"
    time: dict[str, Any] = {} if clock is None else {"clock_ms": clock}
    async with (
        open_sqlite(lay_tables(folder), recorder, **time) as tables,
        MemoryBus().open_producer() as producer,
    ):
        values: dict[str, Any] = {
            "tables": tables,
            "blobs": blobs or DiskBlobs(store),
            "producer": producer,
            "recorder": recorder,
            "timings": TIMINGS,
            "limits": limits or limits_of(),
            "webhooks": WebhookRules({}, 1_000.0, 1_000_000),
            "links": ResultLinks(LinkKeys([LINK_SECRET])),
            "find_key": partial(find_key, tables),
            "checks": checks or {},
        }
        app = build_app(Parts(**(values | changes)))
        jar = aiohttp.DummyCookieJar()
        async with (
            open_server(app, "127.0.0.1", 0, drain_seconds) as addresses,
            aiohttp.ClientSession(cookie_jar=jar) as session,
        ):
            desk = GatewayDesk(addresses[0][1], session, tables, store, recorder.registry)
            for tenant in ("acme", "globex"):
                _, desk.tokens[tenant] = await create_key(tables, tenant, "test")
            yield desk


def limits_of(**changes: Any) -> Limits:
    """Give limits that a test does not meet by chance."""
    values: dict[str, Any] = {
        "max_upload_bytes": 1_000_000,
        "idle_seconds": 10.0,
        "total_seconds": 20.0,
        "uploads_at_once": 16,
    }
    return Limits(**(values | changes))
