"""A webhook source's door: what is looked at before a body is read, and what is answered."""

import asyncio
import math
from collections.abc import Mapping, Sequence

from aiohttp import web

from schemas.errors import Code, ParsewireError
from schemas.http import WebhookBody
from schemas.webhook_source import Source
from services.gateway.address_limit import AddressLimit
from services.gateway.answers import answer
from services.gateway.parts import TRACEPARENT, Limits, Parts
from services.gateway.problems import DisconnectedError, RefusedError
from services.gateway.webhook_body import Place, Room, check_coding, read_raw
from services.gateway.webhook_health import Tally
from services.gateway.webhook_publisher import OFF_LOOP_BYTES, Arrival, Publisher
from streams.metrics import WEBHOOKS


class _Awaited(Arrival):
    """An arrival whose handler waits for its end."""

    __slots__ = ("_outcome",)

    def __init__(
        self,
        raw_headers: Sequence[tuple[bytes, bytes]],
        content: bytes,
        traceparent: str,
        outcome: asyncio.Future[None],
    ) -> None:
        super().__init__(raw_headers, content, traceparent)
        self._outcome = outcome

    def done(self) -> bool:
        """Tell whether its handler waits no more."""
        return self._outcome.done()

    def end(self, error: BaseException | None) -> None:
        """Let the handler go on, where it waits still."""
        if self._outcome.done():
            return
        if error is None:
            self._outcome.set_result(None)
        else:
            self._outcome.set_exception(error)


class Door:
    """Takes the webhooks of one source; `addresses` and `room` are those of all sources."""

    def __init__(
        self, source: Source, parts: Parts, limits: Limits, addresses: AddressLimit, room: Room
    ) -> None:
        hooks = parts.webhooks
        self.source = source
        self.room = room
        self.tally = Tally()
        self.publisher = Publisher(
            source, parts.producer, parts.blobs, hooks.clock, event_source=hooks.event_source
        )
        self._addresses = addresses
        self._limits = limits
        self.most_bytes = hooks.max_bytes
        self._clock = hooks.clock
        self._recorder = parts.recorder
        self._accepted = parts.recorder.series(WEBHOOKS, source=source.name, outcome="accepted")

    def check(self, headers: Mapping[str, str], remote: str | None) -> None:
        """Raise RefusedError 429 or 415 for what its head says already."""
        if refused := too_many(self._addresses, remote):
            raise refused
        if not self.source.takes(headers.get("Content-Type", "")):
            raise _wrong_type(self.source)
        check_coding(headers)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Take a webhook, however its body comes; answer once its record is acknowledged."""
        try:
            self.check(request.headers, request.remote)
            with Place(self.room) as place:
                content = await read_raw(request, self._limits, place, self.most_bytes)
                outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                trace = request[TRACEPARENT]
                arrival = _Awaited(request.raw_headers, content, trace, outcome)
                if len(content) > OFF_LOOP_BYTES:
                    await self.publisher.publish_large(arrival)
                else:
                    self.publisher.publish([arrival])
                await outcome
        except Exception as error:
            self.count_refused(error)
            raise
        self.count_accepted(1)
        return answer(WebhookBody(arrival.event_id), status=202)

    def count_accepted(self, webhooks: int) -> None:
        """Count so many that were published."""
        self._accepted.add(webhooks)
        self.tally.accept(webhooks, self._clock())

    def count_refused(self, error: BaseException) -> None:
        """Count one that is answered otherwise, or by nobody."""
        outcome = Code.INTERNAL_ERROR.value
        if isinstance(error, ParsewireError):
            outcome = error.code.value
        elif isinstance(error, DisconnectedError):
            outcome = "disconnected"
        self._recorder.add(WEBHOOKS, source=self.source.name, outcome=outcome)
        self.tally.refuse(self._clock())


def too_many(addresses: AddressLimit, remote: str | None) -> RefusedError | None:
    """Count a request of its address; give the refusal where there were too many."""
    wait_seconds = addresses.take(remote)
    if not wait_seconds:
        return None
    return RefusedError(
        Code.TOO_MANY_REQUESTS,
        "too many webhooks come from this address",
        headers={"Retry-After": str(math.ceil(wait_seconds))},
    )


def _wrong_type(source: Source) -> RefusedError:
    return RefusedError(
        Code.UNSUPPORTED_MEDIA_TYPE,
        "this source sends another Content-Type",
        members={"accepted": list(source.content_types)},
    )
