"""A load of webhooks: signed bodies over many connections, as fast as they go or at a pace.

python -m bench.webhook_load < order, a line of JSON; the answer is another
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.senders import Sender, Tally, send_all, serve

_LONGEST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to send, and for how long; `per_second` 0 is as fast as the answers come."""

    port: int
    path: str
    secret: str
    connections: int
    seconds: float
    per_second: float = 0.0


class PacedSender(Sender):
    """One connection that begins its requests at their times, or late, never early."""

    def __init__(
        self,
        requests: Iterator[bytes],
        tally: Tally,
        begins: float,
        ends: float,
        every_seconds: float,
    ) -> None:
        super().__init__(requests, tally, ends)
        self._due = begins
        self._every_seconds = every_seconds

    def _next(self) -> None:
        wait_seconds = self._due - time.perf_counter()
        self._due += self._every_seconds
        loop = asyncio.get_running_loop()
        if wait_seconds > 0:
            loop.call_later(wait_seconds, super()._next)
        else:
            super()._next()


def requests(order: Order) -> Iterator[bytes]:
    """Make whole requests as LlamaCloud sends them, each an event of its own."""
    number = 0
    key = order.secret.encode()
    while True:
        number += 1
        event_id = f"{number:08x}-5b1c-4d3e-8f7a-0123456789ab"
        body = (
            f'{{"event_id":"{event_id}","event_type":"parse.success",'
            f'"timestamp":1753985275.1154444,"data":{{"id":"pjb-{number}","job_id":"pjb-{number}"}}}}'
        ).encode()
        digest = hmac.digest(key, body, hashlib.sha256).hex()
        yield (
            f"POST {order.path} HTTP/1.1\r\nHost: 127.0.0.1:{order.port}\r\n"
            "Content-Type: application/json\r\nUser-Agent: llamaindex-webhook-service/1.0\r\n"
            f"X-Webhook-Event-ID: {event_id}\r\nX-Webhook-Event-Type: parse.success\r\n"
            f"LC-Signature: sha256={digest}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body


async def send(order: Order) -> dict[str, Any]:
    """Send until the time is over, and tell what came of it."""
    tally = Tally()
    supply = requests(order)
    every_seconds = order.connections / order.per_second if order.per_second else 0.0
    started = time.perf_counter()
    ends = started + order.seconds
    senders = [
        PacedSender(
            supply, tally, started + every_seconds * n / order.connections, ends, every_seconds
        )
        for n in range(order.connections)
    ]
    within_seconds = order.seconds + _LONGEST_SECONDS
    return await send_all(
        senders, tally, order.port, started=started, within_seconds=within_seconds
    )


if __name__ == "__main__":
    serve(Order, send)
