"""A self-hosted parser: it verifies orders by hand, and sends signed results when it is told to."""

import asyncio
import hashlib
import hmac
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

SECRET = "a secret that both sides know"


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """Give the headers that prove a body."""
    proof = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Webhook-Signature": f"sha256={proof}", "Content-Type": "application/json"}


def artifact(kind: str, content: str, **changes: Any) -> dict[str, Any]:
    """Describe a piece of a result, its hash and size with it."""
    raw = content.encode()
    described = {"type": kind, "content": content, "bytes": len(raw)}
    return described | {"sha256": hashlib.sha256(raw).hexdigest()} | changes


class CallbackService:
    """Takes documents and keeps what it took; results go out when a test says so."""

    def __init__(self) -> None:
        self.url = ""
        self.orders: list[dict[str, Any]] = []
        self.files: list[bytes] = []
        self.requests: list[dict[str, str]] = []
        self.answer: bytes | None = b'{"parse_job_id": "p-1"}'
        self.status = 202
        self.headers: dict[str, str] = {}
        self.cut = False
        self.silent = asyncio.Event()
        self.silent.set()
        self._taken = asyncio.Condition()

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Take one order, as a stranger would write it."""
        self.requests.append(dict(request.headers))
        form = await request.post()
        order, file = str(form["order"]), form["file"]
        assert isinstance(file, web.FileField)
        if not hmac.compare_digest(
            signed(order.encode())["X-Webhook-Signature"],
            request.headers.get("X-Webhook-Signature", ""),
        ):
            return web.json_response({"detail": "not signed by the secret"}, status=401)
        content, said = file.file.read(), json.loads(order)
        if hashlib.sha256(content).hexdigest() != said["sha256"]:
            return web.json_response({"detail": "another document"}, status=400)
        async with self._taken:
            self.orders.append(said)
            self.files.append(content)
            self._taken.notify_all()
        await self.silent.wait()
        if self.cut:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(body=self.answer, status=self.status, headers=self.headers)

    async def order(self, number: int = 1, within_seconds: float = 40) -> dict[str, Any]:
        """Wait for an order, the first being 1, and give it."""
        async with asyncio.timeout(within_seconds), self._taken:
            await self._taken.wait_for(lambda: len(self.orders) >= number)
        return self.orders[number - 1]

    async def tell(
        self, order: dict[str, Any], status: str, secret: str = SECRET, **fields: Any
    ) -> int:
        """Send a webhook about an order, and give the gateway's status."""
        body = json.dumps(
            {
                "job_id": order["job_id"],
                "document_id": order["document_id"],
                "correlation_id": order["correlation_id"],
                "parse_job_id": "p-1",
                "status": status,
                "meta": {"parser_name": "inkling", "parser_version": "2.1"},
            }
            | fields
        ).encode()
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                order["callback_url"], data=io.BytesIO(body), headers=signed(body, secret)
            ) as got,
        ):
            return got.status


@asynccontextmanager
async def open_callback_service() -> AsyncIterator[CallbackService]:
    """Serve it on this machine."""
    service = CallbackService()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/parse", service.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}/parse"
        yield service
    finally:
        service.silent.set()
        await runner.cleanup()
