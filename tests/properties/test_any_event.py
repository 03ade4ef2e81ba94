"""Events of any content: each survives the codec, and garbage raises its own error alone."""

import contextlib
import typing
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas import codec
from schemas import events as ev
from schemas.submission_events import DocumentSubmitted
from schemas.topics import TOPICS, key_of, topic_of

text = st.text(max_size=20)


sha = st.text("0123456789abcdef", min_size=64, max_size=64)


seconds = st.floats(0, 1e6)


blob = st.builds(ev.BlobRef, key=text, sha256=sha, size_bytes=st.integers(0, 2**40))


zone = st.integers(-12 * 60, 12 * 60).map(lambda m: timezone(timedelta(minutes=m)))


moment = st.builds(
    datetime.fromtimestamp,
    st.integers(0, 4_000_000_000_000_000).map(lambda micros: micros / 1_000_000),
    st.one_of(st.just(UTC), zone),
)


st.register_type_strategy(ev.BlobRef, blob)


options = st.builds(
    ev.ParseOptions,
    max_pages=st.none() | st.integers(1, 9999),
    tier=st.sampled_from([None, "fast", "cost_effective", "agentic", "agentic_plus"]),
    languages=st.lists(st.sampled_from(["en", "che", "ch_sim"]), max_size=10).map(tuple),
    target_pages=st.sampled_from([None, "1", "1,3-5", "10-999999"]),
    prompt=st.none() | st.text(min_size=1, max_size=20),
    mode=st.sampled_from([None, "local", "real", "hybrid", "mock"]),
    disable_cache=st.booleans(),
)


st.register_type_strategy(ev.ParseOptions, options)


BUILDS = {
    "tenant": text,
    "job_id": text,
    "attempt": st.integers(1, 10**6),
    "source": blob,
    "result": blob,
    "pages": st.integers(0, 10**6),
    "seconds": seconds,
    "retry_after_seconds": st.none() | seconds,
    "booked_at": moment,
    "window_start": moment,
    "window_end": moment,
    "size_bytes": st.integers(1, 2**40),
    "sha256": sha,
    "micro_usd": st.integers(0, 2**50),
    "usual_micro_usd": st.integers(0, 2**50),
    "credits": st.floats(0, 1e9),
    "percent": st.integers(0, 200),
    "used": st.integers(0, 2**50),
    "limit": st.integers(0, 2**50),
    "reference": st.none() | text,
    "headers": st.lists(
        st.tuples(st.text("abc-", min_size=1, max_size=9), st.binary(max_size=20)), max_size=3
    ).map(tuple),
    "content": st.binary(max_size=60),
    "blob": st.none() | blob,
}


def bodies(kind: type[ev.Body]) -> st.SearchStrategy[ev.Body]:
    names = typing.get_type_hints(kind)
    known = {name: strategy for name, strategy in BUILDS.items() if name in names}
    if kind is ev.JobMoved:
        known |= {"result": st.none() | blob, "pages": st.none() | st.integers(0, 9)}
    if kind is DocumentSubmitted:
        known |= {"blob": st.none() | text, "tenant": st.none() | text}
    return st.builds(kind, **known)


events = st.builds(
    ev.Event,
    id=st.text("abc123-", min_size=1, max_size=40),
    source=st.text("/abc", min_size=1, max_size=20),
    time=moment,
    body=st.one_of([bodies(kind) for kind in typing.get_args(ev.Body)]),
    traceparent=st.none() | st.just("00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
)


@given(events)
def test_every_event_survives(event: ev.Event) -> None:
    value, headers = codec.encode(event)
    assert codec.decode(value, headers) == event


@given(events.filter(lambda event: not isinstance(event.body, ev.WebhookReceived)))
def test_an_event_kept_as_text_is_the_record_that_is_sent(event: ev.Event) -> None:
    value, texts = codec.encode_text(event)
    assert (value, tuple((name, text.encode()) for name, text in texts)) == codec.encode(event)


@given(events)
def test_every_event_has_its_topic_and_key(event: ev.Event) -> None:
    assert topic_of(event.body) in TOPICS
    assert isinstance(key_of(event.body), str)


header_names = st.sampled_from(["ce_id", "ce_type", "ce_time", "ce_source", "traceparent", "other"])


types = st.sampled_from([b"com.parsewire.RetryDue", b"com.parsewire.ParseSucceeded"])


@given(
    st.none() | st.binary(max_size=200),
    st.lists(st.tuples(header_names, st.none() | types | st.binary(max_size=40)), max_size=8),
)
def test_garbage_raises_the_codecs_own_error(
    value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    with pytest.raises(codec.CodecError):
        codec.decode(value, headers)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
)


@given(events, st.sampled_from(["job_id", "attempt", "tenant", "seconds"]), json_values)
def test_a_field_of_the_wrong_kind_never_raises_anything_else(
    event: ev.Event, name: str, wrong: object
) -> None:
    assume(not isinstance(event.body, ev.WebhookReceived))  # its value is no JSON of ours
    value, headers = codec.encode(event)
    try:
        broken = orjson.dumps(orjson.loads(value) | {name: wrong})
    except (TypeError, orjson.JSONEncodeError):
        return
    with contextlib.suppress(codec.CodecError):
        assert codec.decode(broken, headers).id == event.id
