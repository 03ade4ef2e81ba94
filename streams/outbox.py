"""The outbox: events written in the transaction that makes them true."""

from collections.abc import Iterable

import orjson
from msgspec import structs

from schemas import codec
from schemas.events import Event
from schemas.ids import derived_id
from schemas.topics import key_of, topic_of
from streams.tables.base import OutboxRow, Transaction

TAKEOVER_MS = 5_000
"""How long the process that wrote an event has to send it before any relay may."""


async def put_events(tx: Transaction, events: Iterable[Event]) -> None:
    """Write events to the outbox, and have them sent once the transaction has committed."""
    rows = [_row(event) for event in events]
    if not rows:
        return
    await tx.run_many(
        "outbox.put",
        [
            {
                "event_id": row.event_id,
                "topic": row.topic,
                "key": row.key,
                "value": row.value,
                "headers": row.headers,
                "kept_until_seen": row.kept_until_seen,
            }
            for row in rows
        ],
        takeover_ms=TAKEOVER_MS,
    )
    tx.announce(rows)


async def put_keyed(tx: Transaction, event: Event, raw_key: bytes | None) -> None:
    """Write an event whose record has this key, any bytes; None: the key that its like have.

    The same event may be on its way under several keys, each of them a row by an id of its own.
    """
    row = structs.replace(_row(event), raw_key=raw_key)
    if raw_key is not None:
        row = structs.replace(row, event_id=derived_id(event.id, raw_key.hex()))
    if row.kept_until_seen:
        raise ValueError(f"nobody tells when an event of {row.topic} was seen under another key")
    await tx.run(
        "outbox.put_keyed",
        event_id=row.event_id,
        topic=row.topic,
        key=row.key,
        raw_key=raw_key,
        value=row.value,
        headers=row.headers,
        takeover_ms=TAKEOVER_MS,
    )
    tx.announce([row])


def _row(event: Event) -> OutboxRow:
    value, texts = codec.encode_text(event)
    topic = topic_of(event.body)
    return OutboxRow(
        event.id, topic.name, key_of(event.body), value, orjson.dumps(texts), topic.kept_until_seen
    )
