"""Probes: what is there, whether it lives, whether it can serve, what it measures."""

import asyncio
import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from schemas.errors import ParsewireError
from schemas.http import CheckBody, ReadyBody
from services.gateway.answers import answer
from services.gateway.parts import PARTS, Check

log = structlog.get_logger(__name__)


def index_of(endpoints: dict[str, str]) -> Handler:
    """Build the handler that lists the endpoints."""

    async def index(_request: web.Request) -> web.Response:
        return answer({"service": "parsewire", "endpoints": endpoints})

    return index


async def health(_request: web.Request) -> web.Response:
    """Say that the process answers."""
    return answer({"status": "alive"})


async def ready(request: web.Request) -> web.Response:
    """Say whether everything that an upload needs answers, each with its latency."""
    parts = request.app[PARTS]
    bodies = await asyncio.gather(
        *(_check(name, check, parts.check_seconds) for name, check in parts.checks.items())
    )
    checks = dict(zip(parts.checks, bodies, strict=True))
    well = all(body.state == "ok" for body in bodies)
    response = answer(ReadyBody(well, checks), status=200 if well else 503)
    if not well:
        response.headers["Retry-After"] = "5"
    return response


async def metrics(request: web.Request) -> web.Response:
    """Expose the metrics in Prometheus' text format."""
    content = generate_latest(request.app[PARTS].recorder.registry)
    return web.Response(body=content, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _check(name: str, check: Check, seconds: float) -> CheckBody:
    started = time.perf_counter()
    code: str | None = None
    try:
        async with asyncio.timeout(seconds):
            await check()
    except TimeoutError:
        code = "timeout"
    except ParsewireError as error:
        log.warning("check_failed", check=name, code=error.code.value, error=error.message)
        code = error.code.value
    except Exception:
        log.exception("check_failed", check=name)
        code = "internal_error"
    state = "ok" if code is None else "failed"
    return CheckBody(state, round(time.perf_counter() - started, 6), code)
