"""The contracts: up to date, whole, decodable, and never broken by `make docs`."""

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import orjson
import pytest
import yaml

from schemas import codec
from schemas.events import DocumentUploaded, WebhookReceived
from schemas.submission_events import DocumentAccepted, DocumentRefused, DocumentSubmitted
from schemas.submission_record import Address, Origin, Submitted, Unfit, read_submission
from schemas.topics import TOPICS
from services.contracts import (
    ASYNCAPI,
    EVENTS,
    BrokenContractError,
    asyncapi,
    contract_files,
    write_contracts,
)
from services.event_schemas import breaks, event_schema
from services.usage_app import SOURCES
from streams.alerts import Alerts
from streams.callbacks import Callbacks
from streams.costs import Costs
from streams.job_state import JobState
from streams.parse import Parse

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / ASYNCAPI).read_text(encoding="utf-8")
DOCUMENT = asyncapi()
MESSAGES: dict[str, dict[str, Any]] = DOCUMENT["components"]["messages"]
EXAMPLES = [
    pytest.param(name, example, id=name)
    for name, message in MESSAGES.items()
    for example in message["examples"]
]


def referred(reference: str) -> Any:
    """Follow a reference within asyncapi.yaml, or to a file beside it."""
    if not reference.startswith("#/"):
        return orjson.loads((ROOT / reference).read_bytes())
    found = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def whole(schema: Any) -> Any:
    """Put what a schema refers to in its place."""
    if isinstance(schema, list):
        return [whole(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str) and not schema["$ref"].startswith("#/$defs"):
        return whole(referred(schema["$ref"]))
    return {name: whole(inner) for name, inner in schema.items()}


def test_every_file_is_up_to_date() -> None:
    files = contract_files()
    for name, text in files.items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name}: run `make docs`"
    there = {f"schemas/json/{path.name}" for path in (ROOT / "schemas/json").iterdir()}
    assert there == files.keys() - {ASYNCAPI}


def test_the_yaml_says_what_was_meant() -> None:
    assert yaml.safe_load(TEXT) == DOCUMENT
    assert DOCUMENT["asyncapi"] == "3.0.0"


def test_everything_that_is_referred_to_is_there() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 70
    for reference in found:
        assert referred(reference)


def test_every_topic_is_a_channel_with_its_messages() -> None:
    channels = DOCUMENT["channels"]
    assert list(channels) == [topic.name for topic in TOPICS]
    for topic in TOPICS:
        channel = channels[topic.name]
        assert channel["address"] == f"parsewire.{topic.name}"
        own = {"Document"} if topic.name == "documents.submitted" else set()
        assert channel["messages"].keys() == {event.__name__ for event in topic.events} | own
        assert channel["bindings"]["kafka"]["partitions"] == topic.partitions
        kept = channel["bindings"]["kafka"]["topicConfiguration"]["retention.ms"]
        assert kept == topic.retention_hours * 3_600_000
    assert {kind.__name__ for kind in EVENTS} == MESSAGES.keys() - {"Document"}


def test_every_message_has_one_who_sends_and_one_who_receives() -> None:
    roles: dict[str, set[str]] = {"send": set(), "receive": set()}
    for operation in DOCUMENT["operations"].values():
        channel = operation["channel"]["$ref"]
        every = [{"$ref": f"{channel}/messages/{name}"} for name in referred(channel)["messages"]]
        messages = {message["$ref"] for message in operation.get("messages", every)}
        assert all(message.startswith(f"{channel}/messages/") for message in messages)
        roles[operation["action"]] |= {message.rpartition("/")[2] for message in messages}
    elsewhere = {DocumentAccepted.__name__, DocumentRefused.__name__, "JobMoved"}
    assert MESSAGES.keys() - roles["receive"] == elsewhere
    assert MESSAGES.keys() - roles["send"] == {DocumentSubmitted.__name__, "Document"}


