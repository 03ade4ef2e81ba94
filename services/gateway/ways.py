"""Ways: what serves the plain requests of a path that the front reads by itself."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

from aiohttp import web
from aiohttp.http import RawRequestMessage


class Peer(Protocol):
    """Who waits for the answer to a request."""

    remote: str | None
    """Its address."""

    def answer(self, content: bytes) -> None:
        """Send the whole answer; where it is empty the connection is closed without one."""


class Way(ABC):
    """Serves the plain requests of one path."""

    most_bytes: int
    """What a body may have; a longer one takes the usual way."""

    @abstractmethod
    def take(self, peer: Peer, message: RawRequestMessage, content: bytes) -> None:
        """Have `peer.answer` called once, now or later; raise nothing."""


WAYS = web.AppKey("ways", Mapping[str, Way])
"""An application's ways by their whole paths; each path is a route of the application too."""
