"""An operator's receiver of alerts: verifies with the official library, answers as told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook

HANG = 0
"""Stands for an answer that never comes."""


class AlertReceiver:
    """Keeps the alerts whose signature holds; answers with `statuses` in line, then with 204."""

    def __init__(self, secret: str | bytes) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.says: dict[int, bytes] = {}
        """The bodies of the answers, by status."""
        self.alerts: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.elsewhere = 0
        """How many requests came to where a redirect points."""
        self.arrived = asyncio.Event()
        self._webhook = Webhook(secret)
        self._never = asyncio.Event()

    def ids(self) -> list[str]:
        """Give the ids of the requests that came, in order."""
        return [headers["webhook-id"] for headers in self.headers]

    async def receive(self, request: web.Request) -> web.Response:
        """Verify and keep one alert."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.alerts.append(self._webhook.verify(await request.read(), headers))
        self.headers.append(headers)
        self.arrived.set()
        status = self.statuses.pop(0) if self.statuses else 204
        if status == HANG:
            await self._never.wait()
        elsewhere = {"Location": "/elsewhere"} if 300 <= status < 400 else None
        return web.Response(status=status, body=self.says.get(status), headers=elsewhere)

    async def receive_elsewhere(self, request: web.Request) -> web.Response:
        """Count a request that followed a redirect."""
        await request.read()
        self.elsewhere += 1
        return web.Response(status=204)

    async def endless(self, request: web.Request) -> web.StreamResponse:
        """Refuse with a body that has no end."""
        await request.read()
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)


@asynccontextmanager
async def open_alert_receiver(secret: str | bytes) -> AsyncIterator[AlertReceiver]:
    """Listen for alerts on a free port of this machine."""
    receiver = AlertReceiver(secret)
    app = web.Application()
    app.router.add_post("/alerts", receiver.receive)
    app.router.add_post("/endless", receiver.endless)
    app.router.add_route("*", "/elsewhere", receiver.receive_elsewhere)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/alerts"
        yield receiver
    finally:
        await runner.cleanup()
