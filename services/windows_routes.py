"""What the windows' process answers over HTTP: its metrics, the windows, and whether it moves."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from streams.usage import Usage
from streams.usage_report import describe_windows
from streams.usage_vigil import Vigil

log = structlog.get_logger(__name__)

_MOMENT = re.compile("[0-9]{1,14}")
"""Unix milliseconds up to the year 5138: every window of such a moment can be named."""


@asynccontextmanager
async def serve_windows(
    registry: CollectorRegistry, usage: Usage, vigil: Vigil, *, host: str, port: int
) -> AsyncIterator[int]:
    """Serve `/metrics`, `/windows` and `/health`, on any free port for 0; give the port."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", _metrics(registry)),
            web.get("/windows", _windows(usage, vigil)),
            web.get("/health", _health(vigil)),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = int(runner.addresses[0][1])
        log.info("windows_served", host=host, port=bound)
        yield bound
    finally:
        await runner.cleanup()


_Handler = Callable[[web.Request], Any]


def _metrics(registry: CollectorRegistry) -> _Handler:
    async def answer(_request: web.Request) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=generate_latest(registry), headers=headers)

    return answer


def _windows(usage: Usage, vigil: Vigil) -> _Handler:
    async def answer(request: web.Request) -> web.Response:
        at = request.query.get("at")
        if at is not None and _MOMENT.fullmatch(at) is None:
            raise web.HTTPBadRequest(text="`at` is a moment in unix milliseconds")
        windows = describe_windows(usage, None if at is None else int(at))
        return _json({"time_zone": str(usage.zone), **vigil.describe(), "windows": windows})

    return answer


def _health(vigil: Vigil) -> _Handler:
    async def answer(_request: web.Request) -> web.Response:
        return _json(vigil.describe(), status=503 if vigil.trouble() else 200)

    return answer


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
