"""A load generator: uploads over many connections, in a process of its own, bounded.

It is cheap, so that the server is what is measured: the forms are made before the clock runs, and
an answer is read by its status and its Content-Length alone.

    python -m bench.load < order, an empty line to go, the answer as one line of JSON
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import orjson
import uvloop

from bench.figures import percentile
from bench.stamps import stamped_copy

_BOUNDARY = b"bench-boundary-7f3c1a"
_LONGEST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to send, and for how long."""

    port: int
    path: str
    token: str
    document: str
    stamp: str
    """Makes the run's documents its own."""
    connections: int
    uploads: int
    """The most that are sent."""
    seconds: float
    """No upload begins after so long."""
    pad_to_bytes: int = 0


@dataclass(slots=True)
class Tally:
    """What the answers were, and how long they took."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    broken: int = 0


class Sender(asyncio.Protocol):
    """One connection: sends a form, waits for its answer, sends the next."""

    def __init__(self, forms: Iterator[bytes], tally: Tally, ends: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._forms = forms
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
        form = next(self._forms, None) if time.perf_counter() < self._ends else None
        if form is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(form)


def _content_length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0])


def forms(order: Order) -> Iterator[bytes]:
    """Make whole requests, each with a document of its own bytes."""
    document = Path(order.document).read_bytes()
    before = (
        b'--%s\r\nContent-Disposition: form-data; name="file"; filename="bench.pdf"\r\n'
        b"Content-Type: application/pdf\r\n\r\n" % _BOUNDARY
    )
    after = b"\r\n--%s--\r\n" % _BOUNDARY
    size = len(stamped_copy(document, order.stamp, 0, order.pad_to_bytes))
    head = (
        f"POST {order.path} HTTP/1.1\r\nHost: 127.0.0.1:{order.port}\r\n"
        f"Authorization: Bearer {order.token}\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\n"
        f"Content-Length: {len(before) + size + len(after)}\r\n\r\n"
    ).encode()
    for number in range(order.uploads):
        content = stamped_copy(document, order.stamp, number, order.pad_to_bytes)
        yield head + before + content + after


async def send(order: Order) -> dict[str, Any]:
    """Send until there is nothing left or the time is over, and tell what came of it."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    supply = forms(order)
    started = time.perf_counter()
    senders = [Sender(supply, tally, started + order.seconds) for _ in range(order.connections)]
    async with asyncio.timeout(order.seconds + _LONGEST_SECONDS):
        for sender in senders:
            await loop.create_connection(lambda s=sender: s, "127.0.0.1", order.port)  # type: ignore[misc]  # bound now
        await asyncio.gather(*(sender.done for sender in senders))
    return {
        "seconds": time.perf_counter() - started,
        "uploads": len(tally.seconds),
        "statuses": {str(status): count for status, count in tally.statuses.items()},
        "broken": tally.broken,
        "p50_seconds": percentile(tally.seconds, 50) if tally.seconds else 0.0,
        "p99_seconds": percentile(tally.seconds, 99) if tally.seconds else 0.0,
    }


def main() -> None:
    """Serve orders until stdin ends."""
    while line := sys.stdin.buffer.readline():
        answer = uvloop.run(send(msgspec.convert(orjson.loads(line), Order)))
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
