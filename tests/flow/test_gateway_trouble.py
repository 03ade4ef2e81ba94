"""Trouble at the gateway: slow and vanishing senders, too many of them, what we need being away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from schemas.errors import Code, TransientError
from schemas.events import BlobRef
from streams.blobs.base import BlobWriter
from streams.blobs.disk import DiskBlobs
from streams.tables.base import OnCommit, T, Unit
from tests.gateway_desk import UPLOAD, GatewayDesk, limits_of, open_gateway

AWAY = TransientError(Code.STORAGE_UNAVAILABLE, "the disk at /secret/path said no")


class WatchedBlobs(DiskBlobs):
    """A disk store that tells when a writer was left, and can refuse."""

    def __init__(self, root: Path, *, refuse: str = "") -> None:
        super().__init__(root)
        self.refuse = refuse
        self.begun = asyncio.Event()
        self.left = asyncio.Event()

    def open_writer(  # type: ignore[override] # the seam asks for any writer, not for the disk's
        self, key: str
    ) -> AbstractAsyncContextManager[BlobWriter]:
        return self._watched(key)

    async def check(self) -> None:
        raise AWAY

    @asynccontextmanager
    async def _watched(self, key: str) -> AsyncIterator[BlobWriter]:
        async with super().open_writer(key) as writer:
            self.begun.set()
            yield RefusingWriter(writer) if self.refuse else writer
        self.left.set()


class RefusingWriter:
    """A writer whose disk is full once everything was written."""

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer

    async def write(self, chunk: bytes) -> None:
        await self._writer.write(chunk)

    async def keep(self) -> BlobRef:
        await self._writer.keep()
        raise AWAY


class AwayTables:
    """Tables that cannot be written; `broken` by a defect, else by an outage."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def write(self, unit: Unit[T]) -> T:  # noqa: ARG002 - the seam's own name
        raise self._error

    async def read(self, unit: Unit[T]) -> T:  # noqa: ARG002 - the seam's own name
        raise self._error

    def on_commit(self, listener: OnCommit) -> None:
        raise NotImplementedError


class Wire:
    """A connection over which a test says each byte itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def line(self) -> bytes:
        return await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Read an answer that has a Content-Length: its status and its JSON."""
        head = (await self.line()).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        body = await asyncio.wait_for(self._reader.readexactly(length), 10)
        return int(head.split(" ", 2)[1]), orjson.loads(body)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def open_wire(desk: GatewayDesk) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
    wire = Wire(reader, writer)
    try:
        yield wire
    finally:
        await wire.close()


def head_of(desk: GatewayDesk, *headers: str) -> bytes:
    lines = [
        "POST /api/v1/upload HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {desk.tokens['acme']}",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


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


class TestOurs:
    async def test_a_store_that_fails_at_the_end(self, tmp_path: Path) -> None:
        blobs = WatchedBlobs(tmp_path / "blobs", refuse="keep")
        async with open_gateway(tmp_path, blobs=blobs) as desk:
            with capture_logs() as logs:
                answer = await desk.upload()
            assert (answer.status, answer.json["code"]) == (503, "storage_unavailable")
            assert answer.headers["Retry-After"] == "5"
            assert b"secret" not in answer.content
            (line,) = [line for line in logs if line["event"] == "request_refused"]
            assert line["support_id"] == answer.json["support_id"]
            assert line["reason"] == AWAY.message
            assert desk.files() == []
            assert desk.said() == []

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (TransientError(Code.TABLES_UNAVAILABLE, "SQLite: secret"), 503, "tables_unavailable"),
            (RuntimeError("secret"), 500, "internal_error"),
        ],
    )
    async def test_tables_that_are_away(
        self, tmp_path: Path, error: Exception, status: int, code: str
    ) -> None:
        async with open_gateway(tmp_path, tables=AwayTables(error)) as desk:
            for answer in (await desk.upload(), await desk.get("/api/v1/jobs")):
                assert (answer.status, answer.json["code"]) == (status, code)
                assert ("Retry-After" in answer.headers) == (status == 503)
                assert b"secret" not in answer.content
            assert desk.files() == []

    async def test_ready_tells_each_check_apart(self, tmp_path: Path) -> None:
        blobs = WatchedBlobs(tmp_path / "blobs")
        never = asyncio.Event()

        async def silent() -> None:
            await never.wait()

        async def well() -> None:
            return

        checks = {"bus": silent, "tables": well, "blobs": blobs.check}
        async with open_gateway(tmp_path, checks=checks, check_seconds=0.05) as desk:
            answer = await desk.get("/ready", tenant=None)
            assert answer.status == 503
            assert answer.json["ready"] is False
            found = {name: (c["state"], c["code"]) for name, c in answer.json["checks"].items()}
            assert found == {
                "bus": ("failed", "timeout"),
                "tables": ("ok", None),
                "blobs": ("failed", "storage_unavailable"),
            }
            assert all(check["latency_seconds"] >= 0 for check in answer.json["checks"].values())
            assert b"secret" not in answer.content
            assert (await desk.get("/health", tenant=None)).status == 200
        async with open_gateway(tmp_path / "2", checks={"tables": well}) as desk:
            answer = await desk.get("/ready", tenant=None)
            assert (answer.status, answer.json["ready"]) == (200, True)


class TestMeasures:
    async def test_what_is_not_http_leaves_no_key_in_the_log(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with open_gateway(tmp_path) as desk, open_wire(desk) as wire:
            head = head_of(desk, "X-Broken: \x01")
            await wire.send(head)
            assert (await wire.line()).split(b" ")[1] == b"400"
        assert "not HTTP, answered 400" in caplog.text
        assert "pw_" not in caplog.text
        assert "Broken" not in caplog.text

    async def test_routes_are_labelled_by_their_pattern(self, tmp_path: Path) -> None:
        async with open_gateway(tmp_path) as desk:
            job_id = (await desk.upload()).json["job_id"]
            await desk.get(f"/api/v1/jobs/{job_id}")
            await desk.get("/api/v1/jobs/nothing")
            await desk.get("/secret")
            await desk.ask("PROPFIND", "/secret")
            exposed = (await desk.get("/metrics", tenant=None)).content.decode()
            for labels, count in (
                (("POST", UPLOAD, "202"), 1),
                (("GET", "/api/v1/jobs/{job_id}", "200"), 1),
                (("GET", "/api/v1/jobs/{job_id}", "404"), 1),
                (("GET", "unmatched", "404"), 1),
                (("other", "unmatched", "404"), 1),
            ):
                method, route, status = labels
                found = desk.metric(
                    "parsewire_http_requests_total", method=method, route=route, status=status
                )
                assert found == count, labels
            assert "parsewire_http_requests_in_progress 1.0" in exposed
            assert job_id not in exposed
            assert "secret" not in exposed

    async def test_log_lines_have_the_trace(self, tmp_path: Path) -> None:
        trace = "00-" + "e" * 32 + "-" + "f" * 16 + "-01"
        async with open_gateway(tmp_path) as desk:
            answer = await desk.get("/nothing", headers={"traceparent": trace})
            assert answer.headers["traceparent"].startswith("00-" + "e" * 32)
            fresh = await desk.get("/nothing", headers={"traceparent": "garbage"})
            assert fresh.headers["traceparent"].startswith("00-")
            assert "garbage" not in fresh.headers["traceparent"]
