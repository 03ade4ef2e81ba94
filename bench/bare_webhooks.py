"""The bare aiohttp handler that webhooks are compared with: it reads the body and answers 202.

python -m bench.bare_webhooks PORT
"""

import asyncio
import sys

import uvloop
from aiohttp import web

_BACKLOG = 1024


async def take(request: web.Request) -> web.Response:
    """Read the body and drop it."""
    content = await request.read()
    return web.Response(status=202, body=b'{"size":%d}' % len(content))


async def serve(port: int) -> None:
    """Serve until the process is ended from outside."""
    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=_BACKLOG).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
