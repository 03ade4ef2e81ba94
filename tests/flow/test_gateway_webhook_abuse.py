"""Webhooks abused: flipped bytes, any bytes at all, bodies without end, senders without number."""

import asyncio
import gzip
import io
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.gateway_bodies import in_chunks, refused
from tests.gateway_desk import limits_of
from tests.gateway_wire import open_wire
from tests.webhook_desk import (
    ENVELOPE,
    HOOK,
    WebhookDesk,
    open_webhooks,
    plain_signature,
    signature,
)

MIB = 1 << 20
BATCH = 100
BATCHES = 100

LATIN = st.binary(max_size=80).map(lambda raw: raw.translate(None, b"\r\n\0"))
NAMES = st.sampled_from(
    [
        b"Content-Type",
        b"Content-Encoding",
        b"Expect",
        b"LC-Signature",
        b"X-Webhook-Signature",
        b"X-Webhook-Event-ID",
        b"X-Webhook-Any",
        b"webhook-id",
        b"webhook-timestamp",
        b"webhook-signature",
        b"traceparent",
        b"User-Agent",
    ]
)
VALUES = LATIN | st.sampled_from(
    [
        b"application/json",
        b"application/json; charset=\xff",
        b"gzip",
        b"100-continue",
        b"sha256=",
        b"v1,",
        b"v1 v1,  v1,x",
        b"1_795_000_000",
        b"\xd9\xa3",
        b"9" * 5000,
        signature(b"")["LC-Signature"].encode(),
        signature(ENVELOPE)["LC-Signature"].encode(),
        plain_signature(ENVELOPE).encode(),
    ]
)
BODIES = st.binary(max_size=300) | st.sampled_from(
    [b"", ENVELOPE, b'"' + b"\\" * 99 + b'"', b"[" * 3000, b'"\\ud800"', b"\xff\xfe"]
)
SOURCES = st.sampled_from([b"llamaparse", b"artifacts", b"standard", b"health", b"nobody"])
PATHS = SOURCES | st.binary(max_size=20).map(lambda raw: raw.translate(None, b"\r\n\0 #?"))
FRAMINGS = st.sampled_from([b"length", b"chunks", b"chunks", b"broken chunks", b"short"])
REQUESTS = st.tuples(
    PATHS, st.lists(st.tuples(NAMES, VALUES), max_size=5), st.booleans(), BODIES, FRAMINGS
)


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[WebhookDesk]:
    limits = limits_of(idle_seconds=0.1, total_seconds=2.0)
    async with open_webhooks(tmp_path, limits=limits) as opened:
        yield opened


def raw_request(
    path: bytes, headers: list[tuple[bytes, bytes]], typed: bool, body: bytes, framing: bytes
) -> bytes:
    head = b"POST /api/v1/webhooks/" + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    if typed:
        head += b"Content-Type: application/json\r\n"
    for name, value in headers:
        head += name + b": " + value + b"\r\n"
    if framing == b"length":
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    if framing == b"short":
        return head + b"Content-Length: %d\r\n\r\n" % (len(body) + 1) + body
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    size = b"%x" % len(body) if framing == b"chunks" else b"zz"
    return head + (size + b"\r\n" + body + b"\r\n" if body else b"") + b"0\r\n\r\n"


async def test_senders_that_never_end_leave_room_for_others(tmp_path: Path) -> None:
    begun = b"POST " + HOOK.encode() + b" HTTP/1.1\r\nHost: x\r\n"
    begun += b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    async with open_webhooks(tmp_path) as desk, AsyncExitStack() as stack:
        for _ in range(256):
            _, writer = await asyncio.open_connection("127.0.0.1", desk.gateway.port)
            stack.callback(writer.close)
            writer.write(begun)
            await writer.drain()
        assert await desk.status_of(begun) == 429
        signed = [(b"LC-Signature", signature(ENVELOPE)["LC-Signature"].encode())]
        whole = raw_request(b"llamaparse", signed, True, ENVELOPE, b"length")
        assert await desk.status_of(whole) == 202


