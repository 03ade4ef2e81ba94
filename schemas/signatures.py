"""Webhook signatures: a request signed by a scheme, and verified over its raw bytes."""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Sequence
from enum import StrEnum

from schemas.signature_scheme import Scheme, parts_of

Headers = Sequence[tuple[str, bytes]]
"""A request's headers, names in lower case."""

_ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "hex": binascii.hexlify,
    "hex-upper": lambda digest: digest.hex().upper().encode(),
    "base64": base64.b64encode,
}
_TIMESTAMP = re.compile(rb"[0-9]{1,12}")
_MOST_SIGNATURES = 16
_BODY_ALONE = "{body}"


class Refusal(StrEnum):
    """Why a request is not taken; for the log and for people, never for the sender."""

    UNCONFIGURED = "unconfigured"
    NO_SIGNATURE = "no_signature"
    MALFORMED = "malformed"
    STALE = "stale"
    FUTURE = "future"
    MISMATCH = "mismatch"


def verify(
    scheme: Scheme, keys: Sequence[bytes], headers: Headers, body: bytes, unix_seconds: float
) -> int | Refusal:
    """Give the index of the key that signed the request, or why none did; nothing raises.

    The signature must be written exactly as the scheme writes it: hex in its case, no blanks.
    """
    header = _single(headers, scheme.header_key)
    if isinstance(header, Refusal):
        return header
    items = header.split(scheme.separator.encode()) if scheme.separator else [header]
    if len(items) > _MOST_SIGNATURES:
        return Refusal.MALFORMED
    content = body
    if scheme.template != _BODY_ALONE:
        filled = _signed(scheme, headers, items, body, unix_seconds)
        if isinstance(filled, Refusal):
            return filled
        content = filled
    given = []
    for prefix in scheme.prefix_bytes:
        given += [item[len(prefix) :] for item in items if item.startswith(prefix)]
    return _signer(scheme, keys, content, given)


def _signed(
    scheme: Scheme, headers: Headers, items: Sequence[bytes], body: bytes, unix_seconds: float
) -> bytes | Refusal:
    """Put together what is signed beside the body, or say what is wrong with it."""
    signed = {"body": body}
    if scheme.timed:
        stamp = _timestamp(scheme, headers, items)
        if stamp is None:
            return Refusal.MALFORMED
        age_seconds = unix_seconds - int(stamp)
        if abs(age_seconds) > scheme.tolerance_seconds:
            return Refusal.STALE if age_seconds > 0 else Refusal.FUTURE
        signed["timestamp"] = stamp
    if scheme.signs_id:
        event_id = _single(headers, scheme.id_header.lower())
        if not isinstance(event_id, bytes):
            return Refusal.MALFORMED
        signed["id"] = event_id
    return _filled(scheme.template, signed)


def sign(
    scheme: Scheme, key: bytes, body: bytes, *, event_id: str, unix_seconds: int
) -> tuple[tuple[str, str], ...]:
    """Give the headers that a sender adds to a request, the signature last."""
    stamp = str(unix_seconds)
    signed = {"body": body, "id": event_id.encode(), "timestamp": stamp.encode()}
    digest = hmac.digest(key, _filled(scheme.template, signed), "sha256")
    signature = scheme.prefixes[0] + _ENCODE[scheme.encoding](digest).decode()
    headers: list[tuple[str, str]] = []
    if scheme.id_header:
        headers.append((scheme.id_header, event_id))
    if scheme.timestamp_header:
        headers.append((scheme.timestamp_header, stamp))
    if scheme.timestamp_prefix:
        signature = f"{scheme.timestamp_prefix}{stamp}{scheme.separator}{signature}"
    return (*headers, (scheme.header, signature))


def _signer(
    scheme: Scheme, keys: Sequence[bytes], content: bytes, given: Sequence[bytes]
) -> int | Refusal:
    encode = _ENCODE[scheme.encoding]
    found: int | Refusal = Refusal.MISMATCH
    for index, key in enumerate(keys):
        wanted = encode(hmac.digest(key, content, "sha256"))
        for signature in given:
            if hmac.compare_digest(wanted, signature) and found is Refusal.MISMATCH:
                found = index
    return found


def _single(headers: Headers, name: str) -> bytes | Refusal:
    """Give a header's value, its name in lower case; of two nobody can say which was meant."""
    found: bytes | Refusal = Refusal.NO_SIGNATURE
    for given, value in headers:
        if given == name:
            if found is not Refusal.NO_SIGNATURE:
                return Refusal.MALFORMED
            found = value
    return found


def _timestamp(scheme: Scheme, headers: Headers, items: Sequence[bytes]) -> bytes | None:
    """Give the unix seconds as they were sent, plain digits, or None."""
    if scheme.timestamp_header:
        stamp = _single(headers, scheme.timestamp_header.lower())
    else:
        prefix = scheme.timestamp_prefix.encode()
        stamps = [item[len(prefix) :] for item in items if item.startswith(prefix)]
        stamp = stamps[0] if len(stamps) == 1 else Refusal.MALFORMED
    if not isinstance(stamp, bytes) or _TIMESTAMP.fullmatch(stamp) is None:
        return None
    return stamp


def _filled(template: str, values: dict[str, bytes]) -> bytes:
    if template == _BODY_ALONE:
        return values["body"]
    return b"".join(
        literal + (values[field] if field else b"") for literal, field in parts_of(template)
    )
