"""A gateway with webhook sources, a bus in memory behind it, and hands to sign and to send."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from schemas import codec
from schemas.errors import Code, PermanentError
from schemas.events import Event, WebhookReceived
from schemas.signature_scheme import LC_SIGNATURE, STANDARD_WEBHOOKS, X_WEBHOOK_SIGNATURE, Scheme
from schemas.signatures import sign
from schemas.topics import WEBHOOKS_RECEIVED
from schemas.webhook_source import ARTIFACTS, LLAMAPARSE, Credential, Source
from services.gateway.parts import Limits, WebhookRules
from streams.bus.base import Outcome, Outgoing, Producer, Record
from tests.fakes import MemoryBus, tell
from tests.gateway_desk import Answer, GatewayDesk, open_gateway

HOOK = "/api/v1/webhooks/llamaparse"
HEALTH = "/api/v1/webhooks/health"
SECRET = "the secret of this test"
MAX_BYTES = 2_000_000
ENVELOPE = (
    b'{"event_id":"5b1c1d3e","event_type":"parse.success","timestamp":1753985275.1154444,'
    b'"data":{"id":"pjb-1","job_id":"pjb-1"}}'
)


def source_of(source: Source, *secrets: tuple[str, float | None]) -> Source:
    """Give the source secrets with their expiry in unix seconds."""
    credentials = tuple(
        Credential(f"secret {number}", scheme, scheme.key_of(secret), expires_at)
        for scheme in source.schemes
        for number, (secret, expires_at) in enumerate(secrets, 1)
    )
    return Source(
        source.name,
        source.schemes,
        credentials,
        id_fields=source.id_fields,
        subject_fields=source.subject_fields,
    )


SOURCES = (
    source_of(LLAMAPARSE, (SECRET, None)),
    source_of(ARTIFACTS),
    source_of(Source("standard", (STANDARD_WEBHOOKS,)), ("whsec_AAECAwQFBgc=", None)),
)


class WebhookDesk:
    """A running gateway whose webhooks end in a bus that the test reads."""

    def __init__(self, gateway: GatewayDesk, bus: MemoryBus) -> None:
        self.gateway = gateway
        self.bus = bus

    async def post(
        self, body: bytes, headers: dict[str, str] | None = None, *, path: str = HOOK, **more: Any
    ) -> Answer:
        """Send a body as JSON."""
        given = {"Content-Type": "application/json"} | (headers or {})
        # aiohttp warns of bytes beyond a mebibyte.
        data = io.BytesIO(body) if len(body) > 1_000_000 else body
        return await self.gateway.post(path, tenant=None, data=data, headers=given, **more)

    async def deliver(
        self, body: bytes = ENVELOPE, headers: dict[str, str] | None = None, **more: Any
    ) -> Answer:
        """Send a body that LlamaCloud signed."""
        return await self.post(body, signature(body) | (headers or {}), **more)

    def records(self) -> list[Record]:
        return self.bus.records(WEBHOOKS_RECEIVED.name)

    def received(self) -> list[tuple[Event, WebhookReceived]]:
        """Read the topic back."""
        found = []
        for record in self.records():
            event = codec.decode(record.value, record.headers)
            assert isinstance(event.body, WebhookReceived)
            found.append((event, event.body))
        return found

    def count(self, outcome: str, source: str = "llamaparse") -> float:
        name = "parsewire_webhooks_total"
        return self.gateway.metric(name, source=source, outcome=outcome)

    async def status_of(self, request: bytes) -> int:
        """Send raw bytes and give the last status that is not 100; 0 when there is none."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        try:
            writer.write(request)
            async with asyncio.timeout(20):
                status = 100
                while status == 100:
                    line = await reader.readline()
                    if line.startswith(b"HTTP/1."):
                        status = int(line[9:12])
                    elif not line:
                        return 0
                return status
        finally:
            writer.close()


class HeldProducer:
    """A producer whose broker acknowledges when it is told to."""

    def __init__(self, most_bytes: int = 1_000_000) -> None:
        self._asked: asyncio.Queue[None] = asyncio.Queue()
        self.acknowledge = asyncio.Event()
        self.sent: list[Outgoing] = []
        self._most_bytes = most_bytes

    async def until_asked(self, times: int = 1) -> None:
        """Return once it was given so many records more."""
        async with asyncio.timeout(10):
            for _ in range(times):
                await self._asked.get()

    def send_for(self, record: Outgoing, outcome: Outcome) -> None:
        tell(self.send(record), outcome)

    async def send(self, record: Outgoing) -> None:
        if len(record.value) > self._most_bytes:
            raise PermanentError(Code.RECORD_TOO_LARGE, "the broker says no")
        self._asked.put_nowait(None)
        await self.acknowledge.wait()
        self.sent.append(record)


def signature(
    body: bytes, secret: str = SECRET, scheme: Scheme = LC_SIGNATURE, at: float | None = None
) -> dict[str, str]:
    """Give the headers that prove a body."""
    seconds = int(time.time() if at is None else at)
    return dict(sign(scheme, scheme.key_of(secret), body, event_id="msg_1", unix_seconds=seconds))


def plain_signature(body: bytes, secret: str = SECRET) -> str:
    """Give the bare hex of X-Webhook-Signature."""
    given = signature(body, secret, X_WEBHOOK_SIGNATURE)
    return given["X-Webhook-Signature"].removeprefix("sha256=")


@asynccontextmanager
async def open_webhooks(
    folder: Path,
    *sources: Source,
    limits: Limits | None = None,
    per_second: float = 100_000.0,
    max_bytes: int = MAX_BYTES,
    at_once: int = 1024,
    clock: Callable[[], float] = time.time,
    producer: Producer | None = None,
) -> AsyncIterator[WebhookDesk]:
    """Run a gateway that takes webhooks of these sources, or of a few usual ones."""
    bus = MemoryBus()
    await bus.ensure_topics([WEBHOOKS_RECEIVED])
    rules = WebhookRules(
        {source.name: source for source in sources or SOURCES},
        per_second,
        max_bytes,
        at_once=at_once,
        clock=clock,
    )
    async with (
        bus.open_producer() as own,
        open_gateway(folder, limits=limits, producer=producer or own, webhooks=rules) as gateway,
    ):
        yield WebhookDesk(gateway, bus)
