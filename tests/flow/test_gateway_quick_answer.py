"""The quick answer over the wire: what aiohttp's own would say, whoever asks."""

import asyncio
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import pytest
from aiohttp import web

from services.gateway.quick_answer import QuickAnswer

BODY = b'{"event_id":"1"}'
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def quick(request: web.Request) -> web.StreamResponse:
    answer = QuickAnswer(202, BODY)
    answer.headers.update({"traceparent": TRACE, **_extra(request)})
    if request.path == "/closed":
        answer.force_close()
    return answer


async def full(request: web.Request) -> web.StreamResponse:
    headers = {"Content-Type": "application/json", "traceparent": TRACE, **_extra(request)}
    answer = web.Response(status=202, body=BODY, headers=headers)
    if request.path == "/full/closed":
        answer.force_close()
    return answer


def _extra(request: web.Request) -> dict[str, str]:
    return {"X-Other": "1"} if request.path.endswith("/other") else {}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = web.Application()
    for path in ("/open", "/closed", "/other"):
        app.router.add_post(path, quick)
        app.router.add_post(f"/full{path}", full)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def ask(port: int, request: bytes, answers: int) -> list[tuple[str, dict[str, str], bytes]]:
    """Send bytes, and read so many answers; one more must not come."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        found = [await _answer(reader) for _ in range(answers)]
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    return found


async def _answer(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert abs(parsedate_to_datetime(headers.pop("Date")).timestamp()) > 1_600_000_000
    return status, headers, await reader.readexactly(int(headers["Content-Length"]))


@pytest.mark.parametrize("path", ["/open", "/closed", "/other"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("wish", ["", "Connection: close\r\n", "Connection: keep-alive\r\n"])
async def test_it_says_what_aiohttps_own_answer_says(
    port: int, path: str, version: str, wish: str
) -> None:
    rest = f" HTTP/{version}\r\nHost: x\r\nContent-Length: 0\r\n{wish}\r\n"
    [own] = await ask(port, f"POST {path}{rest}".encode(), 1)
    [theirs] = await ask(port, f"POST /full{path}{rest}".encode(), 1)
    assert own == theirs
    assert own[2] == BODY
    assert own[1]["traceparent"] == TRACE


async def test_a_connection_serves_several(port: int) -> None:
    request = b"POST /open HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    first, second, third = await ask(port, request * 3, 3)
    assert first == second == third
    assert first[0] == "HTTP/1.1 202 Accepted"
    assert "Connection" not in first[1]
