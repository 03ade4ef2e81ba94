"""Somebody whom the double's webhooks reach: keeps what came, answers as told."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


class Receiver:
    """Keeps headers and raw bodies; answers with the `statuses` in line, then with 200."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.received: list[tuple[dict[str, str], bytes]] = []

    async def receive(self, request: web.Request) -> web.Response:
        """Keep one webhook."""
        self.received.append((dict(request.headers), await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    def told(self) -> list[tuple[str, str]]:
        """Give the event type and job of each webhook in `json` format, in order."""
        found = [json.loads(body) for _, body in self.received]
        return [(event["event_type"], event["data"]["job_id"]) for event in found]


@asynccontextmanager
async def open_receiver() -> AsyncIterator[Receiver]:
    """Listen for webhooks on a free port of this machine."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield receiver
    finally:
        await runner.cleanup()
