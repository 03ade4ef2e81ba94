"""The front: each connection meets it first; plain webhooks are served past aiohttp's server."""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from typing import cast

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser, RawRequestMessage

from services.gateway.ways import Way

_MOST_BYTES = 1 << 16
"""What a request may have that is served here, its head included."""

_REST_SECONDS = 0.1
"""How long a request's second piece may take: many clients send the head and the body apart."""

_IDLE_SECONDS = 3630.0
"""How long a connection may be silent between its requests: as long as aiohttp's may."""


class Front:
    """Makes the protocol of each connection.

    A connection is served here while it brings plain requests of the ways: a POST of HTTP/1.1
    with a Content-Length, whole in one piece or two, and nothing behind it in the same piece. With
    anything else it becomes aiohttp's for good, from the first byte of that request. Both read
    with aiohttp's parser, so they agree on what a request is.
    """

    def __init__(
        self,
        ways: Mapping[str, Way],
        usual: Callable[[], asyncio.Protocol],
        *,
        rest_seconds: float = _REST_SECONDS,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self.ways = ways
        self.lines = tuple(f"POST {path} HTTP/1.1\r\n".encode() for path in ways)
        """The request lines of what is served here."""
        self.usual = usual
        """Makes aiohttp's protocol of a connection."""
        self.rest_seconds = rest_seconds
        self.idle_seconds = idle_seconds
        # To ask for the running loop is a call of the system, each time (Python 3.11).
        self.loop = asyncio.get_running_loop()
        self.unhurried = BaseProtocol(self.loop)
        """Slows nothing down: no body that is read here is larger than its buffer."""
        self.closing = False
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()

    def __call__(self) -> "Connection":
        """Make the protocol of a new connection."""
        return Connection(self)

    def enter(self, connection: "Connection") -> None:
        """Hold a connection."""
        self._connections.add(connection)

    def leave(self, connection: "Connection") -> None:
        """Hold it no longer."""
        self._connections.discard(connection)
        if self.closing and not self._connections:
            self._empty.set()

    async def close(self, within_seconds: float) -> None:
        """Close all: at once, or once they are answered, or at last when the time is over."""
        self.closing = True
        for connection in list(self._connections):
            connection.close_unless_busy()
        if not self._connections:
            return
        try:
            await asyncio.wait_for(self._empty.wait(), within_seconds)
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()


class Connection(asyncio.Protocol):
    """A connection until it is closed, or aiohttp's; one request at a time."""

    def __init__(self, front: Front) -> None:
        self.remote: str | None = None
        """The sender's address."""
        self._front = front
        self._parser = HttpRequestParser(
            front.unhurried, front.loop, limit=_MOST_BYTES, auto_decompress=False
        )
        self._transport: asyncio.Transport | None = None
        self._read = b""
        """What has come of a request that is not whole yet."""
        self._message: RawRequestMessage | None = None
        self._body: StreamReader | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._busy = False
        self._last = False
        self._clogged = False
        """Whether the sender does not read its answers."""
        self._early = b""
        """What came before the last request was answered."""
        self._seen = time.monotonic()
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._front.enter(self)
        if self._front.closing:
            transport.close()
            return
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer = transport.get_extra_info("peername")
        self.remote = None if peer is None else str(peer[0])
        self._idle = self._front.loop.call_later(self._front.idle_seconds, self._look)

    def connection_lost(self, _error: Exception | None) -> None:
        """End."""
        self._leave()

    def pause_writing(self) -> None:
        """Take no more requests of a sender that does not read its answers."""
        self._clogged = True

    def resume_writing(self) -> None:
        """Take them again."""
        self._clogged = False
        self._front.loop.call_soon(self._go_on)

    def data_received(self, data: bytes) -> None:
        """Read a piece."""
        if self._busy or self._clogged or self._early:
            self._early += data
            if self._transport is not None:
                self._transport.pause_reading()
            return
        first = not self._read
        self._read += data
        if not self._is_plain(data):
            self._hand_over()
        elif self._message is not None and self._body is not None and self._body.is_eof():
            self._serve(self._message, self._body)
        elif first:
            self._rest = self._front.loop.call_later(self._front.rest_seconds, self._hand_over)
        else:
            self._hand_over()

    def answer(self, content: bytes) -> None:
        """Answer the request that was taken; without a content its connection is just closed."""
        self._busy = False
        transport = self._transport
        if transport is None:
            return
        transport.write(content)
        if self._last or not content or self._front.closing:
            transport.close()
        elif self._early:
            # Not at once: who answers is not to learn what the next request breaks.
            self._front.loop.call_soon(self._go_on)

    def close_unless_busy(self) -> None:
        """Close it where no request waits for its answer."""
        if self._transport is not None and not self._busy:
            self._transport.close()

    def abort(self) -> None:
        """Close it at once; what was written and is not sent is lost."""
        if self._transport is not None:
            self._transport.abort()

    def _is_plain(self, data: bytes) -> bool:
        """Read on; tell whether all that has come is of one plain request."""
        front = self._front
        if len(self._read) > _MOST_BYTES or not self._read.startswith(front.lines):
            return False
        try:
            found, _, _ = self._parser.feed_data(data)
        except HttpProcessingError:
            # aiohttp reads it again, and says what is wrong.
            return False
        if not found:
            return True
        if len(found) > 1 or self._message is not None:
            return False
        ((message, self._body),) = found
        self._message = message
        return not (message.chunked or message.upgrade or "Expect" in message.headers)

    def _serve(self, message: RawRequestMessage, body: StreamReader) -> None:
        way = self._front.ways[message.path]
        content = body.read_nowait()
        whole = self._read.find(b"\r\n\r\n") + 4 + len(content) == len(self._read)
        # The parser may have begun to read another request behind this one.
        if not whole or len(content) > way.most_bytes:
            self._hand_over()
            return
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._read, self._message, self._body = b"", None, None
        self._busy, self._last = True, message.should_close
        self._seen = time.monotonic()
        way.take(self, message, content)

    def _go_on(self) -> None:
        """Take what came early, once it is its turn."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._busy or self._clogged:
            return
        early, self._early = self._early, b""
        if early:
            transport.resume_reading()
            self.data_received(early)

    def _hand_over(self) -> None:
        """Let aiohttp have the connection, as if it had just been made."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._leave()
        usual = self._front.usual()
        usual.connection_made(transport)
        transport.set_protocol(usual)
        usual.data_received(self._read)

    def _leave(self) -> None:
        self._transport = None
        for timer in (self._rest, self._idle):
            if timer is not None:
                timer.cancel()
        self._front.leave(self)

    def _look(self) -> None:
        """Close it where it was silent for too long; look again where it was not."""
        front = self._front
        silent = 0.0 if self._busy else time.monotonic() - self._seen
        left = front.idle_seconds - silent
        if left <= 0:
            self.abort()
        else:
            self._idle = front.loop.call_later(left, self._look)
