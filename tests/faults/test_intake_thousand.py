"""A thousand submissions on the bus by clients that are not ours, while workers are killed.

A hundred ids come twice, and fifty documents are broken: each id is answered, each makes one job.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiokafka
import orjson
import pytest

from tests.fleet import TENANT, Fleet, open_fleet
from tests.pdfs import text_pdf
from tests.processes import until
from tests.topics import Raw, write_records

pytestmark = pytest.mark.processes

DOCUMENTS, BROKEN, DOUBLED = 900, 50, 100
KILLS = (150, 400, 650)
"""A worker is killed when so many are answered."""

WITHIN_SECONDS = 120


def submissions() -> list[Raw]:
    """Give 1,000 records in any order: 850 documents, 50 that are broken, 100 of them again."""
    chance = random.Random(6)
    records: list[Raw] = []
    for number in range(DOCUMENTS):
        content = text_pdf([[f"document {number}"]], f"one line of {number}")
        if number < BROKEN:
            content = f"%PDF-1.7 cut off after {number} words".encode()
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_id", f"submission-{number}"),
            ("pw-tenant", TENANT),
            ("pw-name", f"{number}.pdf"),
            ("pw-reference", f"order-{number}"),
        ]
        records.append((f"key-{number}".encode(), content, headers))
    records += chance.sample(records, DOUBLED)
    chance.shuffle(records)
    return records


async def write_plainly(servers: str, topic: str, records: Sequence[Raw]) -> None:
    """Write them by aiokafka's own producer: librdkafka's cannot speak to the embedded broker."""
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await producer.start()
    try:
        for key, value, headers in records:
            raw = [(name, str(text).encode()) for name, text in headers]
            await producer.send(topic, value, key, headers=raw)
        await producer.flush()
    finally:
        await producer.stop()


class Answers:
    """Everything that stands on documents.answered and jobs.moved, read as it comes."""

    def __init__(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.types: dict[str, str] = {}
        self.jobs: dict[str, set[str]] = {}
        self.keys: dict[str, set[bytes]] = {}
        self.references: dict[str, set[str | None]] = {}

    async def read(self) -> None:
        """Read until cancelled."""
        async for record in self._consumer:
            kind = dict(record.headers)["ce_type"].decode().rpartition(".")[2]
            body = orjson.loads(record.value)
            if kind == "JobMoved":
                self.references.setdefault(body["job_id"], set()).add(body["reference"])
                continue
            name = body["submission_id"]
            self.types[name] = kind
            self.jobs.setdefault(name, set()).add(body.get("job_id"))
            self.keys.setdefault(name, set()).add(record.key)


@asynccontextmanager
async def open_answers(servers: str, prefix: str) -> AsyncIterator[Answers]:
    topics = [f"{prefix}documents.answered", f"{prefix}jobs.moved"]
    consumer = aiokafka.AIOKafkaConsumer(
        *topics, bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    answers = Answers(consumer)
    reading = asyncio.create_task(answers.read())
    try:
        yield answers
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        await consumer.stop()


async def kill_in_the_middle(fleet: Fleet, answers: Answers) -> None:
    for count, worker in zip(KILLS, [*fleet.workers, fleet.workers[0]], strict=True):

        async def far_enough(count: int = count) -> bool:
            return len(answers.jobs) >= count

        await until(far_enough, f"{count} are answered", within_seconds=WITHIN_SECONDS)
        await worker.kill()
        await worker.start()


async def all_are_answered_and_made_once(fleet: Fleet, servers: str, *, plain: bool) -> None:
    topic, records = f"{fleet.prefix}documents.submitted", submissions()
    write = write_plainly if plain else write_records
    async with open_answers(servers, fleet.prefix) as answers:
        await asyncio.gather(write(servers, topic, records), kill_in_the_middle(fleet, answers))

        async def all_answered() -> bool:
            return len(answers.jobs) == DOCUMENTS

        await until(all_answered, "each submission is answered", within_seconds=WITHIN_SECONDS)
        await fleet.calm(within_seconds=WITHIN_SECONDS)
        assert await fleet.counts() == {"complete": DOCUMENTS - BROKEN, "failed_parse": BROKEN}

        async def all_told() -> bool:
            return len(answers.references) == DOCUMENTS

        await until(all_told, "each job has moved", within_seconds=WITHIN_SECONDS)
    assert set(answers.types.values()) == {"DocumentAccepted"}
    assert all(len(jobs) == 1 for jobs in answers.jobs.values())
    made = {name: jobs.copy().pop() for name, jobs in answers.jobs.items()}
    assert len(set(made.values())) == DOCUMENTS
    for number in range(DOCUMENTS):
        name = f"submission-{number}"
        assert answers.keys[name] == {f"key-{number}".encode()}
        assert answers.references[made[name]] == {f"order-{number}"}
    codes = fleet.sql("SELECT DISTINCT error_code FROM jobs WHERE state = 'failed_parse'")
    assert codes == [("document_broken",)]


@pytest.mark.kafka
async def test_on_real_kafka_by_librdkafka(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    opened = open_fleet(
        tmp_path,
        kafka_bootstrap,
        topic_prefix,
        workers=2,
        intake=f"documents.submitted:{TENANT}",
    )
    async with opened as fleet:
        await all_are_answered_and_made_once(fleet, kafka_bootstrap, plain=False)


@pytest.mark.embedded
async def test_on_the_embedded_broker(embedded_bootstrap: str, tmp_path: Path) -> None:
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    opened = open_fleet(
        tmp_path,
        embedded_bootstrap,
        prefix,
        workers=2,
        intake=f"documents.submitted:{TENANT}",
    )
    async with opened as fleet:
        await all_are_answered_and_made_once(fleet, embedded_bootstrap, plain=True)
