"""Senders that are slow, silent, gone or too many, byte by byte on a real connection."""

import asyncio
from pathlib import Path

import pytest

from tests.gateway_desk import limits_of, open_gateway
from tests.gateway_wire import WatchedBlobs, head_of, open_wire

FORM_START = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    + b"text " * 400_000
)


class TestSenders:
    @pytest.mark.parametrize(
        ("headers", "start"),
        [
            (("Content-Length: 100", "Content-Type: text/plain"), b""),
            (("Content-Length: 100", "Content-Type: text/plain"), b"some"),
            (("Transfer-Encoding: chunked", "Content-Type: text/plain"), b"4\r\nsome\r\n"),
            (
                ("Content-Length: 9000000", "Content-Type: multipart/form-data; boundary=x"),
                FORM_START,
            ),
            (("Content-Length: 100", "Content-Encoding: gzip"), b"\x1f\x8b\x08"),
        ],
    )
    async def test_a_silent_one_is_told(
        self, tmp_path: Path, headers: tuple[str, ...], start: bytes
    ) -> None:
        limits = limits_of(idle_seconds=0.05, max_upload_bytes=10_000_000)
        async with open_gateway(tmp_path, limits=limits) as desk, open_wire(desk) as wire:
            await wire.send(head_of(desk, *headers) + start)
            status, problem = await wire.answer()
            assert (status, problem["code"]) == (408, "request_timeout")
            assert desk.files() == []
            assert desk.metric("parsewire_uploads_total", outcome="request_timeout") == 1

    async def test_a_body_lasts_so_long_and_no_longer(self, tmp_path: Path) -> None:
        limits = limits_of(total_seconds=0.2)
        async with open_gateway(tmp_path, limits=limits) as desk, open_wire(desk) as wire:
            await wire.send(head_of(desk, "Transfer-Encoding: chunked", "Content-Type: text/plain"))
            answered = asyncio.create_task(wire.answer())
            while not answered.done():
                await wire.send(b"1\r\nx\r\n")
                await asyncio.wait({answered}, timeout=0.01)
            status, problem = await answered
            assert (status, problem["code"]) == (408, "request_timeout")
            assert desk.files() == []

    @pytest.mark.parametrize(
        ("headers", "start"),
        [
            (("Content-Length: 9000000", "Content-Type: text/plain"), b"text " * 400_000),
            (
                ("Content-Length: 9000000", "Content-Type: multipart/form-data; boundary=x"),
                FORM_START,
            ),
            (("Transfer-Encoding: chunked", "Content-Type: text/plain"), b"4\r\nsome\r\n"),
        ],
    )
    async def test_one_that_goes_leaves_nothing(
        self, tmp_path: Path, headers: tuple[str, ...], start: bytes
    ) -> None:
        blobs = WatchedBlobs(tmp_path / "blobs")
        limits = limits_of(max_upload_bytes=10_000_000)
        async with open_gateway(tmp_path, limits=limits, blobs=blobs) as desk:
            async with open_wire(desk) as wire:
                await wire.send(head_of(desk, *headers) + start)
                await asyncio.wait_for(blobs.begun.wait(), 10)
            await asyncio.wait_for(desk.until_idle(), 10)
            assert desk.files() == []
            assert desk.said() == []
            assert desk.metric("parsewire_uploads_total", outcome="disconnected") == 1
            assert (await desk.upload()).status == 202

    async def test_a_body_that_is_said_to_be_too_large_is_not_asked_for(
        self, tmp_path: Path
    ) -> None:
        async with open_gateway(tmp_path) as desk, open_wire(desk) as wire:
            await wire.send(head_of(desk, "Content-Length: 5000000", "Expect: 100-continue"))
            status, problem = await wire.answer()
            assert (status, problem["code"]) == (413, "too_large")

    async def test_a_body_that_may_come_is_asked_for(self, tmp_path: Path) -> None:
        async with open_gateway(tmp_path) as desk, open_wire(desk) as wire:
            kind = "Content-Type: text/plain"
            await wire.send(head_of(desk, "Content-Length: 4", "Expect: 100-continue", kind))
            assert await wire.line() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await wire.send(b"text")
            assert (await wire.answer())[0] == 202

    async def test_a_connection_serves_on_after_a_refusal_of_a_whole_body(
        self, tmp_path: Path
    ) -> None:
        async with open_gateway(tmp_path) as desk, open_wire(desk) as wire:
            for _ in range(3):
                await wire.send(head_of(desk, "Content-Length: 4") + b"\x00\x01\x02\x03")
                assert (await wire.answer())[0] == 415
            await wire.send(head_of(desk, "Content-Length: 4", "Content-Type: text/csv") + b"a,b\n")
            assert (await wire.answer())[0] == 202

    async def test_broken_chunks_are_no_document(self, tmp_path: Path) -> None:
        limits = limits_of(idle_seconds=0.2)
        async with open_gateway(tmp_path, limits=limits) as desk, open_wire(desk) as wire:
            await wire.send(head_of(desk, "Transfer-Encoding: chunked", "Content-Type: text/plain"))
            await wire.send(b"4\r\nsome\r\nnonsense\r\n")
            # aiohttp itself answers when the nonsense comes along with the head.
            assert (await wire.line()).split(b" ")[1] in (b"400", b"408")
            assert desk.files() == []

    async def test_there_are_so_many_places_and_no_more(self, tmp_path: Path) -> None:
        blobs = WatchedBlobs(tmp_path / "blobs")
        limits = limits_of(uploads_at_once=1)
        async with (
            open_gateway(tmp_path, limits=limits, blobs=blobs) as desk,
            open_wire(desk) as wire,
        ):
            await wire.send(head_of(desk, "Content-Length: 4", "Content-Type: text/plain"))
            await asyncio.wait_for(blobs.begun.wait(), 10)
            refused = await desk.upload(b"x" * 300_000)
            assert (refused.status, refused.json["code"]) == (503, "overloaded")
            assert refused.headers["Retry-After"] == "1"
            await wire.send(b"text")
            assert (await wire.answer())[0] == 202
            assert (await desk.upload()).status == 202
