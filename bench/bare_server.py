"""The bare aiohttp handlers that the gateway is compared with.

`/kept` parses the form, writes the file, fsyncs and renames it; `/dropped` parses and forgets it.

    python -m bench.bare_server PORT FOLDER
"""

import asyncio
import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop
from aiohttp import BodyPartReader, web

_CHUNK_BYTES = 1 << 18
_BACKLOG = 1024
_THREADS = 8


class Handlers:
    """Both handlers, over one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(_THREADS)

    async def kept(self, request: web.Request) -> web.Response:
        """Keep the document, and answer once it is durable under its name."""
        content = await _content(request)
        loop = asyncio.get_running_loop()
        name = await loop.run_in_executor(self._pool, _keep, self._folder, content)
        return web.json_response({"name": name}, status=202)

    async def dropped(self, request: web.Request) -> web.Response:
        """Read the document and drop it."""
        content = await _content(request)
        return web.json_response({"size": len(content)}, status=202)


async def _content(request: web.Request) -> bytes:
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if isinstance(part, BodyPartReader) and part.name == "file":
            content = b""
            while chunk := await part.read_chunk(_CHUNK_BYTES):
                content += chunk
            return content
    raise web.HTTPBadRequest


def _keep(folder: Path, content: bytes) -> str:
    name = secrets.token_hex(16)
    temporary = folder / f"{name}.tmp"
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / name)
    return name


async def serve(port: int, folder: Path) -> None:
    """Serve until the process is ended from outside."""
    handlers = Handlers(folder)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/kept", handlers.kept)
    app.router.add_post("/dropped", handlers.dropped)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=_BACKLOG).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
