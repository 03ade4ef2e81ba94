"""The front: each connection meets it first; plain webhooks are served past aiohttp's server."""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from typing import cast

from services.gateway.plain_requests import NotPlainError, PlainRequests
from services.gateway.ways import Way

_REST_SECONDS = 0.1
"""How long a request's second piece may take: many clients send the head and the body apart."""

_IDLE_SECONDS = 3630.0
"""How long a connection may be silent between its requests: as long as aiohttp's may."""


class Front:
    """Makes the protocol of each connection.

    A connection is served here while it brings plain requests. With the first that is anything else
    it becomes aiohttp's for good, from that request's first byte; aiohttp's parser reads here too,
    so both agree on what a request is.
    """

    def __init__(
        self,
        ways: Mapping[str, Way],
        usual: Callable[[], asyncio.Protocol],
        *,
        rest_seconds: float = _REST_SECONDS,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self.usual = usual
        """Makes aiohttp's protocol of a connection."""
        self.rest_seconds = rest_seconds
        self.idle_seconds = idle_seconds
        # To ask for the running loop is a call of the system, each time (Python 3.11).
        self.loop = asyncio.get_running_loop()
        self.requests = PlainRequests(ways, self.loop)
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
        self._reader = front.requests.reader()
        self._transport: asyncio.Transport | None = None
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
        try:
            request = self._reader.read(data)
        except NotPlainError:
            self._hand_over()
            return
        if request is None:
            self._rest = self._front.loop.call_later(self._front.rest_seconds, self._hand_over)
            return
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        way, message, content = request
        self._busy, self._last = True, message.should_close
        self._seen = time.monotonic()
        way.take(self, message, content)

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

    def _go_on(self) -> None:
        """Take what came early; where it is not its turn yet it is early again."""
        transport, early = self._transport, self._early
        if transport is None or transport.is_closing() or not early:
            return
        self._early = b""
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
        # As they came: what breaks one piece takes along what is whole in it, and no more.
        for piece in self._reader.pieces:
            usual.data_received(piece)

    def _leave(self) -> None:
        self._transport = None
        for timer in (self._rest, self._idle):
            if timer is not None:
                timer.cancel()
        self._front.leave(self)

    def _look(self) -> None:
        """Close it where nothing has happened for too long; look again where something has."""
        front = self._front
        left = self._seen + front.idle_seconds - time.monotonic()
        if left <= 0:
            self.abort()
        else:
            self._idle = front.loop.call_later(left, self._look)
