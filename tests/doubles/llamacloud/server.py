"""The double as an HTTP server: every call is written down, checked, and spoilt on request."""

import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate

from aiohttp import web

from tests.doubles.llamacloud import file_routes, hook_routes, parse_routes
from tests.doubles.llamacloud.behaviour import Behaviour, Call
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.faults import AFTER, BEFORE, REFUSALS, Fault
from tests.doubles.llamacloud.replies import (
    CALL,
    CLOUD,
    CutError,
    RefusalError,
    hang,
    refusal,
    refuse,
    spoil,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def open_llama_cloud(
    behaviour: Behaviour | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[LlamaCloud]:
    """Serve a LlamaCloud on this machine, by default on a free port."""
    cloud = LlamaCloud(behaviour or Behaviour(), clock)
    app = web.Application(middlewares=[write_down], client_max_size=64 * 1024 * 1024)
    app[CLOUD] = cloud
    app.on_response_prepare.append(date)
    app.add_routes([*parse_routes.ROUTES, *file_routes.ROUTES, *hook_routes.ROUTES])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await cloud.courier.open()
    try:
        await web.TCPSite(runner, host, port).start()
        cloud.url = f"http://{host}:{runner.addresses[0][1]}"
        yield cloud
    finally:
        await cloud.close()
        await runner.cleanup()
    if cloud.crashes:
        raise ExceptionGroup("the double of LlamaCloud broke", cloud.crashes)


async def date(request: web.Request, answer: web.StreamResponse) -> None:
    """Date an answer by the double's own clock."""
    answer.headers["Date"] = formatdate(request.app[CLOUD].clock(), usegmt=True)


@web.middleware
async def write_down(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write a call down with how it was answered; a cut connection is no answer."""
    cloud = request.app[CLOUD]
    call = Call(
        number=len(cloud.calls) + 1,
        at=cloud.clock(),
        method=request.method,
        path=request.path,
        query={name: request.query.getall(name) for name in request.query},
        operation=request.match_info.route.name or "unknown",
        job_id=request.match_info.get("job_id"),
        file_id=request.match_info.get("file_id"),
    )
    cloud.calls.append(call)
    request[CALL] = call
    try:
        answer = await answered(request, handler, call)
        call.status = answer.status
    except CutError:
        answer = web.Response()
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        raise  # the caller went away
    except Exception as error:
        cloud.crashes.append(error)
        raise
    finally:
        cloud.notify()
    return answer


async def answered(request: web.Request, handler: Handler, call: Call) -> web.StreamResponse:
    """Answer a call, or spoil it as the deck says."""
    cloud = request.app[CLOUD]
    card = cloud.deck.draw(call.operation, REFUSALS.keys() | BEFORE | AFTER, call)
    if card is None:
        return await honest(request, handler)
    call.fault = card.fault
    if card.fault in REFUSALS:
        return refusal(card)
    if card.fault is Fault.HANG_BEFORE:
        await hang(cloud, card.seconds)
    if card.fault in BEFORE:
        raise CutError
    return await spoil(request, await honest(request, handler), card)


async def honest(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a call as LlamaCloud does when all is well with it."""
    try:
        if request[CALL].operation != "download":
            admit(request)
        return await handler(request)
    except RefusalError as error:
        return web.json_response({"detail": error.detail}, status=error.status)
    except web.HTTPError as error:
        return web.json_response({"detail": error.reason}, status=error.status)


def admit(request: web.Request) -> None:
    """Refuse a call without the key, for another project, or over its quota."""
    cloud = request.app[CLOUD]
    given = request.headers.get("Authorization", "").encode()
    if not hmac.compare_digest(given, f"Bearer {cloud.api_key}".encode()):
        refuse(*REFUSALS[Fault.UNAUTHORIZED])
    if request.query.get("project_id", cloud.project_id) != cloud.project_id:
        refuse(*REFUSALS[Fault.FORBIDDEN])
    if not cloud.meter.admits(request[CALL].operation):
        refuse(*REFUSALS[Fault.RATE_LIMITED])
