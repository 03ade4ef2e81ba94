"""The gateway's parts: what it is given, and the keys under which its application holds them."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

from aiohttp import web

from schemas.timings import Timings
from schemas.webhook_source import Source
from services.keys import Key
from services.result_links import ResultLinks
from streams.admission import Terms
from streams.admission_rules import AdmissionRules
from streams.blobs.base import Blobs
from streams.bus.base import Producer
from streams.metrics import Recorder
from streams.settings import Defaults
from streams.tables.base import Tables

FindKey = Callable[[str], Awaitable[Key | None]]
"""Gives the key of a token, unless there is none or it was revoked."""

Check = Callable[[], Awaitable[None]]
"""Returns when a thing that the gateway needs is well, and raises when it is not."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sender may ask of the gateway."""

    max_upload_bytes: int
    idle_seconds: float
    """How long a sender may be silent within a body."""
    total_seconds: float
    """How long one body may last."""
    uploads_at_once: int


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """Whose webhooks are taken, and how many; `clock` gives unix seconds."""

    sources: Mapping[str, Source]
    per_second: float
    """Webhooks of one address."""
    max_bytes: int
    at_once: int = 1024
    """Webhooks of all addresses that may be under way."""
    event_source: str = "/parsewire/gateway"
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Parts:
    """The gateway's collaborators."""

    tables: Tables
    blobs: Blobs
    producer: Producer
    recorder: Recorder
    timings: Timings
    limits: Limits
    webhooks: WebhookRules
    links: ResultLinks
    find_key: FindKey
    checks: Mapping[str, Check]
    defaults: Defaults = field(default_factory=Defaults)
    """What holds of mode and rates where no operator changed it."""
    tenant_modes: frozenset[str] = frozenset()
    """The tenants that may choose a job's mode; `*` stands for all."""
    zone: tzinfo = UTC
    """Whose days and months budgets and reports count by."""
    key_cache_seconds: float = 3.0
    """How long a revoked key may still be taken."""
    check_seconds: float = 2.0
    """How long each readiness check may last."""

    @property
    def rules(self) -> AdmissionRules:
        """Give what holds for every document that is taken."""
        terms = Terms(self.timings, self.defaults, self.zone)
        return AdmissionRules(self.tables, terms, self.tenant_modes, self.limits.max_upload_bytes)


PARTS = web.AppKey("parts", Parts)

TRACEPARENT = web.RequestKey("traceparent", str)
