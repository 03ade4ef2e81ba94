"""A request's body: unpacked, counted and timed, one bounded chunk after the other."""

import asyncio
import time

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from schemas.errors import Code
from services.gateway.inflate import Inflater, inflater_for
from services.gateway.parts import Limits
from services.gateway.problems import DisconnectedError, RefusedError
from streams.admission_rules import too_large_text
from streams.content_length import content_length

CHUNK_BYTES = 1 << 18

_FRAMING_BYTES = 1 << 16
"""What a form may have beside its document: boundaries, headers, option fields."""

_LONGEST_LINE = 1 << 13


class Body:
    """Reads a body by chunks or lines, and no faster than it is taken.

    Raise RefusedError: 413, 408, 400 and 415 for what the sender did; DisconnectedError.
    """

    def __init__(self, request: web.Request, limits: Limits) -> None:
        self._request = request
        self._source = request.content
        self._limits = limits
        self._most = limits.max_upload_bytes + _FRAMING_BYTES
        self._inflater: Inflater | None = inflater_for(request.headers.get("Content-Encoding"))
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + limits.total_seconds
        self._held = b""
        self._ended = False
        self._received = 0
        self._unpacked = 0
        self.waited_seconds = 0.0
        """How long the sender let us wait."""

    async def begin(self) -> None:
        """Refuse a body that is said to be too large, and let the sender send any other."""
        length = content_length(self._request.headers)
        if length is not None and length > self._most:
            raise too_large(self._limits)
        expected = self._request.headers.get("Expect")
        if expected is None or self._request.version < (1, 1):
            return
        if expected.lower() != "100-continue":
            raise RefusedError(
                Code.INVALID_REQUEST, "Expect may say 100-continue and nothing else", status=417
            )
        await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # aiohttp takes what was written for the head of an answer.
        self._request.writer.output_size = 0

    async def read(self) -> bytes:
        """Give the next bytes; empty at the end."""
        held, self._held = self._held, b""
        return held or await self._next()

    async def readline(self) -> bytes:
        """Give the bytes up to the next line feed, with it; what is left at the end."""
        line = self._held
        while (end := line.find(b"\n") + 1) == 0:
            if len(line) > _LONGEST_LINE:
                raise RefusedError(Code.INVALID_REQUEST, "a line of the form is too long")
            chunk = await self._next()
            if not chunk:
                end = len(line)
                break
            line += chunk
        self._held = line[end:]
        return line[:end]

    def unread(self, data: bytes) -> None:
        """Put back what was read last."""
        self._held = data + self._held

    def at_eof(self) -> bool:
        """Tell whether everything was read."""
        return self._ended and not self._held

    async def drain(self) -> None:
        """Read to the end, so that its coding is checked and the connection can be used again."""
        while await self.read():
            pass

    async def _next(self) -> bytes:
        chunk = await self._unpack() if self._inflater else await self._receive()
        self._ended = not chunk or (self._inflater is None and self._source.at_eof())
        self._unpacked += len(chunk)
        if self._unpacked > self._most:
            raise too_large(self._limits)
        return chunk

    async def _unpack(self) -> bytes:
        inflater = self._inflater
        if inflater is None:
            raise RuntimeError("only a packed body is unpacked")
        while True:
            if inflater.hungry:
                packed = await self._receive()
                if not packed:
                    inflater.finish()
                    return b""
                inflater.feed(packed)
            if content := inflater.step():
                return content

    async def _receive(self) -> bytes:
        try:
            chunk = self._source.read_nowait(CHUNK_BYTES)
            if not chunk and not self._source.at_eof():
                chunk = await self._wait()
        except TimeoutError:
            raise _too_slow(self._limits) from None
        except (web.RequestPayloadError, HttpProcessingError):
            raise RefusedError(Code.INVALID_REQUEST, "the body's framing is broken") from None
        except (OSError, RuntimeError) as error:
            # aiohttp says RuntimeError when the connection went before the first read.
            if isinstance(error, RuntimeError) and self._request.transport is not None:
                raise
            raise DisconnectedError from error
        self._received += len(chunk)
        if self._received > self._most:
            raise too_large(self._limits)
        return chunk

    async def _wait(self) -> bytes:
        """Wait for the sender: a timer is made only for a chunk that is not there yet."""
        started = time.perf_counter()
        deadline = min(self._loop.time() + self._limits.idle_seconds, self._ends)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._source.read(CHUNK_BYTES)
        finally:
            self.waited_seconds += time.perf_counter() - started


def too_large(limits: Limits) -> RefusedError:
    """Refuse a document beyond the limit."""
    return RefusedError(
        Code.TOO_LARGE,
        too_large_text(limits.max_upload_bytes),
        members={"max_upload_bytes": limits.max_upload_bytes},
    )


def _too_slow(limits: Limits) -> RefusedError:
    return RefusedError(
        Code.REQUEST_TIMEOUT,
        f"a sender may be silent for {limits.idle_seconds:g} s within a body, "
        f"and a body may last {limits.total_seconds:g} s",
    )