def test_the_processors_receive_what_the_contract_says() -> None:
    received: dict[str, set[str]] = {}
    for operation in DOCUMENT["operations"].values():
        if operation["action"] == "receive":
            topic = operation["channel"]["$ref"].rpartition("/")[2]
            received.setdefault(operation["title"], set()).add(topic)
    processors = {
        processor.name: {topic.name for topic in processor.topics}
        for processor in (Alerts, Callbacks, Costs, JobState, Parse)
    }
    windows = {topic.name for topic in SOURCES}
    assert received == processors | {"windows": windows, "intake": {"documents.submitted"}}


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_is_what_its_schemas_say(name: str, example: dict[str, Any]) -> None:
    message = MESSAGES[name]
    for part in ("headers", "payload"):
        schema = whole(message[part])
        jsonschema_rs.validator_for(schema, validate_formats=True).validate(example[part])
    nothing = jsonschema_rs.validator_for(whole(message["headers"]))
    assert not nothing.is_valid({})
    assert all(isinstance(text, str) for text in example["headers"].values())


@pytest.mark.parametrize(("name", "example"), [e for e in EXAMPLES if e.id != "Document"])
def test_the_codec_decodes_an_example(name: str, example: dict[str, Any]) -> None:
    raw = name == WebhookReceived.__name__
    value = example["payload"].encode() if raw else orjson.dumps(example["payload"])
    headers = [(key, text.encode()) for key, text in example["headers"].items()]
    event = codec.decode(value, headers)
    assert type(event.body).__name__ == name
    assert codec.encode(event) == (value, tuple(headers))


@pytest.mark.parametrize(("name", "own"), [("Document", "content-type"), ("DocumentSubmitted", "")])
def test_a_submission_has_the_options_of_an_upload(name: str, own: str) -> None:
    headers = MESSAGES[name]["headers"]
    assert headers["properties"].keys() - {own} == {
        *("ce_id", "ce_type", "traceparent"),
        *("pw-tenant", "pw-name", "pw-reference", "pw-force"),
        *("pw-max-pages", "pw-tier", "pw-languages", "pw-target-pages"),
        *("pw-prompt", "pw-mode", "pw-disable-cache"),
    }
    assert "ce_id" in headers["required"]


def submission_of(name: str) -> Submitted | Unfit:
    (example,) = MESSAGES[name]["examples"]
    raw = isinstance(example["payload"], str)
    value = example["payload"].encode() if raw else orjson.dumps(example["payload"])
    headers = [(key, text.encode()) for key, text in example["headers"].items()]
    return read_submission(value, headers, b"4711", Origin("documents.submitted", 0, 7))


def test_a_document_reads_as_a_submission() -> None:
    submitted = submission_of("Document")
    assert isinstance(submitted, Submitted)
    assert submitted.source == b"Hello from the bus.\n"
    assert (submitted.sender.tenant, submitted.sender.reference) == ("acme", "invoice-4711")
    assert (submitted.submission_id, submitted.media_type) == ("acme-invoice-4711-v1", "text/plain")
    assert dict(submitted.options) == {"name": "4711.txt", "max_pages": "50"}


def test_a_named_document_reads_as_a_submission() -> None:
    submitted = submission_of("DocumentSubmitted")
    assert isinstance(submitted, Submitted)
    assert isinstance(submitted.source, Address)
    assert submitted.source.url == "https://files.acme.example/invoices/4711.txt"
    assert (submitted.sender.tenant, submitted.sender.reference) == ("acme", "invoice-4711")
    assert dict(submitted.options) == {"name": "4711.txt", "max_pages": "50"}


def test_the_page_for_producers_knows_every_header() -> None:
    page = (ROOT / "docs/bus.md").read_text(encoding="utf-8")
    for name in MESSAGES["Document"]["headers"]["properties"]:
        assert f"`{name}`" in page


