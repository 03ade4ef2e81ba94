"""The short way of webhooks: what comes or ends in one turn of the loop is served together."""

import asyncio
import time
from collections.abc import Sequence

import orjson
import structlog
from aiohttp.http import RawRequestMessage

from schemas.http import WebhookBody
from services.gateway.middleware import Observer
from services.gateway.raw_answers import accepted, written
from services.gateway.ways import Peer, Way
from services.gateway.webhook_door import Door
from services.gateway.webhook_publisher import Arrival
from streams.tracing import child_of, trace_id

log = structlog.get_logger(__name__)

_METHOD = "POST"
_ACCEPTED = 202


class _Waiting(Arrival):
    """An arrival with the peer that waits for its answer; `started` by time.perf_counter."""

    __slots__ = ("_ended", "_way", "message", "peer", "started")

    def __init__(
        self, peer: Peer, message: RawRequestMessage, content: bytes, way: "ShortWay"
    ) -> None:
        trace = child_of(message.headers.get("traceparent"))
        super().__init__(message.raw_headers, content, trace)
        self.peer = peer
        self.message = message
        self.started = time.perf_counter()
        self._way = way
        self._ended = False

    def done(self) -> bool:
        """Tell whether its peer has its answer."""
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
        self._leaving: list[tuple[_Waiting, BaseException | None]] = []

    def take(self, peer: Peer, message: RawRequestMessage, content: bytes) -> None:
        """Serve it with all others that come in this turn of the loop."""
        self._coming.append(_Waiting(peer, message, content, self))
        if len(self._coming) == 1:
            self._loop.call_soon(self._enter_all)

    def leave(self, arrival: _Waiting, error: BaseException | None) -> None:
        """Answer one that was let in, with all others that have their outcome in this turn."""
        self._leaving.append((arrival, error))
        if len(self._leaving) == 1:
            self._loop.call_soon(self._answer_all)

    def _enter_all(self) -> None:
        coming, self._coming = self._coming, []
        self._observer.begin(len(coming))
        arrivals = []
        for arrival in coming:
            try:
                self._door.check(arrival.message.headers, arrival.peer.remote)
                self._door.room.enter()
            except Exception as error:  # noqa: BLE001  # answered as the usual way does
                self._refuse(arrival, error)
            else:
                arrivals.append(arrival)
        self._door.publisher.publish(arrivals)

    def _answer_all(self) -> None:
        leaving, self._leaving = self._leaving, []
        self._door.room.leave(len(leaving))
        published = [arrival for arrival, error in leaving if error is None]
        if published:
            self._accept(published)
        for arrival, error in leaving:
            if error is not None:
                self._refuse(arrival, error)

    def _accept(self, arrivals: Sequence[_Waiting]) -> None:
        self._observer.end(len(arrivals))
        try:
            contents = [
                accepted(
                    orjson.dumps(WebhookBody(arrival.event_id)),
                    arrival.traceparent,
                    last=arrival.message.should_close,
                )
                for arrival in arrivals
            ]
            self._door.count_accepted(len(arrivals))
            started = [arrival.started for arrival in arrivals]
            self._observer.count(_METHOD, self._route, _ACCEPTED, started)
        except Exception:
            log.exception("webhooks_unanswered", route=self._route)
            contents = [b""] * len(arrivals)
        for arrival, content in zip(arrivals, contents, strict=True):
            arrival.peer.answer(content)

    def _refuse(self, arrival: _Waiting, error: BaseException) -> None:
        self._observer.end(1)
        content = b""
        try:
            content = self._refusal(arrival, error)
        except Exception:
            log.exception("webhooks_unanswered", route=self._route)
        arrival.peer.answer(content)

    def _refusal(self, arrival: _Waiting, error: BaseException) -> bytes:
        """Write the answer; none where the process ends before it knows one."""
        if not isinstance(error, Exception):
            return b""
        route, trace = self._route, arrival.traceparent
        self._door.count_refused(error)
        with structlog.contextvars.bound_contextvars(trace=trace_id(trace)):
            response = self._observer.answer_to(error, _METHOD, route, route)
        content = written(response, trace, last=arrival.message.should_close)
        self._observer.count(_METHOD, route, response.status, [arrival.started])
        return content
