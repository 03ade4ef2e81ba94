"""Raw answers: whole HTTP/1.1 answers as bytes, with the headers that aiohttp would give them."""

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE


def accepted(content: bytes, traceparent: str, *, last: bool) -> bytes:
    """Answer 202 with JSON; `last` tells the sender that its connection is closed."""
    head = _accepted(int(time.time()), last=last)
    own = f"Content-Length: {len(content)}\r\ntraceparent: {traceparent}\r\n\r\n".encode()
    return head + own + content


def written(response: web.Response, traceparent: str, *, last: bool) -> bytes:
    """Write a response that no connection has seen, and that has its body as bytes."""
    content = response.body or b""
    if not isinstance(content, bytes):
        raise TypeError("the body is no bytes")
    headers = {
        **response.headers,
        **_common(int(time.time()), last=last),
        "Content-Length": str(len(content)),
        "traceparent": traceparent,
    }
    return _head(response.status, headers) + b"\r\n" + content


@lru_cache(8)
def _accepted(unix_seconds: int, *, last: bool) -> bytes:
    """Write the part of the head that is the same for all answers of a second."""
    return _head(202, {"Content-Type": "application/json", **_common(unix_seconds, last=last)})


def _common(unix_seconds: int, *, last: bool) -> dict[str, str]:
    headers = {"Date": formatdate(unix_seconds, usegmt=True), "Server": SERVER_SOFTWARE}
    return headers | {"Connection": "close"} if last else headers


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}".encode()
