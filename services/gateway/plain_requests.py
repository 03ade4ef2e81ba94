"""Plain requests: what the front may serve, read with aiohttp's parser."""

import asyncio
from collections.abc import Mapping

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser, RawRequestMessage

from services.gateway.ways import Way

_MOST_BYTES = 1 << 16
"""What a request may have, its head included."""

_LENGTH_DIGITS = len(str(_MOST_BYTES))

_BUFFER_BYTES = 16 * _MOST_BYTES
"""A buffer that never asks the sender for a rest: aiohttp's does so at twice as many bytes, or at a
chunk for each 16 of them."""


class NotPlainError(Exception):
    """What has come is for aiohttp to judge."""


class PlainRequests:
    """Makes a reader for each connection."""

    def __init__(self, ways: Mapping[str, Way], loop: asyncio.AbstractEventLoop) -> None:
        self._ways = ways
        self._lines = tuple(f"POST {path} HTTP/1.1\r\n".encode() for path in ways)
        self._loop = loop
        self._never_asked = BaseProtocol(loop)

    def reader(self) -> "Reader":
        """Make a reader."""
        parser = HttpRequestParser(
            self._never_asked, self._loop, limit=_BUFFER_BYTES, auto_decompress=False
        )
        return Reader(self._ways, self._lines, parser)


class Reader:
    """Reads the requests of a connection one after the other.

    A plain one is a POST of HTTP/1.1 to exactly a way's path that is not chunked; it comes in one
    piece or two, and with nothing behind it.
    """

    def __init__(
        self, ways: Mapping[str, Way], lines: tuple[bytes, ...], parser: HttpRequestParser
    ) -> None:
        self.pieces: list[bytes] = []
        """What has come of a request that is not whole yet, or not plain."""
        self._size = 0
        self._ways = ways
        self._lines = lines
        self._parser = parser
        self._message: RawRequestMessage | None = None
        self._body: StreamReader | None = None

    def read(self, data: bytes) -> tuple[Way, RawRequestMessage, bytes] | None:
        """Give the request, its body read, or None where a second piece is to come.

        Raise NotPlainError where it is not plain; this reader reads no further then.
        """
        self.pieces.append(data)
        self._size += len(data)
        if self._size > _MOST_BYTES or not self.pieces[0].startswith(self._lines):
            raise NotPlainError
        self._parse(data)
        message, body = self._message, self._body
        if message is None or body is None or not body.is_eof():
            if len(self.pieces) > 1:
                raise NotPlainError
            return None
        way, content = self._ways[message.path], body.read_nowait()
        head_bytes = b"".join(self.pieces).find(b"\r\n\r\n") + 4
        # Neither the frames of chunks nor the beginning of another request.
        if head_bytes + len(content) != self._size or len(content) > way.most_bytes:
            raise NotPlainError
        self.pieces, self._size = [], 0
        self._message = self._body = None
        return way, message, content

    def _parse(self, data: bytes) -> None:
        try:
            found, _, _ = self._parser.feed_data(data)
        except HttpProcessingError:
            # aiohttp reads it again, and says what is wrong.
            raise NotPlainError from None
        if not found:
            return
        if len(found) > 1 or self._message is not None:
            raise NotPlainError
        ((message, self._body),) = found
        # The parser takes the length 2^64 - 1 for none.
        digits = len(message.headers.get("Content-Length", ""))
        if message.upgrade or "Expect" in message.headers or digits > _LENGTH_DIGITS:
            raise NotPlainError
        self._message = message
