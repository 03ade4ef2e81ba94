"""The short way of webhooks: what has come in one turn of the loop is served together."""

import asyncio
import time

import orjson
import structlog
from aiohttp.http import RawRequestMessage

from schemas.http import WebhookBody
from services.gateway.middleware import Observer
from services.gateway.raw_answers import accepted, written
from services.gateway.ways import Sender, Way
from services.gateway.webhook_door import Door
from services.gateway.webhook_publisher import Arrival
from streams.tracing import child_of, trace_id

log = structlog.get_logger(__name__)

_METHOD = "POST"


class _Waiting(Arrival):
    """An arrival with the sender that waits for its answer; `started` by time.perf_counter."""

    __slots__ = ("_ended", "_way", "message", "sender", "started")

    def __init__(
        self, sender: Sender, message: RawRequestMessage, content: bytes, way: "ShortWay"
    ) -> None:
        trace = child_of(message.headers.get("traceparent"))
        super().__init__(message.raw_headers, content, trace)
        self.sender = sender
        self.message = message
        self.started = time.perf_counter()
        self._way = way
        self._ended = False

    def done(self) -> bool:
        """Tell whether its sender has its answer."""
        return self._ended

    def end(self, error: BaseException | None) -> None:
        """Answer it."""
        self._ended = True
        self._way.leave(self, error)


class ShortWay(Way):
    """Serves what `Door.receive` serves, without a coroutine, a task or a future for each."""

    def __init__(self, door: Door, observer: Observer, route: str) -> None:
        self.most_bytes = door.most_bytes
        self._door = door
        self._observer = observer
        self._route = route
        # To ask for the running loop is a call of the system, each time (Python 3.11).
        self._loop = asyncio.get_running_loop()
        self._coming: list[_Waiting] = []

    def take(self, sender: Sender, message: RawRequestMessage, content: bytes) -> None:
        """Serve it with all others that come in this turn of the loop."""
        self._coming.append(_Waiting(sender, message, content, self))
        if len(self._coming) == 1:
            self._loop.call_soon(self._enter_all)

    def leave(self, arrival: _Waiting, error: BaseException | None) -> None:
        """Answer one that was let in."""
        self._door.room.leave()
        self._answer(arrival, error)

    def _enter_all(self) -> None:
        coming, self._coming = self._coming, []
        arrivals = []
        for arrival in coming:
            self._observer.begin()
            try:
                self._door.check(arrival.message.headers, arrival.sender.remote)
                self._door.room.enter()
            except Exception as error:  # noqa: BLE001  # answered as the usual way does
                self._answer(arrival, error)
            else:
                arrivals.append(arrival)
        self._door.publisher.publish(arrivals)

    def _answer(self, arrival: _Waiting, error: BaseException | None) -> None:
        self._observer.end()
        content = b""
        try:
            content = self._content(arrival, error)
        except Exception:
            log.exception("webhook_unanswered", route=self._route)
        arrival.sender.answer(content)

    def _content(self, arrival: _Waiting, error: BaseException | None) -> bytes:
        """Write the answer; none where the process ends before it knows one."""
        route, trace = self._route, arrival.traceparent
        last = arrival.message.should_close
        if error is None:
            status = 202
            self._door.count_accepted()
            body = orjson.dumps(WebhookBody(arrival.event_id))
            content = accepted(body, trace, last=last)
        elif isinstance(error, Exception):
            self._door.count_refused(error)
            with structlog.contextvars.bound_contextvars(trace=trace_id(trace)):
                response = self._observer.answer_to(error, _METHOD, route, route)
            status = response.status
            content = written(response, trace, last=last)
        else:
            return b""
        self._observer.count(_METHOD, route, status, arrival.started)
        return content
