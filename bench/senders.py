"""Senders of a load generator: many connections, each with one request under way at a time.

They are cheap, so that the server is what is measured: an answer is read by its status and its
Content-Length alone.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import orjson
import uvloop

from bench.figures import percentile

Order = TypeVar("Order")


@dataclass(slots=True)
class Tally:
    """What the answers were, and how long they took."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    broken: int = 0


class Sender(asyncio.Protocol):
    """One connection: sends a request, waits for its answer, sends the next."""

    def __init__(self, requests: Iterator[bytes], tally: Tally, ends: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._tally = tally
        self._ends = ends
        self._held = b""
        self._sent_at = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer; after its last byte, go on."""
        self._held += data
        head, separator, body = self._held.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        self._held = b""
        self._tally.seconds.append(time.perf_counter() - self._sent_at)
        self._tally.statuses[int(head[9:12])] += 1
        self._next()

    def connection_lost(self, _error: Exception | None) -> None:
        """End; an answer that was owed is counted as broken."""
        if not self.done.done():
            self._tally.broken += 1
            self.done.set_result(None)

    def _next(self) -> None:
        request = next(self._requests, None) if time.perf_counter() < self._ends else None
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


async def send_all(
    senders: Sequence[Sender], tally: Tally, port: int, *, started: float, within_seconds: float
) -> dict[str, Any]:
    """Connect the senders and wait until each has sent its last; tell what came of it."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(within_seconds):
        for sender in senders:
            await loop.create_connection(lambda s=sender: s, "127.0.0.1", port)  # type: ignore[misc]  # bound now
        await asyncio.gather(*(sender.done for sender in senders))
    return {
        "seconds": time.perf_counter() - started,
        "requests": len(tally.seconds),
        "statuses": {str(status): count for status, count in tally.statuses.items()},
        "broken": tally.broken,
        "p50_seconds": percentile(tally.seconds, 50) if tally.seconds else 0.0,
        "p99_seconds": percentile(tally.seconds, 99) if tally.seconds else 0.0,
    }


def serve(order: type[Order], send: Callable[[Order], Awaitable[dict[str, Any]]]) -> None:
    """Carry out orders, a line of JSON each, until stdin ends; answer each with another."""

    async def sent(line: bytes) -> dict[str, Any]:
        return await send(msgspec.convert(orjson.loads(line), order))

    while line := sys.stdin.buffer.readline():
        sys.stdout.buffer.write(orjson.dumps(uvloop.run(sent(line))) + b"\n")
        sys.stdout.buffer.flush()


def _content_length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0])