async def test_every_byte_flipped(tmp_path: Path) -> None:
    async with open_webhooks(tmp_path) as desk:
        requests = [(ENVELOPE, signature(ENVELOPE)["LC-Signature"].encode())]
        body, good = requests[0]
        flips = [
            *((flipped(body, at, mask), good) for at in range(len(body)) for mask in (1, 0x80)),
            *((body, flipped(good, at, mask)) for at in range(len(good)) for mask in (1, 0x20)),
        ]

        async def status(content: bytes, given: bytes) -> int:
            headers = [(b"LC-Signature", given)]
            return await desk.status_of(
                raw_request(b"llamaparse", headers, True, content, b"length")
            )

        for start in range(0, len(flips), BATCH):
            batch = flips[start : start + BATCH]
            statuses = await asyncio.gather(*(status(*flip) for flip in batch))
            # A signature with a control byte in it is no header at all.
            assert set(statuses) <= {401, 400}
        assert desk.records() == []
        assert await status(body, good) == 202


def flipped(content: bytes, at: int, mask: int) -> bytes:
    return bytes([*content[:at], content[at] ^ mask, *content[at + 1 :]])


@settings(
    max_examples=BATCHES,
    deadline=None,
    # A batch is not made smaller: the answer that is wrong names its request.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[
        # One gateway serves all examples: they share nothing but what it counts.
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)
@given(batch=st.lists(REQUESTS, min_size=BATCH, max_size=BATCH))
async def test_ten_thousand_requests_of_any_bytes(
    desk: WebhookDesk, batch: list[tuple[bytes, list[tuple[bytes, bytes]], bool, bytes, bytes]]
) -> None:
    requests = [raw_request(*request) for request in batch]
    statuses = await asyncio.gather(*(desk.status_of(request) for request in requests))
    broken = [pair for pair in zip(statuses, requests, strict=True) if not 200 <= pair[0] < 500]
    assert broken == []


async def test_a_chunked_body_of_a_gigabyte_is_cut(desk: WebhookDesk) -> None:
    sent = 0
    piece = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    async with open_wire(desk.gateway) as wire:
        await wire.send(
            f"POST {HOOK} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        answering = asyncio.create_task(wire.answer())
        tracemalloc.start()
        try:
            while sent < 1024 * MIB and not answering.done():
                await wire.send(piece)
                sent += 1 << 16
            status, problem = await answering
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (status, problem["code"]) == (413, "too_large")
    assert problem["max_webhook_bytes"] == 2_000_000
    assert sent < 64 * MIB
    assert peak < 16 * MIB


async def test_a_body_that_says_it_is_too_large_is_not_read(desk: WebhookDesk) -> None:
    async with open_wire(desk.gateway) as wire:
        await wire.send(
            f"POST {HOOK} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            "Content-Length: 1073741824\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        status, problem = await wire.answer()
    assert (status, problem["code"]) == (413, "too_large")


async def test_the_limit_to_the_byte(desk: WebhookDesk) -> None:
    for size, status in ((2_000_000, 202), (2_000_001, 413)):
        body = b"x" * size
        headers = signature(body) | {"Content-Type": "application/json"}
        for data in (io.BytesIO(body), in_chunks(body, 300_000)):
            answer = await desk.gateway.post(HOOK, tenant=None, data=data, headers=headers)
            assert answer.status == status


async def test_a_gzip_bomb_is_not_unpacked(desk: WebhookDesk) -> None:
    bomb = gzip.compress(bytes(64 * MIB))
    for headers in (signature(bomb), signature(bytes(64 * MIB))):
        answer = await desk.post(bomb, headers | {"Content-Encoding": "gzip"})
        refused(answer, 415, "unsupported_media_type")
    # Without the header it is a body like any other: its bytes, and no more, are what is kept.
    assert (await desk.deliver(bomb)).status == 202
    assert [record.value for record in desk.records()] == [bomb]


async def test_a_silent_sender_gets_408(desk: WebhookDesk) -> None:
    async with open_wire(desk.gateway) as wire:
        await wire.send(
            f"POST {HOOK} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            "Content-Length: 10\r\n\r\nx".encode()
        )
        status, problem = await wire.answer()
    assert (status, problem["code"]) == (408, "request_timeout")
