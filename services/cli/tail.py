"""The tail: what goes over the topics, read as any other consumer reads it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from schemas.codec import CodecError, decode, type_name
from schemas.events import JobMoved, WebhookReceived
from schemas.job import UNFINISHED
from schemas.topics import Topic
from services.cli.reading import Reading, open_reading
from streams.bus.base import Bus, Record

_SHOWN_BYTES = 15


@dataclass(frozen=True, slots=True, order=True)
class Seen:
    """A record as it stood on its topic."""

    timestamp_ms: int
    topic: str
    partition: int
    offset: int
    type: str
    key: str
    note: str = ""


class Tail:
    """Keeps the heads of what was read."""

    def __init__(self) -> None:
        self._seen: list[Seen] = []
        self._ended: set[str] = set()
        self._read = asyncio.Event()

    def take(self, record: Record) -> None:
        """Keep the head of a record."""
        self._keep(record)
        self._read.set()

    async def of_jobs(self, job_ids: Iterable[str], *, within_seconds: float) -> Sequence[Seen]:
        """Give what was seen of these jobs once each one's end was, or the time is over."""
        wanted = frozenset(job_ids)
        try:
            async with asyncio.timeout(within_seconds):
                while not wanted <= self._ended:
                    self._read.clear()
                    await self._read.wait()
        except TimeoutError:
            pass
        return sorted(seen for seen in self._seen if seen.key in wanted)

    async def of_keys(
        self, topic: Topic, keys: Iterable[str], *, within_seconds: float
    ) -> Sequence[Seen]:
        """Give what was seen on a topic once something of each key was, or the time is over."""
        wanted = frozenset(keys)
        try:
            async with asyncio.timeout(within_seconds):
                while not wanted <= {seen.key for seen in self._seen if seen.topic == topic.name}:
                    self._read.clear()
                    await self._read.wait()
        except TimeoutError:
            pass
        return sorted(s for s in self._seen if s.topic == topic.name and s.key in wanted)

    def _keep(self, record: Record) -> None:
        key = (record.key or b"").decode(errors="replace")
        note = ""
        try:
            body = decode(record.value, record.headers).body
        except CodecError:
            kind = "(not ours)"
        else:
            kind = type_name(body)
            if isinstance(body, JobMoved):
                kind = f"{kind} -> {body.to_state}"
                if body.to_state not in UNFINISHED:
                    self._ended.add(body.job_id)
            if isinstance(body, WebhookReceived):
                note = _signatures(body)
        place = record.partition
        self._seen.append(
            Seen(record.timestamp_ms, place.topic, place.number, record.offset, kind, key, note)
        )


def _signatures(webhook: WebhookReceived) -> str:
    """Write the beginning of what proves it: enough to know it again."""
    return "  ".join(
        f"{name}: {value[:_SHOWN_BYTES].decode(errors='replace')}..."
        for name, value in webhook.headers
        if name.endswith("signature")
    )


@asynccontextmanager
async def open_tail(bus: Bus, topics: Sequence[Topic]) -> AsyncIterator[Tail]:
    """Read the topics beside the block, in a consumer group of its own."""
    tail = Tail()
    async with open_reading(Reading(lambda: bus, topics, tail.take, from_start=True)):
        yield tail
