"""The gateway's application: its routes, and what stands around them."""

import time
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from services.gateway import budget_routes, cost_routes, job_routes, link_routes, probes
from services.gateway.answers import API
from services.gateway.bearer import KeyHandler, KeyRing, with_key
from services.gateway.expectations import OddExpectations, expect_nothing
from services.gateway.middleware import Observer
from services.gateway.parts import PARTS, Parts
from services.gateway.result_route import show_result
from services.gateway.server_log import server_log
from services.gateway.service_routes import show_services
from services.gateway.uploads import PLACES, Places, upload
from services.gateway.ways import WAYS, Way
from services.gateway.webhook_short_way import ShortWay
from services.gateway.webhooks import Webhooks
from services.result_links import PATH as RESULTS

_LINGER_SECONDS = 5.0
"""How long the rest of a refused body is read and dropped."""

_HANDLER_ARGS = {
    # aiohttp unpacks bodies by itself, but takes a gzip body that ends early for a whole one.
    "auto_decompress": False,
    # A client that leaves between the commit and its answer must not stop what comes after it.
    "handler_cancellation": False,
    "lingering_time": _LINGER_SECONDS,
    "logger": server_log(),
}


@dataclass(frozen=True, slots=True)
class Route:
    """A route: method, path, and what it is for."""

    method: str
    path: str
    meaning: str
    handler: KeyHandler


_BUDGET = f"{API}/budgets/{{whose}}/{{period}}"

ROUTES = (
    Route("POST", f"{API}/upload", "Upload a document: form part `file`, or a raw body.", upload),
    Route("GET", f"{API}/jobs", "List jobs: ?state=&limit=&before=", job_routes.show_jobs),
    Route("GET", f"{API}/jobs/{{job_id}}", "Show a job.", job_routes.show_job),
    Route("GET", f"{API}/jobs/{{job_id}}/history", "Show its events.", job_routes.show_history),
    Route(
        "GET",
        f"{API}/jobs/{{job_id}}/result{{suffix:(?:\\.[^/]*)?}}",
        "Get its result: .md, .txt, .json, or by Accept.",
        show_result,
    ),
    Route(
        "POST",
        f"{API}/jobs/{{job_id}}/link",
        "Make a link to its result that needs no key.",
        link_routes.make_link,
    ),
    Route("POST", f"{API}/jobs/{{job_id}}/retry", "Ask to run it again.", job_routes.retry),
    Route("POST", f"{API}/jobs/{{job_id}}/cancel", "Ask to cancel it.", job_routes.cancel),
    Route("GET", f"{API}/services", "Show mode and parsers.", show_services),
    Route(
        "GET",
        f"{API}/costs",
        "Show costs: ?by=day|service|tenant|tier|job&since=&until=&format=json|csv",
        cost_routes.show_costs,
    ),
    Route("GET", f"{API}/costs/forecast", "Show costs to come.", cost_routes.show_forecast),
    Route("GET", f"{API}/budgets", "Show the budgets.", budget_routes.show_budgets),
    Route("PUT", _BUDGET, "Set one, as `tenant:acme/month`.", budget_routes.put_budget),
    Route("DELETE", _BUDGET, "Remove one.", budget_routes.delete_budget),
    Route("POST", f"{API}/budgets/freeze", "Stop all spending.", budget_routes.freeze_spending),
    Route(
        "POST", f"{API}/budgets/unfreeze", "Let spending go on.", budget_routes.unfreeze_spending
    ),
)
"""What needs a key."""

OPEN_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("/health", "Whether the gateway lives.", probes.health),
    ("/ready", "Whether it can serve: bus, tables, blobs.", probes.ready),
    ("/metrics", "Prometheus metrics.", probes.metrics),
    (
        f"{RESULTS}/{{token}}",
        "Get a result by its link: ?format=md|txt|json, or by Accept.",
        link_routes.show_linked_result,
    ),
)


def build_app(parts: Parts) -> web.Application:
    """Build the application from its parts."""
    observer = Observer(parts.recorder)
    app = web.Application(
        middlewares=[observer.middleware()],
        handler_args=_HANDLER_ARGS,
    )
    app[PARTS] = parts
    app[PLACES] = Places(parts.limits.uploads_at_once)
    ring = KeyRing(parts.find_key, parts.key_cache_seconds, time.monotonic)
    endpoints = {}
    webhooks = Webhooks(parts, time.monotonic)
    open_routes = (
        *OPEN_ROUTES,
        (f"{API}/webhooks/health", "How each webhook source does.", webhooks.show_health),
    )
    for path, meaning, handler in open_routes:
        app.router.add_get(path, handler, expect_handler=expect_nothing)
        endpoints[f"GET {path}"] = meaning
    for route in ROUTES:
        resource = app.router.add_resource(route.path)
        guarded = with_key(route.handler, ring)
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            resource.add_route(method, guarded, expect_handler=expect_nothing)
        path = resource.canonical.replace("{suffix}", "[.md|.txt|.json]")
        endpoints[f"{route.method} {path}"] = route.meaning
    ways: dict[str, Way] = {}
    for name, door in webhooks.doors.items():
        path = f"{API}/webhooks/{name}"
        app.router.add_post(path, door.receive, expect_handler=expect_nothing)
        ways[path] = ShortWay(door, observer, path)
    app[WAYS] = ways
    unknown = f"{API}/webhooks/{{source}}"
    app.router.add_post(unknown, webhooks.refuse_unknown, expect_handler=expect_nothing)
    endpoints[f"POST {unknown}"] = "Take a vendor's signed webhook."
    index = probes.index_of({"GET /": "This map.", **endpoints})
    app.router.add_get("/", index, expect_handler=expect_nothing)
    app.router.register_resource(OddExpectations())
    return app
