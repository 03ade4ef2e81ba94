"""Events recorded once decode for ever; tests/recorded/README.md says how lines are added."""

import base64
import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas import codec
from schemas.events import Body
from services.contracts import EVENTS, schema_path
from services.event_schemas import breaks, event_schema

ROOT = Path(__file__).parents[2]
RECORDS = [
    orjson.loads(line) for line in (ROOT / "tests/recorded/events.jsonl").read_bytes().splitlines()
]
ALL_EVENTS = 24
"""Classes on record; adding one raises this by hand, with its lines."""

every_class = pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)


def record_of(line: dict[str, Any]) -> tuple[bytes, list[tuple[str, bytes]]]:
    coded = line.get("value_base64")
    value = line["value"].encode() if coded is None else base64.b64decode(coded)
    return value, [(name, text.encode()) for name, text in line["headers"]]


def check(found: Any, told: Any, where: str) -> None:
    """Compare what was read with what was written down, field by field and type by type."""
    if dataclasses.is_dataclass(found):
        for name, value in told.items():
            check(getattr(found, name), value, f"{where}.{name}")
    elif isinstance(found, tuple):
        assert len(found) == len(told), where
        for number, (one, other) in enumerate(zip(found, told, strict=True)):
            check(one, other, f"{where}[{number}]")
    elif isinstance(found, datetime):
        assert found == datetime.fromisoformat(told), where
    elif isinstance(found, bytes):
        assert found == base64.b64decode(told), where
    else:
        assert (found, isinstance(found, bool)) == (told, isinstance(told, bool)), where


@pytest.mark.parametrize(
    "line", RECORDS, ids=[f"{number}-{line['type']}" for number, line in enumerate(RECORDS, 1)]
)
def test_a_recorded_event_decodes(line: dict[str, Any]) -> None:
    value, headers = record_of(line)
    told = dict(line["headers"])
    event = codec.decode(value, headers)
    assert type(event.body).__name__ == line["type"]
    check(event.body, line["reads"], line["type"])
    assert (event.id, event.source) == (told["ce_id"], told["ce_source"])
    assert event.time == datetime.fromisoformat(told["ce_time"])
    assert event.traceparent == told.get("traceparent")
    assert codec.decode(*codec.encode(event)) == event


def test_every_class_is_on_record() -> None:
    assert len(EVENTS) == ALL_EVENTS == len({line["type"] for line in RECORDS})


@every_class
def test_every_field_is_on_record(kind: type[Body]) -> None:
    lines = [line for line in RECORDS if line["type"] == kind.__name__]
    assert len(lines) >= 2
    assert {field.name for field in dataclasses.fields(kind)} == set().union(
        *(line["reads"] for line in lines)
    )


@every_class
def test_a_class_takes_what_its_schema_says(kind: type[Body]) -> None:
    written = orjson.loads((ROOT / schema_path(kind)).read_bytes())
    assert breaks(written, event_schema(kind)) == []
