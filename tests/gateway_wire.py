"""A gateway's surroundings that a test holds in its hand: a raw connection, a watched store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from schemas.errors import Code, TransientError
from schemas.events import BlobRef
from streams.blobs.base import BlobWriter
from streams.blobs.disk import DiskBlobs
from tests.gateway_desk import GatewayDesk

AWAY = TransientError(Code.STORAGE_UNAVAILABLE, "the disk at /secret/path said no")


class WatchedBlobs(DiskBlobs):
    """A disk store that tells when a writer was left, and can refuse."""

    def __init__(self, root: Path, *, refuse: bool = False) -> None:
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
            given: BlobWriter = RefusingWriter(writer) if self.refuse else writer
            yield given
        self.left.set()


class RefusingWriter:
    """A writer whose disk is full once everything was written."""

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer
        self.hash_seconds = 0.0

    async def write(self, chunk: bytes) -> None:
        await self._writer.write(chunk)

    async def keep(self) -> BlobRef:
        await self._writer.keep()
        raise AWAY


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

    async def rest(self) -> bytes:
        """Read until the other side closes."""
        return await asyncio.wait_for(self._reader.read(), 10)

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
