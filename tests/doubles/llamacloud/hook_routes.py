"""Routes of stored webhook configurations."""

import uuid
from typing import Any

from aiohttp import web

from tests.doubles.llamacloud.checks import hook_flaws
from tests.doubles.llamacloud.jobs import iso
from tests.doubles.llamacloud.parse_routes import body_of, page_of
from tests.doubles.llamacloud.replies import CLOUD, refuse
from tests.doubles.llamacloud.shape import flaw

FIELDS = ("webhook_url", "webhook_events", "webhook_headers", "webhook_output_format")


def view(request: web.Request, stored: dict[str, Any]) -> dict[str, Any]:
    """Give a configuration as the API shows it: never with its secret."""
    return {
        **{name: stored.get(name) for name in FIELDS},
        "id": stored["id"],
        "has_secret": bool(stored.get("webhook_signing_secret")),
        "tenant_id": request.app[CLOUD].project_id,
        "tenant_type": "project",
        "created_at": iso(stored["created_at"]),
        "updated_at": iso(stored["updated_at"]),
    }


def stored_of(request: web.Request) -> dict[str, Any]:
    """Give the configuration that a path names."""
    stored = request.app[CLOUD].hooks.get(request.match_info["config_id"])
    if stored is None:
        refuse(404, "Webhook configuration not found")
    return stored


async def checked(request: web.Request) -> dict[str, Any]:
    """Read a configuration, or refuse it."""
    body = await body_of(request)
    public_only = request.app[CLOUD].behaviour.public_hooks_only
    found = hook_flaws(body, public_only=public_only)
    if not found and body.get("webhook_events") == []:
        loc = ("body", "webhook_events")
        found = [flaw("too_short", loc, "List should have at least 1 item", [])]
    if found:
        refuse(422, found)
    return dict(body)


async def create_hook(request: web.Request) -> web.Response:
    """Store a configuration."""
    cloud = request.app[CLOUD]
    body = await checked(request)
    if not body.get("webhook_url"):
        refuse(422, [flaw("missing", ("body", "webhook_url"), "Field required", body)])
    now = cloud.clock()
    stored = body | {"id": f"whc-{uuid.uuid4()}", "created_at": now, "updated_at": now}
    cloud.hooks[stored["id"]] = stored
    return web.json_response(view(request, stored))


async def update_hook(request: web.Request) -> web.Response:
    """Change what a configuration's body names."""
    stored = stored_of(request)
    stored.update(await checked(request), updated_at=request.app[CLOUD].clock())
    return web.json_response(view(request, stored))


async def get_hook(request: web.Request) -> web.Response:
    """Give a configuration."""
    return web.json_response(view(request, stored_of(request)))


async def list_hooks(request: web.Request) -> web.Response:
    """Give all configurations at once, as v1 does."""
    return web.json_response([view(request, hook) for hook in request.app[CLOUD].hooks.values()])


async def page_hooks(request: web.Request) -> web.Response:
    """Give the configurations a page at a time, as v2 does."""
    rows = [view(request, hook) for hook in request.app[CLOUD].hooks.values()]
    return web.json_response(page_of(request, rows))


async def delete_hook(request: web.Request) -> web.Response:
    """Delete a configuration."""
    del request.app[CLOUD].hooks[stored_of(request)["id"]]
    return web.Response(status=204)


BASE = "/api/v1/beta/webhook-configs"
ROUTES = [
    web.post(BASE, create_hook, name="create_hook"),
    web.get(BASE, list_hooks, name="list_hooks", allow_head=False),
    web.get("/api/v2/webhook-configs", page_hooks, name="page_hooks", allow_head=False),
    web.get(BASE + "/{config_id}", get_hook, name="get_hook", allow_head=False),
    web.put(BASE + "/{config_id}", update_hook, name="update_hook"),
    web.delete(BASE + "/{config_id}", delete_hook, name="delete_hook"),
]
