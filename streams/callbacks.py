"""The callbacks listener: each source's webhooks to the one that reads them.

LlamaParse's are hints at whose job to look; other sources have readers of their own.
"""

from collections.abc import Awaitable, Callable, Mapping

import structlog

from schemas.codec import type_name
from schemas.errors import Code, PermanentError
from schemas.events import Event, VendorJobSeen, WebhookReceived
from schemas.topics import WEBHOOKS_RECEIVED, Topic
from schemas.webhook_source import LLAMAPARSE, read_json
from streams.blobs.base import Blobs
from streams.processor import Parked
from streams.vendor_look import VendorLook

log = structlog.get_logger(__name__)

_ENDS = frozenset({"parse.success", "parse.error", "parse.partial_success", "parse.cancelled"})
_BEFORE_THE_END = frozenset({"parse.pending", "parse.running"})


Reader = Callable[[str, WebhookReceived, bytes], Awaitable[Parked | None]]
"""Does what one webhook asks for, given its event's id and its body's bytes; again, to no harm."""


class Callbacks:
    """Hands every webhook to its source's reader; parks what it knows nothing about."""

    name = "callbacks"
    topics: tuple[Topic, ...] = (WEBHOOKS_RECEIVED,)

    def __init__(
        self,
        looks: Mapping[str, VendorLook],
        blobs: Blobs,
        readers: Mapping[str, Reader] | None = None,
    ) -> None:
        self._looks = looks
        self._blobs = blobs
        self._readers: Mapping[str, Reader] = {LLAMAPARSE.name: self._follow, **(readers or {})}

    async def handle(self, event: Event) -> Parked | None:
        """Handle one event."""
        body = event.body
        if isinstance(body, VendorJobSeen):
            return await self._look(body.parser, body.vendor_job_id)
        if not isinstance(body, WebhookReceived):
            raise PermanentError(
                Code.POISON_EVENT, f"{type_name(body)} does not belong in webhooks.received"
            )
        read = self._readers.get(body.webhook)
        if read is None:
            return _unknown(f"no parser of this deployment listens to {body.webhook!r}")
        content = body.content if body.blob is None else await self._blobs.read(body.blob)
        return await read(event.id, body, content)

    async def _follow(self, event_id: str, body: WebhookReceived, content: bytes) -> Parked | None:
        """Look at the job that LlamaCloud tells of; nothing else in its webhook is believed."""
        envelope = read_json(content)
        kind = str(envelope.get("event_type") if isinstance(envelope, dict) else None)
        if kind in _BEFORE_THE_END:
            return None
        if kind not in _ENDS:
            return _unknown(f"the event type {kind[:80]!r} means nothing here")
        if body.subject == event_id:
            return _unknown("the webhook names no job")
        return await self._look(LLAMAPARSE.name, body.subject)

    async def _look(self, parser: str, vendor_job_id: str) -> Parked | None:
        look = self._looks.get(parser)
        if look is None:
            return _unknown(f"{parser} is not configured here")
        return await look.at(vendor_job_id)


def _unknown(reason: str) -> Parked:
    log.info("webhook_parked", reason=reason)
    return Parked(Code.WEBHOOK_UNKNOWN, reason)
