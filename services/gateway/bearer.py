"""Bearer keys: who sends a request, with a short memory of keys that were found."""

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from schemas.errors import Code
from services.gateway.parts import FindKey
from services.gateway.problems import RefusedError
from services.keys import PREFIX, Key, hash_token

_MOST_KEPT = 10_000
_LONGEST_TOKEN = 200

KeyHandler = Callable[[web.Request, Key], Awaitable[web.StreamResponse]]


class KeyRing:
    """Finds keys, and remembers each for a few seconds: a table read per request is too dear.

    Wrong tokens are not remembered, so that a new key serves at once.
    """

    def __init__(self, find_key: FindKey, keep_seconds: float, clock: Callable[[], float]) -> None:
        self._find_key = find_key
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._kept: dict[str, tuple[Key, float]] = {}

    async def find(self, token: str) -> Key | None:
        """Give the key of a token, unless there is none or it was revoked a while ago."""
        # The secret itself is no dictionary key: comparing it would take a time that tells of it.
        digest = hash_token(token)
        kept = self._kept.get(digest)
        now = self._clock()
        if kept is not None and now < kept[1]:
            return kept[0]
        key = await self._find_key(token)
        if key is None:
            self._kept.pop(digest, None)
            return None
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[digest] = (key, now + self._keep_seconds)
        return key


def with_key(handler: KeyHandler, ring: KeyRing) -> Handler:
    """Serve only those who show a key, and hand it to the handler."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        key = await ring.find(_token(request))
        if key is None:
            raise _unauthorized("the key is unknown or was revoked", ', error="invalid_token"')
        structlog.contextvars.bind_contextvars(tenant=key.tenant, key=key.id)
        return await handler(request, key)

    return guarded


def _token(request: web.Request) -> str:
    header = request.headers.get("Authorization")
    if header is None:
        raise _unauthorized("there is no Authorization header")
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer":
        raise _unauthorized("the Authorization header is no Bearer one")
    if not token.startswith(PREFIX) or len(token) > _LONGEST_TOKEN or not token.isascii():
        raise _unauthorized("the token has not the form of a key", ', error="invalid_token"')
    return token


def _unauthorized(detail: str, more: str = "") -> RefusedError:
    challenge = f'Bearer realm="parsewire"{more}'
    return RefusedError(Code.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})
