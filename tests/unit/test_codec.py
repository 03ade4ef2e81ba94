"""The codec: what it writes, what it ignores and what it refuses."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from schemas import codec
from schemas import events as ev


def test_the_headers_are_those_of_cloudevents() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
    there = moment.astimezone(timezone(timedelta(hours=2)))
    for time, text in (
        (moment, b"2026-01-02T03:04:05.600000+00:00"),
        (there, b"2026-01-02T05:04:05.600000+02:00"),
    ):
        value, headers = codec.encode(
            ev.Event("e1", "/test", time, ev.RetryDue("j", "t", 1), "00-x")
        )
        assert value == b'{"job_id":"j","tenant":"t","attempt":1}'
        assert headers == (
            ("ce_specversion", b"1.0"),
            ("ce_id", b"e1"),
            ("ce_source", b"/test"),
            ("ce_type", b"com.parsewire.RetryDue"),
            ("ce_time", text),
            ("content-type", b"application/json"),
            ("traceparent", b"00-x"),
        )


def retry_due(**changes: bytes | None) -> list[tuple[str, bytes | None]]:
    event = ev.Event("e1", "/test", datetime(2026, 1, 1, tzinfo=UTC), ev.RetryDue("j", "t", 1))
    _, headers = codec.encode(event)
    return [(name, changes.get(name, raw)) for name, raw in headers]


def test_unknown_fields_are_ignored() -> None:
    value = b'{"job_id":"j","tenant":"t","attempt":1,"later":"addition"}'
    assert codec.decode(value, retry_due()).body == ev.RetryDue("j", "t", 1)


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b'{"job_id":"j","tenant":"t","attempt":true}', retry_due()),
        (b'{"job_id":"j","tenant":"t","attempt":0}', retry_due()),
        (b'{"job_id":"j","tenant":"t"}', retry_due()),
        (b'{"job_id":"j","tenant":"t","attempt":1}', retry_due(ce_time=b"2026-01-01T00:00:00")),
        (b'{"job_id":"j","tenant":"t","attempt":1}', retry_due(ce_type=b"com.parsewire.Nothing")),
        (b'{"job_id":"j","tenant":"t","attempt":1}', retry_due(ce_id=None)),
        (b'{"job_id":"j","tenant":"t","attempt":1}', retry_due(ce_id=b"\xff")),
        (None, retry_due()),
        (b"[" * 100_000, retry_due()),
    ],
    ids=[
        "bool",
        "zero",
        "missing",
        "no zone",
        "unknown type",
        "no id",
        "not utf-8",
        "null",
        "deep",
    ],
)
def test_what_is_refused(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    with pytest.raises(codec.CodecError):
        codec.decode(value, headers)


def test_record_on_the_wire() -> None:
    event = ev.Event("e1", "/test", datetime(2026, 1, 1, tzinfo=UTC), ev.RetryDue("j", "t", 1))
    value, headers = codec.encode(event)
    assert value == b'{"job_id":"j","tenant":"t","attempt":1}'
    assert headers == (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e1"),
        ("ce_source", b"/test"),
        ("ce_type", b"com.parsewire.RetryDue"),
        ("ce_time", b"2026-01-01T00:00:00+00:00"),
        ("content-type", b"application/json"),
    )
