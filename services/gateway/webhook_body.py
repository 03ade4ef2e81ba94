"""A webhook's body: its raw bytes, capped while they come, and bounded over all requests."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from aiohttp import StreamReader, web

from schemas.errors import Code
from services.gateway.address_limit import network_of
from services.gateway.body import CHUNK_BYTES, Body
from services.gateway.parts import Limits
from services.gateway.problems import DisconnectedError, RefusedError
from streams.content_length import content_length

_SMALL_BYTES = 1 << 16
"""What a body may have beside the shared room: the webhooks of honest vendors are small."""

_RETRY_AFTER_SECONDS = 1


class Room:
    """How many more bodies, and bytes of large ones, may be held by those not yet answered."""

    def __init__(self, most_bodies: int, most_bytes: int) -> None:
        self.bodies = most_bodies
        self.bytes = most_bytes
        self._most_of_one = max(1, most_bodies // 4)
        self._coming: Counter[str] = Counter()

    def enter(self) -> None:
        """Take a body's place; raise RefusedError(OVERLOADED) where there is none left."""
        if self.bodies == 0:
            raise _overloaded()
        self.bodies -= 1

    def leave(self, bodies: int) -> None:
        """Give so many places back."""
        self.bodies += bodies

    @contextmanager
    def waiting_for(self, address: str | None) -> Iterator[None]:
        """Count a body that is still coming; raise RefusedError where its sender has too many.

        Bodies that never come to their end cost a stranger nothing, and would take every place.
        """
        sender = network_of(address)
        if self._coming[sender] >= self._most_of_one:
            raise _too_many_coming()
        self._coming[sender] += 1
        try:
            yield
        finally:
            self._coming[sender] -= 1
            if not self._coming[sender]:
                del self._coming[sender]


class Place:
    """One body's share of the room; raise RefusedError(OVERLOADED) where there is none left."""

    __slots__ = ("_room", "_taken")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._taken = 0

    def __enter__(self) -> Self:
        self._room.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._room.leave(1)
        self._room.bytes += self._taken

    @property
    def room(self) -> Room:
        """The room that it is a place in."""
        return self._room

    def grow(self, size: int) -> None:
        """Take what a body of `size` bytes needs and has not got."""
        more = size - _SMALL_BYTES - self._taken
        if more > 0:
            if more > self._room.bytes:
                raise _overloaded()
            self._room.bytes -= more
            self._taken += more


def check_coding(headers: Mapping[str, str]) -> None:
    """Refuse a packed body.

    The signature stands over the bytes as they were sent, but senders that pack sign before they
    do so, or after; no vendor we know packs, and a packed bomb costs a stranger nothing.
    """
    coding = headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise RefusedError(
            Code.UNSUPPORTED_MEDIA_TYPE,
            "a webhook has no Content-Encoding",
            headers={"Accept-Encoding": "identity"},
            members={"accepted": ["identity"]},
        )


def read_whole(stream: StreamReader) -> bytes:
    """Read a body that has come whole; raise DisconnectedError where its sender has gone since."""
    if (error := stream.exception()) is not None:
        raise DisconnectedError from error
    return stream.read_nowait()


async def read_raw(request: web.Request, limits: Limits, place: Place, most_bytes: int) -> bytes:
    """Read the body as it is on the wire; raise RefusedError 413, 408, 400, 429 or 503."""
    stream = request.content
    if stream.is_eof():
        # A small body has come with its head: nothing is waited for, nothing is timed.
        content = read_whole(stream)
        if len(content) > most_bytes:
            raise _too_large(most_bytes)
        return content
    length = content_length(request.headers)
    if length is not None and length > most_bytes:
        raise _too_large(most_bytes)
    body = Body(request, limits)
    await body.begin()
    chunks: list[bytes] = []
    size = 0
    with place.room.waiting_for(request.remote):
        while chunk := await body.read():
            size += len(chunk)
            if size > most_bytes:
                raise _too_large(most_bytes)
            place.grow(size)
            chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def webhook_limits(limits: Limits, most_bytes: int) -> Limits:
    """Give the limits of a webhook's sender: its own size, and time as every sender has it."""
    # One chunk above it, so that the refusal is worded here.
    return Limits(most_bytes + CHUNK_BYTES, limits.idle_seconds, limits.total_seconds, 0)


def _too_large(most_bytes: int) -> RefusedError:
    return RefusedError(
        Code.TOO_LARGE,
        f"a webhook may have {most_bytes} bytes",
        members={"max_webhook_bytes": most_bytes},
    )


def _too_many_coming() -> RefusedError:
    return RefusedError(
        Code.TOO_MANY_REQUESTS,
        "too many unfinished webhooks come from this address",
        headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
    )


def _overloaded() -> RefusedError:
    return RefusedError(
        Code.OVERLOADED,
        "too many webhooks are under way",
        headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
    )
