"""Webhooks: verified over their raw bytes, published, then 202; no table on this path."""

from collections.abc import Callable

from aiohttp import web

from schemas.errors import Code
from services.gateway.address_limit import AddressLimit
from services.gateway.answers import answer
from services.gateway.parts import Parts
from services.gateway.problems import RefusedError
from services.gateway.webhook_body import Room, webhook_limits
from services.gateway.webhook_door import Door, too_many
from services.gateway.webhook_health import show_all
from streams.metrics import WEBHOOKS

_LARGE_BODIES_AT_ONCE = 4
_UNKNOWN = "unknown"


class Webhooks:
    """Takes webhooks of every source, from any address."""

    def __init__(self, parts: Parts, monotonic: Callable[[], float]) -> None:
        hooks = parts.webhooks
        self._clock = hooks.clock
        self._recorder = parts.recorder
        self._addresses = AddressLimit(hooks.per_second, monotonic)
        limits = webhook_limits(parts.limits, hooks.max_bytes)
        room = Room(hooks.at_once, _LARGE_BODIES_AT_ONCE * hooks.max_bytes)
        self.doors = {
            name: Door(source, parts, limits, self._addresses, room)
            for name, source in hooks.sources.items()
        }
        """Each source's door, by the last part of its path."""

    async def show_health(self, _request: web.Request) -> web.Response:
        """Tell how each source is configured, and what it was sent since the start."""
        sources = [(door.source, door.tally) for door in self.doors.values()]
        return answer(show_all(sources, self._clock()))

    async def refuse_unknown(self, request: web.Request) -> web.Response:
        """Answer for every name that is no source's."""
        unknown = RefusedError(Code.NOT_FOUND, "there is no such webhook source")
        error = too_many(self._addresses, request.remote) or unknown
        self._recorder.add(WEBHOOKS, source=_UNKNOWN, outcome=error.code.value)
        raise error
