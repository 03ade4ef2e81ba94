"""The contracts of the bus as files: asyncapi.yaml and a JSON Schema for each event.

Sources: AsyncAPI 3.0.0 and its Kafka bindings 0.5.0. `python -m services.documentation` writes
them; none is ever edited.
"""

import typing
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from schemas.codec import CONTENT_TYPE, TYPE_PREFIX, encode
from schemas.events import Body, Event, WebhookReceived
from schemas.topics import DOCUMENTS_SUBMITTED, MAX_RECORD_BYTES, TOPICS, Topic
from services.config import Settings
from services.contract_headers import cloud_event, document_headers, event_headers
from services.contract_roles import OPERATIONS, Operation
from services.event_examples import CONTENT, DOCUMENT_HEADERS, EXAMPLES
from services.event_schemas import breaks, event_schema, summary
from services.yaml_text import yaml_text

EVENTS: tuple[type[Body], ...] = typing.get_args(Body)
ASYNCAPI = "asyncapi.yaml"
DOCUMENT = "Document"
"""The message that is no event: a producer's document as the record's value."""

_HOUR_MS = 3_600_000
_BINDING = "0.5.0"

Part = dict[str, Any]


class BrokenContractError(Exception):
    """The classes no longer take what was written by the schema that is there."""


def asyncapi() -> Part:
    """Describe every topic, message and role."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Parsewire",
            "version": version("parsewire"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "kafka": {
                "host": "localhost:9092",
                "protocol": "kafka",
                "description": "The brokers of PARSEWIRE_KAFKA_BOOTSTRAP_SERVERS.",
            }
        },
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {operation.name: _operation(operation) for operation in OPERATIONS},
        "components": {
            "schemas": {"CloudEvent": cloud_event()},
            "messages": {DOCUMENT: _document_message(), **dict(map(_message, EXAMPLES))},
        },
    }


def schema_path(kind: type[Body]) -> str:
    """Name the file of an event's schema."""
    return f"schemas/json/{kind.__name__}.json"


def contract_files() -> dict[str, str]:
    """Make every file of the contracts, by its path."""
    texts = {schema_path(kind): _json(event_schema(kind)) for kind in EVENTS}
    return texts | {ASYNCAPI: _HEAD + yaml_text(asyncapi())}


def write_contracts(root: Path) -> None:
    """Write the files below a folder; raise BrokenContractError before it writes a broken one."""
    broken = [
        f"{kind.__name__}: {what}"
        for kind in EVENTS
        if (path := root / schema_path(kind)).exists()
        for what in breaks(orjson.loads(path.read_bytes()), event_schema(kind))
    ]
    if broken:
        raise BrokenContractError("; ".join(broken))
    for name, text in contract_files().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def _channel(topic: Topic) -> Part:
    address = Settings.model_fields["topic_prefix"].default + topic.name
    names = [DOCUMENT] if topic is DOCUMENTS_SUBMITTED else []
    names += [event.__name__ for event in topic.events]
    more = " The topics of PARSEWIRE_INTAKE carry the same." if topic is DOCUMENTS_SUBMITTED else ""
    retention = {"cleanup.policy": ["delete"], "retention.ms": topic.retention_hours * _HOUR_MS}
    return {
        "address": address,
        "title": topic.name,
        "description": f"Key: {topic.key}. Kept for {topic.retention_hours} h.{more}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "topic": address,
                "partitions": topic.partitions,
                "topicConfiguration": retention,
                "bindingVersion": _BINDING,
            }
        },
    }


def _operation(operation: Operation) -> Part:
    topic = operation.topic
    part: Part = {
        "action": operation.action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "title": operation.role,
        "summary": operation.summary,
    }
    if operation.events:
        part["messages"] = list(_messages_at(topic, operation.events))
    if operation.reply is not None:
        part["reply"] = {
            "channel": {"$ref": f"#/channels/{operation.reply.name}"},
            "messages": list(_messages_at(operation.reply, operation.reply.events)),
        }
    return part


def _messages_at(topic: Topic, events: tuple[type[Body], ...]) -> Iterator[Part]:
    for event in events:
        yield {"$ref": f"#/channels/{topic.name}/messages/{event.__name__}"}


def _message(event: Event) -> tuple[str, Part]:
    kind = type(event.body)
    value, headers = encode(event)
    payload: Part = {"$ref": f"./{schema_path(kind)}"}
    given = value.decode() if kind is WebhookReceived else orjson.loads(value)
    if kind is WebhookReceived:
        payload = {"type": "string", "description": "The request's bytes as they came."}
    topic = next(topic for topic in TOPICS if kind in topic.events)
    texts = {name: raw.decode() for name, raw in headers}
    return kind.__name__, {
        "name": TYPE_PREFIX + kind.__name__,
        "title": kind.__name__,
        "summary": summary(kind),
        "contentType": texts["content-type"],
        "headers": event_headers(kind),
        "payload": payload,
        "bindings": _key(topic),
        "examples": [{"name": kind.__name__, "headers": texts, "payload": given}],
    }


def _document_message() -> Part:
    return {
        "name": DOCUMENT,
        "title": DOCUMENT,
        "summary": "A producer's document: its bytes are the record's value.",
        "contentType": "application/octet-stream",
        "headers": document_headers(),
        "payload": {"type": "string", "description": "The document's bytes, as they are."},
        "bindings": _key(DOCUMENTS_SUBMITTED),
        "examples": [{"name": DOCUMENT, "headers": DOCUMENT_HEADERS, "payload": CONTENT.decode()}],
    }


def _key(topic: Topic) -> Part:
    key = {"type": "string", "description": topic.key}
    return {"kafka": {"key": key, "bindingVersion": _BINDING}}


def _json(schema: Part) -> str:
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


_HEAD = "# Made by `make docs` from the event classes; a test finds it out of date.\n"
_DESCRIPTION = f"""\
Documents in over HTTP or Kafka, parsed text out.

Events are CloudEvents 1.0 in Kafka's binary mode: attributes are headers, the value is JSON.
Unknown fields are to be ignored: fields are only ever added. A record has {MAX_RECORD_BYTES} bytes
at most, key and headers among them. Topics stand under the default prefix, PARSEWIRE_TOPIC_PREFIX.
Operations are Parsewire's own: a producer sends to what `intake` receives, and a consumer receives
what `job_state` sends. docs/bus.md has working programs for both."""
