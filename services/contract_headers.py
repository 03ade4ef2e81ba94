"""Header schemas of the contracts: what stands beside the value of each kind of record."""

import dataclasses
import re
from typing import Any

from schemas.codec import CONTENT_TYPE, TYPE_PREFIX
from schemas.events import Body, ParseOptions, WebhookReceived
from schemas.submission_events import DocumentSubmitted
from schemas.submission_record import LONGEST_ID, LONGEST_REFERENCE

Schema = dict[str, Any]

OPTION_PREFIX = "pw-"

_TRACEPARENT: Schema = {
    "type": "string",
    "description": "W3C Trace Context: the trace that this record belongs to.",
    "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
}
_SHARED = {"$ref": "#/components/schemas/CloudEvent"}


def cloud_event() -> Schema:
    """Write the headers that every event has, as the component that the messages refer to."""
    return {
        "type": "object",
        "required": ["ce_id", "ce_source", "ce_type", "ce_time"],
        "properties": {
            "ce_specversion": {"type": "string", "const": "1.0"},
            "ce_id": _text("Unique to the event: whoever sees it a second time has seen it."),
            "ce_source": _text("Who says it, as a path."),
            "ce_type": _text("What kind of event it is."),
            "ce_time": {
                "type": "string",
                "format": "date-time",
                "description": "When it was said (RFC 3339, with a zone).",
            },
            "traceparent": _TRACEPARENT,
        },
    }


def event_headers(kind: type[Body]) -> Schema:
    """Write what an event's headers have beyond those of every event."""
    known: Schema = {"ce_type": {"type": "string", "const": TYPE_PREFIX + kind.__name__}}
    if kind is WebhookReceived:
        of_the_request = _text("A header of the request, its name in lower case.")
        return {
            "type": "object",
            "allOf": [_SHARED],
            "required": ["pw-webhook", "ce_subject"],
            "properties": known | {"content-type": _text("That of the request.")} | _WEBHOOK,
            "patternProperties": {"^http-": of_the_request},
        }
    if kind is DocumentSubmitted:
        own = known | _submission()
        return {"type": "object", "required": ["ce_id", "ce_type"], "properties": own}
    known["content-type"] = {"type": "string", "const": CONTENT_TYPE}
    return {"type": "object", "allOf": [_SHARED], "properties": known}


def document_headers() -> Schema:
    """Write the headers of a record whose value is a document itself."""
    own = {
        "ce_type": {"type": "string", "not": {"pattern": f"^{re.escape(TYPE_PREFIX)}"}},
        "content-type": _text("The declared media type; without it the bytes tell."),
    }
    return {"type": "object", "required": ["ce_id"], "properties": own | _submission()}


def _submission() -> Schema:
    """Write what stands beside a submission of either form."""
    said = {
        "tenant": _text(
            "Whose document it is; may be left out where the topic speaks for one tenant alone."
        ),
        "name": _text("What to call the document, as over HTTP."),
        "reference": {
            **_text("What the producer calls the job; every answer and move carries it along."),
            "maxLength": LONGEST_REFERENCE,
        },
        "force": _text("`true`: a job of its own for bytes that are known."),
        **{
            field.name: _text(f"The option `{field.name}` of an upload, as over HTTP.")
            for field in dataclasses.fields(ParseOptions)
        },
    }
    submission_id = _text("The idempotency key: the same one of the same tenant counts once.")
    return {
        "ce_id": {**submission_id, "maxLength": LONGEST_ID},
        **{header_of(name): schema for name, schema in said.items()},
        "traceparent": _TRACEPARENT,
    }


def header_of(option: str) -> str:
    """Give the header that carries an option."""
    return OPTION_PREFIX + option.replace("_", "-")


def _text(meaning: str) -> Schema:
    return {"type": "string", "minLength": 1, "description": meaning}


_WEBHOOK: Schema = {
    "pw-webhook": _text("The source that signed it: `llamaparse`, `artifacts` ..."),
    "ce_subject": _text("The vendor's job id, or what else names the matter."),
    "pw-blob": _text("Where the body is when it is too large for a record: a BlobRef as JSON."),
}
