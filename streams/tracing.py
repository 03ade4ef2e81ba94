"""Trace context: the `traceparent` that goes along with a document (W3C Trace Context, level 1)."""

import re
from typing import Protocol

import structlog

from schemas.chance import random_bytes
from streams.bus.base import Record

_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Traced(Protocol):
    """What may belong to a trace: an event of any kind."""

    @property
    def traceparent(self) -> str | None:
        """The trace and the span that it comes from."""
        ...


def new_traceparent() -> str:
    """Begin a trace, sampled."""
    return f"00-{random_bytes().hex()}-{random_bytes().hex()[:16]}-01"


def child_of(traceparent: str | None) -> str:
    """Go on with a trace under a new span id; begin one where there is none or a broken one."""
    if traceparent is None or not _FORM.fullmatch(traceparent):
        return new_traceparent()
    return f"{traceparent[:36]}{random_bytes().hex()[:16]}{traceparent[52:]}"


def bind_message(record: Record, event: Traced, **whose: str | int) -> None:
    """Put a message's place, its trace's id and `whose` it is on every log line of this task."""
    structlog.contextvars.bind_contextvars(
        **whose,
        topic=record.partition.topic,
        partition=record.partition.number,
        offset=record.offset,
        trace=trace_id(event.traceparent),
    )


def trace_id(traceparent: str | None) -> str | None:
    """Give the trace's id for logs."""
    return traceparent[3:35] if traceparent else None
