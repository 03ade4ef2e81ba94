"""Short ways: the busiest paths are served past the application's router and middleware."""

from collections.abc import Awaitable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

SHORT_WAYS = web.AppKey("short_ways", Mapping[str, Handler])
"""Handlers of POST requests by their whole path; each is a route of the application too."""


def open_short_ways(runner: web.BaseRunner | None, app: web.Application) -> None:
    """Let the runner's server, set up but without a connection yet, take the short ways.

    They are spared the router, the match and the middleware. A request that is not plainly one of
    these (another spelling of the path, a query, an `Expect`) goes the usual way.
    """
    server = runner.server if runner is not None else None
    if server is None:
        raise RuntimeError("the runner is not set up")
    ways, usual = app[SHORT_WAYS], server.request_handler

    def serve(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        way = ways.get(request.raw_path) if request.method == "POST" else None
        if way is None or "Expect" in request.headers or not isinstance(request, web.Request):
            return usual(request)
        return way(request)

    server.request_handler = serve
