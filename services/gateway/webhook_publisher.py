"""Webhooks from their bodies to their records' acknowledgements, many at once."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import structlog

from schemas import codec
from schemas.errors import Code, PermanentError
from schemas.events import BlobRef, Event, WebhookReceived
from schemas.signatures import Refusal
from schemas.topics import WEBHOOKS_RECEIVED
from schemas.webhook_source import Credential, Source
from services.gateway.problems import RefusedError
from streams.blobs.base import Blobs, webhook_key
from streams.bus.base import Outgoing, Producer
from streams.tracing import trace_id

log = structlog.get_logger(__name__)

OFF_LOOP_BYTES = 1 << 17
"""Hashing and reading more than this would hold up every other request."""


class Arrival(ABC):
    """A webhook whose body has come; it is told itself what became of its record."""

    __slots__ = (
        "content",
        "event_id",
        "headers",
        "publisher",
        "raw_headers",
        "record",
        "signer",
        "subject",
        "traceparent",
    )

    def __init__(
        self, raw_headers: Sequence[tuple[bytes, bytes]], content: bytes, traceparent: str
    ) -> None:
        self.raw_headers = raw_headers
        self.content = content
        self.traceparent = traceparent
        self.record: Outgoing | None = None

    # What the steps find out; to lay them out empty would be paid for with every webhook.
    headers: tuple[tuple[str, bytes], ...]
    signer: Credential | Refusal
    event_id: str
    subject: str
    publisher: "Publisher"

    @abstractmethod
    def done(self) -> bool:
        """Tell whether nobody waits for it any more."""

    @abstractmethod
    def end(self, error: BaseException | None) -> None:
        """Its record is acknowledged, or this is why not; called once, raises nothing."""

    def set_result(self, _result: None, /) -> None:
        """Its record is acknowledged."""
        self.end(None)

    def set_exception(self, error: BaseException, /) -> None:
        """It is not: what no record can hold goes to a blob, and a record says which."""
        if isinstance(error, PermanentError) and error.code is Code.RECORD_TOO_LARGE:
            self.publisher.keep(self)
        else:
            self.end(error)


class Publisher:
    """Publishes the webhooks of one source.

    Each step is done for all of a batch before the next step. Where hundreds of requests are
    under way a step costs less so: its code and data are in the processor's caches
    (docs/decisions/0013).
    """

    def __init__(
        self,
        source: Source,
        producer: Producer,
        blobs: Blobs,
        clock: Callable[[], float],
        *,
        event_source: str,
    ) -> None:
        self._source = source
        self._producer = producer
        self._blobs = blobs
        self._clock = clock
        self._event_source = event_source
        self.keeping: set[asyncio.Task[None]] = set()
        """What is being put into blobs."""

    def publish(self, arrivals: Sequence[Arrival]) -> None:
        """Judge them, and send the records of those that are signed."""
        try:
            self._judge(arrivals)
        except Exception as error:  # noqa: BLE001  # the one whose it is answers it
            if len(arrivals) == 1:
                arrivals[0].end(error)
                return
            # One that breaks a step must not take the others along.
            for arrival in arrivals:
                self.publish([arrival])
            return
        for arrival in arrivals:
            try:
                self._send(arrival)
            except Exception as error:  # noqa: BLE001  # as above
                arrival.end(error)

    async def publish_large(self, arrival: Arrival) -> None:
        """Judge one on a thread of its own, and send its record."""
        await asyncio.to_thread(self._judge, [arrival])
        self._send(arrival)

    def _judge(self, arrivals: Sequence[Arrival]) -> None:
        """Verify them and write the records of those that are signed; change nothing else."""
        source, now = self._source, self._clock()
        moment = _moment(int(now * 1000))
        for arrival in arrivals:
            arrival.headers = source.kept(arrival.raw_headers)
        for arrival in arrivals:
            arrival.signer = source.verify(arrival.headers, arrival.content, now)
        signed = [(a, a.signer) for a in arrivals if isinstance(a.signer, Credential)]
        for arrival, signer in signed:
            named = source.event_of(signer.scheme, arrival.headers, arrival.content)
            arrival.event_id, arrival.subject = named
        for arrival, _ in signed:
            arrival.record = self._record(arrival, moment)

    def _record(self, arrival: Arrival, moment: datetime, blob: BlobRef | None = None) -> Outgoing:
        content = arrival.content if blob is None else b""
        body = WebhookReceived(self._source.name, arrival.subject, arrival.headers, content, blob)
        event = Event(arrival.event_id, self._event_source, moment, body, arrival.traceparent)
        value, headers = codec.encode(event)
        return Outgoing(WEBHOOKS_RECEIVED.name, arrival.subject.encode(), value, headers)

    def _send(self, arrival: Arrival) -> None:
        if arrival.record is None:
            reason, trace = str(arrival.signer), trace_id(arrival.traceparent)
            log.info("webhook_refused", source=self._source.name, reason=reason, trace=trace)
            arrival.end(_unauthorized())
            return
        arrival.publisher = self
        self._producer.send_for(arrival.record, arrival)

    def keep(self, arrival: Arrival) -> None:
        """Put its content into a blob, and send a record that says which."""

        def end(keeping: asyncio.Task[None]) -> None:
            self.keeping.discard(keeping)
            error = asyncio.CancelledError() if keeping.cancelled() else keeping.exception()
            # The deadline of its first record may have ended it meanwhile.
            if not arrival.done():
                arrival.end(error)

        task = asyncio.create_task(self._send_with_blob(arrival))
        self.keeping.add(task)
        task.add_done_callback(end)

    async def _send_with_blob(self, arrival: Arrival) -> None:
        blob = await self._blobs.put(webhook_key(arrival.event_id), arrival.content)
        moment = _moment(int(self._clock() * 1000))
        await self._producer.send(self._record(arrival, moment, blob))


@lru_cache(16)
def _moment(unix_ms: int) -> datetime:
    """Read unix milliseconds, once for all the webhooks of each."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC)


def _unauthorized() -> RefusedError:
    """Refuse without a word of why: a stranger who tries signatures learns nothing."""
    return RefusedError(
        Code.UNAUTHORIZED,
        "the webhook is refused",
        headers={"WWW-Authenticate": "Signature"},
        members={"title": "Refused", "advice": "The gateway's log has the reason."},
    )
