"""A webhook as a record: the request's raw bytes as the value, all else about it in headers."""

from collections.abc import Iterable

import msgspec

from schemas.events import BlobRef, WebhookReceived

Headers = tuple[tuple[str, bytes], ...]

_WEBHOOK, _SUBJECT, _BLOB, _HTTP = "pw-webhook", "ce_subject", "pw-blob", "http-"


def to_record(body: WebhookReceived) -> tuple[bytes, Headers]:
    """Give the record's value and the headers that are the webhook's own."""
    headers: Headers = (
        (_WEBHOOK, body.webhook.encode()),
        (_SUBJECT, body.subject.encode()),
        *[(_HTTP + name, raw) for name, raw in body.headers],
    )
    if body.blob is not None:
        headers += ((_BLOB, msgspec.json.encode(body.blob)),)
    return body.content, headers


def from_record(value: bytes, headers: Iterable[tuple[str, bytes | None]]) -> WebhookReceived:
    """Read it back; raise ValueError for what is not one."""
    known: dict[str, bytes] = {}
    http: list[tuple[str, bytes]] = []
    for name, raw in headers:
        if raw is None:
            continue
        if name.startswith(_HTTP):
            http.append((name.removeprefix(_HTTP), raw))
        else:
            known[name] = raw
    if _WEBHOOK not in known or _SUBJECT not in known:
        raise ValueError(f"a webhook's record has {_WEBHOOK} and {_SUBJECT} headers")
    blob = known.get(_BLOB)
    return WebhookReceived(
        webhook=known[_WEBHOOK].decode(),
        subject=known[_SUBJECT].decode(),
        headers=tuple(http),
        content=value,
        blob=None if blob is None else msgspec.json.decode(blob, type=BlobRef),
    )
