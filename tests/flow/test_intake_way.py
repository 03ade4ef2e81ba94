"""Documents over a real broker, sent by somebody else's client: answered, parsed, told of."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.fleet import Fleet, open_fleet
from tests.pdfs import text_pdf
from tests.processes import until
from tests.topics import Headers, Raw, Seen, read_topic, write_records

pytestmark = pytest.mark.processes

WAIT_SECONDS = 40
INTAKE = "documents.submitted:acme|globex,team-a.documents:team-a"


@asynccontextmanager
async def open_intake_fleet(folder: Path, servers: str, prefix: str) -> AsyncIterator[Fleet]:
    async with open_fleet(folder, servers, prefix, intake=INTAKE) as fleet:
        yield fleet


def submission(
    value: bytes | None, ce_id: str | None, *more: tuple[str, str | bytes], key: bytes | None = None
) -> Raw:
    """Make a record for acme; its key is its id where nothing else is said."""
    headers: Headers = [("pw-tenant", "acme"), *more]
    if ce_id is not None:
        headers.append(("ce_id", ce_id))
    return (ce_id or "").encode() if key is None else key, value, headers


async def answers(servers: str, fleet: Fleet, count: int) -> dict[tuple[bytes | None, str], Any]:
    """Wait for so many answers, and give them by key and `ce_id` of what they answer."""
    topic = fleet.prefix + "documents.answered"

    async def all_there() -> list[Seen]:
        found = await read_topic(servers, topic)
        return found if len(found) >= count else []

    found = await until(all_there, f"{count} answers", within_seconds=WAIT_SECONDS)
    said = [(seen, orjson.loads(seen.value)) for seen in found]
    return {
        (seen.raw_key, body["submission_id"]): body | {"type": seen.type} for seen, body in said
    }


async def moves(servers: str, fleet: Fleet, job_id: str) -> list[tuple[str, str | None]]:
    """Give the states that a job was moved to, each with the reference that was said."""
    found = await read_topic(servers, fleet.prefix + "jobs.moved")
    bodies = [orjson.loads(seen.value) for seen in found if seen.key == job_id]
    return [(body["to_state"], body["reference"]) for body in bodies]


@pytest.mark.kafka
async def test_each_kind_of_record_has_its_answer(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    servers = kafka_bootstrap
    async with open_intake_fleet(tmp_path, servers, topic_prefix) as fleet:
        pdf = text_pdf([["one"], ["two"]], "unique")
        words = b"Words in a blob.\n"
        await fleet.blobs.put("submitted/acme/words", words)
        named = {"sha256": hashlib.sha256(words).hexdigest(), "size_bytes": len(words)}
        by_blob = orjson.dumps(named | {"blob": "submitted/acme/words", "tenant": "acme"})
        by_url = orjson.dumps(named | {"url": "https://files.example/a"})
        names_one = ("ce_type", "com.parsewire.DocumentSubmitted")
        about = len("ce_id") + len("large") + len("pw-tenant") + len("acme") + len("large")
        topic = topic_prefix + "documents.submitted"
        await write_records(
            servers,
            topic,
            [
                submission(
                    pdf,
                    "pdf",
                    ("content-type", "application/pdf"),
                    ("pw-reference", "invoice 7"),
                    ("pw-name", "7.pdf"),
                    ("pw-max-pages", "5"),
                    key=b"\xff\x00\xfe",
                ),
                submission(by_blob, "blob", names_one),
                submission(by_url, "url", names_one),
                (b"nobody", pdf, [("ce_id", "nobody")]),
                (b"theirs", pdf, [("ce_id", "theirs"), ("pw-tenant", "team-a")]),
                submission(pdf, "option", ("pw-colour", "red")),
                submission(b"", "zero"),
                submission(None, "null"),
                submission(b"x" * (900_000 - about), "fits!"),
                submission(b"x" * (900_001 - about), "large"),
                submission(pdf, None, key=b"without"),
                submission(b"PK\x03\x04", "zip"),
            ],
        )
        own_topic = topic_prefix + "team-a.documents"
        await write_records(servers, own_topic, [(None, b"ours", [("ce_id", "ours")])])
        found = await answers(servers, fleet, 13)

        def ended(key: bytes | None, ce_id: str) -> tuple[str, str | None, str | None]:
            body = found[key, ce_id]
            return body["type"].rpartition(".")[2], body["tenant"], body.get("code")

        assert ended(b"\xff\x00\xfe", "pdf") == ("DocumentAccepted", "acme", None)
        assert ended(b"blob", "blob") == ("DocumentAccepted", "acme", None)
        assert ended(b"url", "url") == ("DocumentRefused", "acme", "url_not_allowed")
        assert ended(b"nobody", "nobody") == ("DocumentRefused", None, "forbidden")
        assert ended(b"theirs", "theirs") == ("DocumentRefused", None, "forbidden")
        assert ended(b"option", "option") == ("DocumentRefused", "acme", "invalid_request")
        assert ended(b"zero", "zero") == ("DocumentRefused", "acme", "document_empty")
        assert ended(b"null", "null") == ("DocumentRefused", "acme", "document_empty")
        assert ended(b"fits!", "fits!") == ("DocumentAccepted", "acme", None)
        assert ended(b"large", "large") == ("DocumentRefused", "acme", "too_large")
        assert ended(b"without", "") == ("DocumentRefused", "acme", "invalid_request")
        assert ended(b"zip", "zip") == ("DocumentRefused", "acme", "unsupported_media_type")
        assert ended(b"ours", "ours") == ("DocumentAccepted", "team-a", None)

        client = await fleet.client()
        accepted = found[b"\xff\x00\xfe", "pdf"]
        assert (accepted["reference"], accepted["duplicate"]) == ("invoice 7", False)
        job = await client.reaches(accepted["job_id"], "complete", within_seconds=WAIT_SECONDS)
        assert (job["name"], job["pages"], job["options"]) == ("7.pdf", 2, {"max_pages": 5})
        assert job["document_id"] == accepted["document_id"]
        await fleet.calm(within_seconds=WAIT_SECONDS)
        assert await fleet.counts() == {"complete": 4}
        assert await moves(servers, fleet, accepted["job_id"]) == [
            ("parsing", "invoice 7"),
            ("parsed", "invoice 7"),
            ("complete", "invoice 7"),
        ]
        blob_job = found[b"blob", "blob"]["job_id"]
        assert (await client.result(blob_job, ".txt")).content == words
        assert not [key for key in await fleet.blob_keys() if key.startswith("submitted/")]
        assert fleet.sql("SELECT * FROM dead_letters") == []


@pytest.mark.kafka
async def test_http_and_the_bus_know_the_same_documents(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with open_intake_fleet(tmp_path, kafka_bootstrap, topic_prefix) as fleet:
        client = await fleet.client()
        pdf = text_pdf([["one"]], "unique")
        job_id = (await client.upload(pdf, "a.pdf")).json["job_id"]
        topic = topic_prefix + "documents.submitted"
        records = [
            submission(pdf, "once"),
            submission(pdf, "once"),
            submission(pdf, "once", key=b"elsewhere"),
        ]
        await write_records(kafka_bootstrap, topic, records)
        await answers(kafka_bootstrap, fleet, 3)
        # Records of different keys have no order, and whoever comes last joins the newest job.
        forcing = submission(pdf, "more", ("pw-force", "true"))
        await write_records(kafka_bootstrap, topic, [forcing])
        found = await answers(kafka_bootstrap, fleet, 4)
        once = found[b"once", "once"]
        assert (once["job_id"], once["duplicate"]) == (job_id, True)
        assert found[b"elsewhere", "once"] == once
        forced = found[b"more", "more"]
        assert forced["duplicate"] is False
        again = await client.upload(pdf, "a.pdf")
        assert (again.status, again.json["job_id"]) == (200, forced["job_id"])
        seen = await read_topic(kafka_bootstrap, fleet.prefix + "documents.answered")
        assert len({s.headers["ce_id"] for s in seen if b'"once"' in s.value}) == 1
        await fleet.calm(within_seconds=WAIT_SECONDS)
        assert await fleet.counts() == {"complete": 2}


@pytest.mark.kafka
async def test_a_worker_without_a_topic_takes_nothing(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with open_fleet(tmp_path, kafka_bootstrap, topic_prefix) as fleet:
        topic = topic_prefix + "documents.submitted"
        await write_records(kafka_bootstrap, topic, [submission(b"text", "s-1")])
        client = await fleet.client()
        job_id = (await client.upload(b"text", "a.txt")).json["job_id"]
        await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        assert await read_topic(kafka_bootstrap, topic_prefix + "documents.answered") == []
        # Who may speak is the operator's to say later, too: nothing was lost until then.
        await fleet.add_worker(intake="documents.submitted:acme")
        found = await answers(kafka_bootstrap, fleet, 1)
        assert found[b"s-1", "s-1"]["job_id"] == job_id


@pytest.mark.kafka
async def test_a_killed_worker_answers_nobody_twice(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with open_intake_fleet(tmp_path, kafka_bootstrap, topic_prefix) as fleet:
        topic = topic_prefix + "documents.submitted"
        records = [submission(f"text {n}".encode(), f"s-{n}") for n in range(200)]
        (worker,) = fleet.workers
        await write_records(kafka_bootstrap, topic, records[:100])

        async def some() -> bool:
            return bool(fleet.sql("SELECT 1 FROM submissions LIMIT 1"))

        await until(some, "a first answer", within_seconds=WAIT_SECONDS)
        await worker.kill()
        await write_records(kafka_bootstrap, topic, records)
        await worker.start()

        async def everyone() -> bool:
            return fleet.sql("SELECT count(*) FROM submissions") == [(200,)]

        await until(everyone, "200 submissions answered", within_seconds=WAIT_SECONDS)
        await fleet.calm(within_seconds=WAIT_SECONDS)
        assert await fleet.counts() == {"complete": 200}
        seen = await read_topic(kafka_bootstrap, fleet.prefix + "documents.answered")
        by_id: dict[str, set[bytes]] = {}
        for answer in seen:
            by_id.setdefault(answer.key, set()).add(answer.value)
            assert answer.type == "com.parsewire.DocumentAccepted"
        assert len(by_id) == 200
        assert all(len(values) == 1 for values in by_id.values())


@pytest.mark.embedded
async def test_the_embedded_broker_carries_it_too(
    embedded_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with open_intake_fleet(tmp_path, embedded_bootstrap, topic_prefix) as fleet:
        topic = topic_prefix + "documents.submitted"
        record = submission(b"some text", "s-1", ("pw-reference", "r"), key=b"\xff")
        await write_records(embedded_bootstrap, topic, [record])
        found = await answers(embedded_bootstrap, fleet, 1)
        job_id = found[b"\xff", "s-1"]["job_id"]
        await (await fleet.client()).reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        async with asyncio.timeout(WAIT_SECONDS):
            await fleet.calm(within_seconds=WAIT_SECONDS)
        assert ("complete", "r") in await moves(embedded_bootstrap, fleet, job_id)