def test_a_schema_has_the_docstrings() -> None:
    schema = event_schema(DocumentUploaded)
    assert schema["$id"] == "urn:parsewire:com.parsewire.DocumentUploaded"
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["description"].startswith("A document is kept and waits for a worker;")
    told = schema["properties"]["failed_with"]["description"]
    assert told.startswith("The code that the last attempt ended with")
    assert "\n    " not in orjson.dumps(schema).decode()
    submitted = event_schema(DocumentSubmitted)["properties"]
    assert submitted["blob"]["description"] == "The key of a blob below `submitted/<tenant>/`."
    assert "description" not in submitted["url"]


def test_the_writer_refuses_what_breaks_a_schema(tmp_path: Path) -> None:
    write_contracts(tmp_path)
    assert (tmp_path / ASYNCAPI).read_text(encoding="utf-8") == TEXT
    path = tmp_path / "schemas/json/RetryDue.json"
    older = orjson.loads(path.read_bytes())
    older["required"].remove("tenant")
    older["properties"]["reason"] = {"type": "string"}
    path.write_bytes(orjson.dumps(older))
    with pytest.raises(BrokenContractError) as broken:
        write_contracts(tmp_path)
    assert str(broken.value) == (
        "RetryDue: tenant is required, and was not; RetryDue: reason is gone"
    )
    assert orjson.loads(path.read_bytes()) == older


def schema_of(kind: type[Any]) -> dict[str, Any]:
    _, parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    own: dict[str, Any] = parts.pop(kind.__name__)
    return own | {"$defs": parts}


def made(name: str, *fields: tuple[str, Any] | tuple[str, Any, Any]) -> type[Any]:
    return dataclasses.make_dataclass(name, fields, kw_only=True)


PART = made("Part", ("key", str), ("also", int, 0))
OTHER_PART = made("Part", ("key", str), ("also", int))
NAME, CHOICE = ("name", str), ("choice", typing.Literal["a", "b"])
BELOW, PAGES = ("part", PART), ("pages", int | None, None)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ((NAME, CHOICE, BELOW, PAGES), []),
        ((NAME, CHOICE, BELOW, PAGES, ("later", str | None, None)), []),
        ((NAME, ("choice", typing.Literal["a", "b", "c"]), BELOW, PAGES), []),
        ((("name", str | None), CHOICE, BELOW, PAGES), []),
        ((NAME, CHOICE, BELOW, ("later", str), PAGES), ["later is required, and was not"]),
        ((("name", str, "x"), CHOICE, BELOW, PAGES), []),
        ((NAME, CHOICE, BELOW, ("pages", int | None, 7)), ["pages is another kind"]),
        ((NAME, CHOICE, BELOW), ["pages is gone"]),
        ((NAME, CHOICE, BELOW, ("pages", int | None)), ["pages is required, and was not"]),
        ((("name", int), CHOICE, BELOW, PAGES), ["name is another kind"]),
        ((("name", str | int), CHOICE, BELOW, PAGES), ["name is another kind"]),
        ((("name", str | int | None), CHOICE, BELOW, PAGES), ["name is another kind"]),
        ((NAME, CHOICE, BELOW, ("pages", int, 0)), ["pages is another kind"]),
        ((NAME, ("choice", typing.Literal["a"]), BELOW, PAGES), ["choice is another kind"]),
        (
            (NAME, CHOICE, ("part", OTHER_PART), PAGES),
            ["Part.also is required, and was not"],
        ),
    ],
    ids=[
        "nothing",
        "a field with a default",
        "one more choice",
        "null too",
        "a required field",
        "a default more",
        "another default",
        "a field gone",
        "a default gone",
        "another type",
        "another type too",
        "another type or null",
        "no more null",
        "one choice less",
        "a required field below",
    ],
)
def test_what_breaks_a_schema(fields: tuple[Any, ...], found: list[str]) -> None:
    was = made("Was", NAME, CHOICE, BELOW, PAGES)
    assert breaks(schema_of(was), schema_of(made("Was", *fields))) == found
