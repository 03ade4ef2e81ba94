"""The gateway's parts: what it is given, and the keys under which its application holds them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from schemas.job import Timings
from services.keys import Key
from streams.blobs.base import Blobs
from streams.metrics import Recorder
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
class Parts:
    """The gateway's collaborators."""

    tables: Tables
    blobs: Blobs
    recorder: Recorder
    timings: Timings
    limits: Limits
    find_key: FindKey
    checks: Mapping[str, Check]
    key_cache_seconds: float = 3.0
    """How long a revoked key may still be taken."""
    check_seconds: float = 2.0
    """How long each readiness check may last."""


PARTS = web.AppKey("parts", Parts)

TRACEPARENT = web.RequestKey("traceparent", str)
