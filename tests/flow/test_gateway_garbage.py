"""Garbage of every kind sent to the gateway: the answer is never an error of ours."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway_desk import UPLOAD, GatewayDesk, limits_of, open_gateway

LIMITS = limits_of(idle_seconds=0.05, total_seconds=1.0, max_upload_bytes=20_000)

EXAMPLES = settings(
    max_examples=60,
    deadline=None,
    # One gateway serves all examples: they share nothing but what they uploaded.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

NAMES = st.sampled_from(
    [
        "Accept",
        "Content-Disposition",
        "Content-Encoding",
        "Content-Transfer-Encoding",
        "Content-Type",
        "Expect",
        "traceparent",
        "X-Any",
    ]
)
LATIN = st.binary(max_size=60).map(lambda raw: raw.translate(None, b"\r\n\0"))
VALUES = LATIN | st.sampled_from(
    [
        b"multipart/form-data; boundary=x",
        b'multipart/form-data; boundary="',
        b"multipart/form-data; boundary*=utf-8''%ff",
        b"gzip",
        b"deflate",
        b"identity",
        b"text/plain; charset=\xff",
        b"attachment; filename*=utf-8''%e2%82",
        b"form-data; name=file; name=file",
        b"100-continue",
    ]
)
FRAGMENTS = st.sampled_from(
    [
        b"--x\r\n",
        b"--x--\r\n",
        b"\r\n",
        b"\r\n--x",
        b'Content-Disposition: form-data; name="file"\r\n\r\n',
        b'Content-Disposition: form-data; name="force"\r\n\r\ntrue',
        b"Content-Disposition: form-data; name=max_pages\r\n\r\n\xd9\xa3",
        b"Content-Disposition: form-data; filename*=x''%zz; name*0=a\r\n\r\n",
        b"Content-Type: multipart/mixed\r\n",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
        b"%PDF-1.7",
    ]
)
BODIES = st.lists(FRAGMENTS | st.binary(max_size=200), max_size=8).map(b"".join)


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path, limits=LIMITS) as opened:
        yield opened


async def status_of(desk: GatewayDesk, request: bytes) -> int:
    """Send raw bytes and give the last status that is not 100; 0 when there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            status = 100
            while status == 100:
                line = await reader.readline()
                if line.startswith(b"HTTP/1."):
                    status = int(line[9:12])
                elif not line:
                    return 0
            return status
    finally:
        writer.close()


def request_of(
    desk: GatewayDesk, path: bytes, headers: list[tuple[str, bytes]], body: bytes
) -> bytes:
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n"
    head += f"Authorization: {desk.bearer()['Authorization']}\r\n".encode()
    for name, value in headers:
        head += name.encode() + b": " + value + b"\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@EXAMPLES
@given(headers=st.lists(st.tuples(NAMES, VALUES), max_size=4), body=BODIES)
async def test_headers_and_bodies(
    desk: GatewayDesk, headers: list[tuple[str, bytes]], body: bytes
) -> None:
    status = await status_of(desk, request_of(desk, UPLOAD.encode(), headers, body))
    assert 200 <= status < 500


@EXAMPLES
@given(body=BODIES)
async def test_forms(desk: GatewayDesk, body: bytes) -> None:
    headers = [("Content-Type", b"multipart/form-data; boundary=x")]
    status = await status_of(desk, request_of(desk, UPLOAD.encode(), headers, body))
    assert 200 <= status < 500


@EXAMPLES
@given(query=st.binary(max_size=40).map(lambda raw: raw.translate(None, b"\r\n\0 #")))
async def test_queries_and_paths(desk: GatewayDesk, query: bytes) -> None:
    for path in (
        UPLOAD.encode() + b"?" + query,
        b"/api/v1/jobs/" + query + b"/retry",
        b"/" + query,
    ):
        status = await status_of(desk, request_of(desk, path, [], b"text"))
        assert 200 <= status < 500


@EXAMPLES
@given(token=LATIN)
async def test_tokens(desk: GatewayDesk, token: bytes) -> None:
    for scheme in (b"Bearer ", b"Bearer pw_", b""):
        request = b"GET /api/v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: " + scheme + token
        assert await status_of(desk, request + b"\r\n\r\n") in (400, 401)
