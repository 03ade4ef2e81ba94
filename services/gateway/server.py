"""The gateway's server: its port, with the front before aiohttp, from its opening to its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from services.gateway.front import Front
from services.gateway.ways import WAYS

_BACKLOG = 1024


@asynccontextmanager
async def open_server(
    app: web.Application, host: str, port: int, drain_seconds: float
) -> AsyncIterator[list[tuple[str, int]]]:
    """Serve the application, and give the addresses; port 0 is any that is free.

    At the end no connection is taken any more, and those whose requests are under way have
    `drain_seconds` for their answers.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=drain_seconds)
    await runner.setup()
    usual = runner.server
    if usual is None:
        raise RuntimeError("the runner is not set up")
    front = Front(app[WAYS], usual)
    loop = asyncio.get_running_loop()
    try:
        listening = await loop.create_server(front, host, port, backlog=_BACKLOG)
        try:
            yield [socket.getsockname()[:2] for socket in listening.sockets]
        finally:
            listening.close()
    finally:
        await asyncio.gather(front.close(drain_seconds), runner.cleanup())
