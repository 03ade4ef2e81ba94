"""Result links: tokens that open one result for a while, signed over all that they say."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import orjson

_LONGEST = 400
_Payload = tuple[str, str, int, str, int]
"""The key's name, then the fields of a Grant."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token opens: the result of one attempt of a tenant's job, until a unix second."""

    job_id: str
    attempt: int
    tenant: str
    expires_unix: int


class LinkKeys:
    """The secrets of a deployment's links: the first one signs, and each is taken."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = {_name(secret): secret.encode() for secret in secrets}
        self._signer = _name(secrets[0])

    def sign(self, grant: Grant) -> str:
        """Write a token: base64url of what it says, a dot, base64url of its HMAC-SHA256."""
        said: _Payload = (
            self._signer,
            grant.job_id,
            grant.attempt,
            grant.tenant,
            grant.expires_unix,
        )
        payload = base64.urlsafe_b64encode(orjson.dumps(said)).rstrip(b"=")
        return b".".join((payload, _signature(self._keys[self._signer], payload))).decode()

    def read(self, token: str) -> Grant | None:
        """Give what a token of ours opens, None for any other; the caller looks at the time."""
        if len(token) > _LONGEST or not token.isascii():
            return None
        payload, _, signature = token.encode().partition(b".")
        try:
            padded = payload + b"=" * (-len(payload) % 4)
            name, *fields = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Payload)
        except ValueError:
            return None
        key = self._keys.get(name)
        # As text: of the bytes behind it, base64 leaves two bits of the last letter open.
        if key is None or not hmac.compare_digest(signature, _signature(key, payload)):
            return None
        return Grant(*fields)


def _name(secret: str) -> str:
    """Name a key by eight letters that tell nothing of it."""
    return hashlib.sha256(b"parsewire.result-link/" + secret.encode()).hexdigest()[:8]


def _signature(key: bytes, payload: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.digest(key, payload, "sha256")).rstrip(b"=")
