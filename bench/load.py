"""A load of uploads: documents in forms over many connections, in a process of its own, bounded.

python -m bench.load < order, a line of JSON; the answer is another
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.senders import Sender, Tally, send_all, serve
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
    tally = Tally()
    supply = forms(order)
    started = time.perf_counter()
    senders = [Sender(supply, tally, started + order.seconds) for _ in range(order.connections)]
    within_seconds = order.seconds + _LONGEST_SECONDS
    return await send_all(
        senders, tally, order.port, started=started, within_seconds=within_seconds
    )


if __name__ == "__main__":
    serve(Order, send)
