"""The short way of webhooks: what has come whole in one turn of the loop is served together."""

import asyncio
import time
from collections.abc import Awaitable

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from services.gateway.middleware import Observer
from services.gateway.webhook_body import read_whole
from services.gateway.webhook_door import Door
from services.gateway.webhook_publisher import OFF_LOOP_BYTES, Arrival
from streams.tracing import child_of, trace_id

_Entering = tuple[web.Request, asyncio.Future[web.StreamResponse], float]
"""A request, its answer to come, and when it came, by time.perf_counter."""


class _Waiting(Arrival):
    """An arrival with the request that waits for its answer."""

    __slots__ = ("_way", "answer", "request", "started")

    def __init__(
        self,
        request: web.Request,
        answer: asyncio.Future[web.StreamResponse],
        started: float,
        way: "ShortWay",
    ) -> None:
        trace = child_of(request.headers.get("traceparent"))
        super().__init__(request.raw_headers, b"", trace)
        self.request = request
        self.answer = answer
        self.started = started
        self._way = way

    def done(self) -> bool:
        """Tell whether its request waits no more."""
        return self.answer.done()

    def end(self, error: BaseException | None) -> None:
        """Answer the request."""
        self._way.leave(self, error)


class ShortWay:
    """Serves what `Door.receive` serves, where the whole body has come with its head.

    The server waits for a future and nothing else: each coroutine around a request is paid for
    twice, before it waits and after, most of all where hundreds do.
    """

    def __init__(self, door: Door, observer: Observer, route: str) -> None:
        self._door = door
        self._observer = observer
        self._route = route
        self._usual: Handler = observer.around(door.receive, route)
        self._most_bytes = min(OFF_LOOP_BYTES, door.most_bytes)
        # To ask for the running loop is a call of the system, each time (Python 3.11).
        self._loop = asyncio.get_running_loop()
        self._entering: list[_Entering] = []

    def serve(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        """Give the answer to come."""
        body = request.content
        if not body.is_eof() or body.total_bytes > self._most_bytes:
            return self._usual(request)
        if not self._entering:
            self._loop.call_soon(self._enter_all)
        answer: asyncio.Future[web.StreamResponse] = self._loop.create_future()
        self._entering.append((request, answer, time.perf_counter()))
        return answer

    def leave(self, arrival: _Waiting, error: BaseException | None) -> None:
        """Answer one that was let in."""
        self._door.room.leave()
        self._answer(arrival, error)

    def _enter_all(self) -> None:
        entering, self._entering = self._entering, []
        arrivals = []
        for request, answer, started in entering:
            try:
                arrival = _Waiting(request, answer, started, self)
            except Exception as error:  # noqa: BLE001  # aiohttp answers it
                if not answer.done():
                    answer.set_exception(error)
                continue
            if self._enters(arrival):
                arrivals.append(arrival)
        self._door.publisher.publish(arrivals)

    def _enters(self, arrival: _Waiting) -> bool:
        """Let it in, or answer why not."""
        self._observer.begin()
        try:
            self._door.check(arrival.request)
            arrival.content = read_whole(arrival.request.content)
            self._door.room.enter()
        except Exception as error:  # noqa: BLE001  # answered as the usual way does
            self._answer(arrival, error)
            return False
        return True

    def _answer(self, arrival: _Waiting, error: BaseException | None) -> None:
        answer = arrival.answer
        self._observer.end()
        try:
            response = self._response(arrival, error)
        except BaseException as defect:  # noqa: BLE001  # without an answer it would wait for ever
            if not answer.done():
                answer.set_exception(defect)
            return
        if not answer.done():
            answer.set_result(response)

    def _response(self, arrival: _Waiting, error: BaseException | None) -> web.StreamResponse:
        request, route, trace = arrival.request, self._route, arrival.traceparent
        if error is None:
            response = self._door.accept(arrival)
        elif isinstance(error, Exception):
            self._door.count_refused(error)
            with structlog.contextvars.bound_contextvars(trace=trace_id(trace)):
                response = self._observer.answer_to(error, request, route)
        else:
            raise error
        self._observer.note(request, route, response, trace, arrival.started)
        return response
