"""The codec: an event to a record's value and headers, and back (CloudEvents 1.0, Kafka binary).

Source of the header names: CloudEvents Kafka Protocol Binding 1.0, section 3.2 (binary content
mode): `ce_` before each attribute, `content-type` for the body.
"""

import typing
from collections.abc import Iterable
from datetime import datetime, tzinfo
from functools import lru_cache

import msgspec
import orjson

from schemas.errors import Code, PermanentError
from schemas.events import Body, Event, WebhookReceived
from schemas.webhook_record import from_record, to_headers

TYPE_PREFIX = "com.parsewire."
CONTENT_TYPE = "application/json"

UNREADABLE = "ce_pwunreadable"
"""The header in which a bus says why the record is no event, where only the bus can see it."""

Headers = tuple[tuple[str, bytes], ...]
TextHeaders = tuple[tuple[str, str], ...]

_CLASSES: dict[str, type] = {TYPE_PREFIX + c.__name__: c for c in typing.get_args(Body)}
_KINDS: dict[type, tuple[str, str]] = {c: ("ce_type", name) for name, c in _CLASSES.items()}
_VERSION = ("ce_specversion", "1.0")
_JSON = ("content-type", CONTENT_TYPE)


class CodecError(PermanentError):
    """The record is not an event of ours, or is a broken one."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.POISON_EVENT, message)


def encode(event: Event) -> tuple[bytes, Headers]:
    """Write the event: JSON value of its body, headers of its attributes.

    A webhook's value is the raw bytes of its request, whatever they are.
    """
    body = event.body
    if isinstance(body, WebhookReceived):
        version, source, kind = _fixed_of_webhooks(event.source)
        headers = [
            version,
            ("ce_id", event.id.encode()),
            source,
            kind,
            ("ce_time", _time_text(event.time, event.time.tzinfo).encode()),
            *to_headers(body),
        ]
        if event.traceparent is not None:
            headers.append(("traceparent", event.traceparent.encode()))
        return body.content, tuple(headers)
    value, texts = encode_text(event)
    return value, _raw(texts)


def encode_text(event: Event) -> tuple[bytes, TextHeaders]:
    """Write the event as `encode` does, its headers as text: any event but a webhook."""
    body = event.body
    headers: TextHeaders = (
        _VERSION,
        ("ce_id", event.id),
        ("ce_source", event.source),
        _KINDS[type(body)],
        ("ce_time", _time_text(event.time, event.time.tzinfo)),
        _JSON,
    )
    if event.traceparent is not None:
        headers = (*headers, ("traceparent", event.traceparent))
    return orjson.dumps(body), headers


def decode(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> Event:
    """Read an event; raise CodecError, and nothing else, for whatever is not one."""
    headers = tuple(headers)
    texts = _texts(headers)
    if UNREADABLE in texts:
        raise CodecError(texts[UNREADABLE][:600])
    kind = texts.get("ce_type")
    cls = _CLASSES.get(kind or "")
    if cls is None:
        raise CodecError(f"ce_type {kind!r} is no event's, see docs/topics.md"[:600])
    if value is None:
        raise CodecError(f"{kind} without a value")
    try:
        body: Body
        if cls is WebhookReceived:
            body = from_record(value, headers)
        else:
            body = msgspec.convert(orjson.loads(value), cls)
        moment = datetime.fromisoformat(texts["ce_time"])
    except KeyError:
        raise CodecError("no ce_time header") from None
    except (ValueError, msgspec.ValidationError, RecursionError) as error:
        raise CodecError(f"{kind}: {error}"[:600]) from None
    if moment.tzinfo is None:
        raise CodecError(f"ce_time {texts['ce_time']!r} has no time zone")
    for name in ("ce_id", "ce_source"):
        if not texts.get(name):
            raise CodecError(f"no {name} header")
    return Event(texts["ce_id"], texts["ce_source"], moment, body, texts.get("traceparent"))


def type_name(body: Body) -> str:
    """Name the body's kind as people see it: the CloudEvents type without its prefix."""
    return type(body).__name__


@lru_cache(maxsize=16)
def _fixed_of_webhooks(source: str) -> Headers:
    """Write what all webhooks of a process have in common."""
    return _raw((_VERSION, ("ce_source", source), _KINDS[WebhookReceived]))


def _raw(headers: TextHeaders) -> Headers:
    return tuple([(name, text.encode()) for name, text in headers])


@lru_cache(maxsize=16)
def _time_text(moment: datetime, _zone: tzinfo | None) -> str:
    """Write a time once for the many events of its transaction; the zone tells equals apart."""
    return moment.isoformat()


def _texts(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    named = [
        (name, raw)
        for name, raw in headers
        if raw is not None and (name[:3] == "ce_" or name == "traceparent")
    ]
    try:
        return {name: raw.decode() for name, raw in named}
    except UnicodeDecodeError as error:
        name = next(name for name, raw in named if raw == error.object)
        raise CodecError(f"header {name} is not UTF-8") from None
