"""Webhooks: verified over their raw bytes, published, then 202; no table on this path."""

import asyncio
import math
from collections.abc import Callable

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from schemas.errors import Code, ParsewireError, PermanentError
from schemas.http import WebhookBody
from schemas.webhook_source import Source
from services.gateway.address_limit import AddressLimit
from services.gateway.answers import answer
from services.gateway.parts import TRACEPARENT, Parts
from services.gateway.problems import DisconnectedError, RefusedError
from services.gateway.quick_answer import QuickAnswer
from services.gateway.webhook_batches import Arrival, Batches
from services.gateway.webhook_body import Place, Room, check_coding, read_raw, webhook_limits
from services.gateway.webhook_health import Tally, show_all
from streams.blobs.base import webhook_key
from streams.metrics import WEBHOOKS

_MOST_AT_ONCE = 1024
_LARGE_BODIES_AT_ONCE = 4
_UNKNOWN = "unknown"


class Webhooks:
    """Takes webhooks of every source, from any address."""

    def __init__(self, parts: Parts, monotonic: Callable[[], float]) -> None:
        self._parts = parts
        hooks = parts.webhooks
        self._sources = hooks.sources
        self._most_bytes = hooks.max_bytes
        self._clock = hooks.clock
        self._limits = webhook_limits(parts.limits, hooks.max_bytes)
        self._addresses = AddressLimit(hooks.per_second, monotonic)
        self._room = Room(_MOST_AT_ONCE, _LARGE_BODIES_AT_ONCE * hooks.max_bytes)
        self._tallies = {name: Tally() for name in hooks.sources}
        # To ask for the running loop is a call of the system, each time (Python 3.11).
        self._loop = asyncio.get_running_loop()

    def handlers(self) -> dict[str, Handler]:
        """Give each source's handler by the last part of its path."""
        return {name: self._handler(source) for name, source in self._sources.items()}

    async def show_health(self, _request: web.Request) -> web.Response:
        """Tell how each source is configured, and what it was sent since the start."""
        return answer(show_all(self._sources, self._tallies, self._clock()))

    def _handler(self, source: Source) -> Handler:
        recorder, tally = self._parts.recorder, self._tallies[source.name]
        accepted = recorder.series(WEBHOOKS, source=source.name, outcome="accepted")
        event_source = self._parts.webhooks.event_source
        batches = Batches(source, self._parts.producer, self._clock, event_source=event_source)

        def count_refused(outcome: str) -> None:
            recorder.add(WEBHOOKS, source=source.name, outcome=outcome)
            tally.refuse(self._clock())

        async def receive(request: web.Request) -> web.StreamResponse:
            try:
                event_id = await self._take(request, source, batches)
            except ParsewireError as error:
                count_refused(error.code.value)
                raise
            except DisconnectedError:
                count_refused("disconnected")
                raise
            except Exception:
                count_refused(Code.INTERNAL_ERROR.value)
                raise
            accepted.add()
            tally.accept(self._clock())
            return QuickAnswer(202, orjson.dumps(WebhookBody(event_id)))

        return receive

    async def refuse_unknown(self, request: web.Request) -> web.Response:
        """Answer for every name that is no source's."""
        wait_seconds = self._addresses.take(request.remote)
        unknown = RefusedError(Code.NOT_FOUND, "there is no such webhook source")
        error = _too_many(wait_seconds) if wait_seconds else unknown
        self._parts.recorder.add(WEBHOOKS, source=_UNKNOWN, outcome=error.code.value)
        raise error

    async def _take(self, request: web.Request, source: Source, batches: Batches) -> str:
        if wait_seconds := self._addresses.take(request.remote):
            raise _too_many(wait_seconds)
        if not source.takes(request.headers.get("Content-Type", "")):
            raise _wrong_type(source)
        check_coding(request)
        with Place(self._room) as place:
            content = await read_raw(request, self._limits, place, self._most_bytes)
            outcome: asyncio.Future[None] = self._loop.create_future()
            arrival = Arrival(request.raw_headers, content, request[TRACEPARENT], outcome)
            try:
                await batches.publish(arrival)
            except PermanentError as error:
                if error.code is not Code.RECORD_TOO_LARGE:
                    raise
                # What no record can hold goes to a blob, and the record says which.
                blob = await self._parts.blobs.put(webhook_key(arrival.event_id), content)
                await self._parts.producer.send(batches.record_with(blob, arrival))
        return arrival.event_id


def _too_many(wait_seconds: float) -> RefusedError:
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
