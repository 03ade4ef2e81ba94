"""The middleware: traces, counts and times each request, and turns errors into problems."""

import time
from collections.abc import Awaitable, Sequence

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from schemas.errors import ParsewireError
from services.gateway import problems
from services.gateway.parts import TRACEPARENT
from services.gateway.problems import DisconnectedError
from streams.metrics import HTTP_IN_PROGRESS, HTTP_REQUESTS, HTTP_SECONDS, Recorder
from streams.series import Series
from streams.tracing import child_of, trace_id

log = structlog.get_logger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_GONE = 499
"""Nobody reads this status; it stands in the metrics (as nginx writes it)."""


class Observer:
    """Stands around every handler of one application."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._in_progress = 0
        self._series: dict[tuple[str, str, int], tuple[Series, Series]] = {}
        recorder.follow(HTTP_IN_PROGRESS, lambda: self._in_progress)

    def middleware(self) -> Middleware:
        """Give the function that aiohttp calls around each handler."""

        # No coroutine of its own: each one around a handler is paid for with every request.
        @web.middleware
        def observe(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
            return self._observe(request, handler, _route_of(request))

        return observe

    def begin(self, requests: int) -> None:
        """Count so many that are under way."""
        self._in_progress += requests

    def end(self, requests: int) -> None:
        """Count so many less."""
        self._in_progress -= requests

    def count(self, method: str, route: str, status: int, started: Sequence[float]) -> None:
        """Count and time requests that have their answers; `started` by time.perf_counter."""
        key = (method, route, status)
        requests, seconds = self._series.get(key) or self._series_of(*key)
        now = time.perf_counter()
        for moment in started:
            seconds.observe(now - moment)
        requests.add(len(started))

    def answer_to(self, error: Exception, method: str, path: str, route: str) -> web.Response:
        """Answer what a handler raised, expected or not; raise what is an answer by itself."""
        if isinstance(error, (ParsewireError, web.HTTPException, DisconnectedError)):
            return _answer_to(error, method, path, route)
        support_id = problems.new_support_id()
        log.error("request_failed", support_id=support_id, route=route, exc_info=error)
        return problems.of_defect(support_id)

    async def _observe(
        self, request: web.Request, handler: Handler, route: str
    ) -> web.StreamResponse:
        started = time.perf_counter()
        traceparent = child_of(request.headers.get("traceparent"))
        request[TRACEPARENT] = traceparent
        structlog.contextvars.bind_contextvars(trace=trace_id(traceparent))
        self.begin(1)
        try:
            response = await handler(request)
        except Exception as error:  # noqa: BLE001  # judged and logged there
            response = self.answer_to(error, request.method, request.path, route)
            if not request.content.is_eof():
                # The rest of the body is read and dropped for a moment, so that the sender sees
                # the answer and no reset; a connection with half a body on it serves nobody else.
                response.force_close()
        finally:
            self.end(1)
        response.headers["traceparent"] = traceparent
        method = request.method if request.method in _METHODS else "other"
        self.count(method, route, response.status, [started])
        return response

    def _series_of(self, method: str, route: str, status: int) -> tuple[Series, Series]:
        """Give the request's counter and histogram; all three that name them are bounded."""
        of = self._recorder.series
        found = (
            of(HTTP_REQUESTS, method=method, route=route, status=str(status)),
            of(HTTP_SECONDS, method=method, route=route),
        )
        self._series[method, route, status] = found
        return found


def _answer_to(
    error: ParsewireError | web.HTTPException | DisconnectedError,
    method: str,
    path: str,
    route: str,
) -> web.Response:
    """Make the answer to what a handler raised; raise it again where it is one by itself."""
    support_id = problems.new_support_id()
    match error:
        case DisconnectedError():
            log.info("client_gone", route=route)
            return web.Response(status=_CLIENT_GONE)
        case ParsewireError():
            response = problems.of_error(error, support_id)
            code, reason = error.code.value, error.message
        case web.HTTPException():
            if error.status < 400:
                raise error
            response = problems.of_http(error, path, support_id)
            code, reason = "http", error.reason
    write = log.error if response.status >= 500 else log.info
    write(
        "request_refused",
        status=response.status,
        code=code,
        reason=reason,
        support_id=support_id,
        method=method,
        route=route,
    )
    return response


def _route_of(request: web.Request) -> str:
    """Name the route by its pattern: a raw path as a label would be a new series each."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"
