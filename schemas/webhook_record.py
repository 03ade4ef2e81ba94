"""A webhook as a record: the request's raw bytes as the value, all else about it in headers."""

from collections.abc import Iterable

import msgspec

from schemas.events import BlobRef, WebhookReceived

Headers = tuple[tuple[str, bytes], ...]

_WEBHOOK, _SUBJECT, _BLOB, _HTTP = "pw-webhook", "ce_subject", "pw-blob", "http-"
_CONTENT_TYPE = "content-type"
_UNSAID_TYPE = b"application/octet-stream"


def to_headers(body: WebhookReceived) -> list[tuple[str, bytes]]:
    """Give the headers of the record that are the webhook's own."""
    headers = [
        (_CONTENT_TYPE, _UNSAID_TYPE),
        (_WEBHOOK, body.webhook.encode()),
        (_SUBJECT, body.subject.encode()),
    ]
    for name, raw in body.headers:
        if name == _CONTENT_TYPE:
            headers[0] = (_CONTENT_TYPE, raw)
        headers.append((_HTTP + name, raw))
    if body.blob is not None:
        headers.append((_BLOB, msgspec.json.encode(body.blob)))
    return headers


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
