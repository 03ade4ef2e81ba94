"""Records that nobody can handle: kept as they are, told about, and no way to lose a job."""

from pathlib import Path

import orjson
import pytest

from tests.fleet import Client, Fleet, open_fleet
from tests.processes import until
from tests.topics import Headers, Raw, forget_records, read_topic, write_records

pytestmark = [pytest.mark.processes, pytest.mark.kafka]

HEADERS: Headers = [
    ("ce_type", b"com.parsewire.NoSuchThing"),
    ("odd", b"\xff\x00"),
    ("odd", b"twice"),
]
HEX_HEADERS = [
    ["ce_type", b"com.parsewire.NoSuchThing".hex()],
    ["odd", "ff00"],
    ["odd", "7477696365"],
]
STOPPED = 'parsewire_processor_stopped{processor="parse"}'


async def letters(fleet: Fleet, processor: str) -> list[int]:
    rows = await fleet.rows("positions.letters", before=2**62, most=200)
    return [row["id"] for row in rows if row["processor"] == processor]


async def completes(client: Client, text: bytes) -> str:
    job_id = str((await client.upload(text, "a.txt")).json["job_id"])
    await client.reaches(job_id, "complete")
    return job_id


async def test_garbage_becomes_dead_letters_and_the_rest_goes_on(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with open_fleet(tmp_path, kafka_bootstrap, topic_prefix) as fleet:
        client = await fleet.client()
        first = await completes(client, b"before")
        garbage: list[Raw] = [
            (b"\xfe\x00key", b"\x00garbage\xff", HEADERS),
            (None, None, []),
            (b"k", b"[" * 100_000, [("ce_type", b"com.parsewire.RetryDue")]),
        ]
        for topic in ("documents.uploaded", "jobs.events"):
            await write_records(kafka_bootstrap, topic_prefix + topic, garbage)
        # An event of ours in the wrong topic is no less poison.
        await fleet.outbox_empty(within_seconds=10)
        moved = (await read_topic(kafka_bootstrap, f"{topic_prefix}jobs.moved"))[0]
        stray: list[Raw] = [(moved.key.encode(), moved.value, moved.raw_headers)]
        await write_records(kafka_bootstrap, f"{topic_prefix}jobs.events", stray)

        async def all_buried() -> bool:
            counts = [len(await letters(fleet, name)) for name in ("parse", "job_state")]
            return counts == [3, 4]

        await until(all_buried, "every one of them is a row", within_seconds=20)
        for processor in ("parse", "job_state"):
            rows = [
                (await fleet.rows("positions.letter", id=number))[0]
                for number in await letters(fleet, processor)
            ]
            (row,) = (row for row in rows if row["key"] == b"\xfe\x00key")
            assert row["value"] == b"\x00garbage\xff"
            assert orjson.loads(row["headers"]) == HEX_HEADERS
            assert (row["code"], row["topic"]) == (
                "poison_event",
                {"parse": "documents.uploaded", "job_state": "jobs.events"}[processor],
            )
            assert "NoSuchThing" in row["reason"]
            assert [(row["key"], row["headers"]) for row in rows if row["value"] is None] == [
                (None, "[]")
            ]
        listed = orjson.loads(await fleet.cli("dead-letters", "list", "--json"))
        assert len(listed["dead_letters"]) == 7
        assert (await client.job(first))["state"] == "complete"
        await completes(client, b"after")


async def test_a_job_whose_offer_was_corrupted_fails_and_can_be_retried(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    opened = open_fleet(tmp_path, kafka_bootstrap, topic_prefix, workers=0, offer_again_seconds=8)
    async with opened as fleet:
        client = await fleet.client()
        job_id = str((await client.upload(b"unlucky", "a.txt")).json["job_id"])
        await fleet.outbox_empty(within_seconds=10)
        topic = f"{topic_prefix}documents.uploaded"
        (offer,) = await read_topic(kafka_bootstrap, topic)
        await forget_records(kafka_bootstrap, topic, offer.partition, offer.offset + 1)
        corrupted: Raw = (job_id.encode(), offer.value[:-9], offer.raw_headers)
        await write_records(kafka_bootstrap, topic, [corrupted])
        await fleet.add_worker()
        job = await client.reaches(job_id, "failed_parse", within_seconds=30)
        assert job["error"]["code"] == "poison_event"
        assert job["attempt"] == 1
        assert len(await letters(fleet, "parse")) == 1
        asked = await client.ask("POST", f"/api/v1/jobs/{job_id}/retry")
        assert asked.status == 202
        again = await client.reaches(job_id, "complete")
        assert again["attempt"] == 2


async def test_a_processor_with_too_many_stops_until_it_is_resumed(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with open_fleet(tmp_path, kafka_bootstrap, topic_prefix) as fleet:
        client = await fleet.client()
        (worker,) = fleet.workers
        await completes(client, b"before")
        bad_deploy: list[Raw] = [(f"k{n}".encode(), b"{}", HEADERS) for n in range(60)]
        await write_records(kafka_bootstrap, f"{topic_prefix}documents.uploaded", bad_deploy)

        async def stopped() -> bool:
            return await fleet.metric(worker, STOPPED) == 1

        await until(stopped, "parse is stopped", within_seconds=20)
        buried = len(await letters(fleet, "parse"))
        assert 50 <= buried < 60
        await worker.stop()
        await worker.start()
        await until(stopped, "parse is stopped after a restart", within_seconds=20)
        job_id = str((await client.upload(b"patient", "a.txt")).json["job_id"])
        await fleet.outbox_empty(within_seconds=10)
        assert len(await letters(fleet, "parse")) == buried
        assert (await client.job(job_id))["state"] == "uploaded"
        (shown,) = await fleet.rows("positions.stops")
        assert shown["processor"] == "parse"
        await fleet.cli("processors", "resume", "parse")
        await client.reaches(job_id, "complete")
        assert len(await letters(fleet, "parse")) == 60
        assert await fleet.rows("positions.stops") == []
