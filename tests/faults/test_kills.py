"""Kills in the middle of the work: nothing that got a 2xx is lost, and nothing is done twice."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from streams.janitor import Janitor
from tests.brokers import skip_or_fail
from tests.fleet import TENANT, Client, Fleet, open_fleet
from tests.kafka_process import KafkaProcess, NoKafkaError
from tests.pdfs import text_pdf
from tests.processes import until

pytestmark = [pytest.mark.processes, pytest.mark.kafka]

DOCUMENTS = 200
UPLOADERS = 4
PAGES = 20
PAGE = ["# A chapter", "", *["Words to keep a parser busy for a while, line by line."] * 30]
ENDS_WITHIN_SECONDS = 120

Fault = tuple[int, Callable[[], Awaitable[None]]]
"""When so many jobs are complete (or, for a gateway, so many uploads answered): what happens."""


def own_line(number: int) -> str:
    """Give the words that no other document has."""
    return f"This line is of document {number:03d} alone, keyword w{number * 7919:07d}."


class Producer:
    """Uploads every document until it is answered, and keeps what it was told."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._numbers: Iterator[int] = iter(range(DOCUMENTS))
        self.jobs: dict[int, str] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(UPLOADERS):
                group.create_task(self._upload_by_turns())

    async def _upload_by_turns(self) -> None:
        for number in self._numbers:
            content = text_pdf([PAGE] * PAGES, own_line(number))
            self.jobs[number] = await self._client.upload_surely(
                content, f"{number}.pdf", within_seconds=90
            )


async def complete(fleet: Fleet) -> int:
    return (await fleet.counts()).get("complete", 0)


async def kill_worker(fleet: Fleet) -> None:
    """Kill the worker with work in its hands, and start it again."""
    (worker,) = fleet.workers
    await until(fleet.at_work, "the worker is at work", within_seconds=30)
    await worker.kill()
    await worker.start()


async def kill_gateway(fleet: Fleet) -> None:
    await fleet.gateway.kill()
    await fleet.gateway.start()


async def in_the_middle(fleet: Fleet, faults: list[Fault]) -> None:
    """Bring every fault about once as many jobs are complete as it asks for."""
    for count, fault in faults:

        async def far_enough(count: int = count) -> bool:
            return await complete(fleet) >= count

        await until(far_enough, f"{count} jobs are complete", within_seconds=ENDS_WITHIN_SECONDS)
        assert await complete(fleet) < DOCUMENTS, "too late: there is no work left"
        await fault()


async def upload_through(fleet: Fleet, producer: Producer, kills: tuple[int, ...]) -> None:
    """Upload all, and kill the gateway each time so many uploads were answered."""
    uploading = asyncio.create_task(producer.run())
    for count in kills:

        async def far_enough(count: int = count) -> bool:
            return len(producer.jobs) >= count

        await until(far_enough, f"{count} uploads are answered", within_seconds=60)
        assert not uploading.done(), "too late: every document is uploaded"
        await kill_gateway(fleet)
    await uploading


async def nothing_is_lost(fleet: Fleet, client: Client, jobs: dict[int, str]) -> None:
    """Hold the tables, the blobs and the answers to what must be after any fault."""
    assert len(set(jobs.values())) == DOCUMENTS
    await fleet.calm(within_seconds=ENDS_WITHIN_SECONDS)
    assert await fleet.counts() == {"complete": DOCUMENTS}
    assert [dict(row) for row in await fleet.rows("jobs.unfinished_without_timer")] == [{"jobs": 0}]
    listed = {job["job_id"]: job for job in await client.jobs()}
    assert set(listed) == set(jobs.values())
    assert {job["state"] for job in listed.values()} == {"complete"}
    for number, job_id in jobs.items():
        history = await client.history(job_id)
        assert [line["to_state"] for line in history].count("complete") == 1, history
        text = (await client.result(job_id, ".txt")).content.decode()
        assert text.count(own_line(number)) == text.count("alone, keyword") == PAGES
    await Janitor(fleet.tables, fleet.blobs, orphan_seconds=0).remove_orphans()
    keys = await fleet.blob_keys()
    results = [f"{TENANT}/{job_id}/{job['attempt']}/result" for job_id, job in listed.items()]
    assert keys == sorted([f"{TENANT}/{job_id}/source" for job_id in listed] + results)


async def test_worker_killed_five_times_and_gateway_twice(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with open_fleet(tmp_path, kafka_bootstrap, topic_prefix, slots=1) as fleet:
        client = await fleet.client()
        producer = Producer(client)
        kills: list[Fault] = [(n, lambda: kill_worker(fleet)) for n in (15, 50, 85, 120, 155)]
        async with asyncio.TaskGroup() as group:
            group.create_task(upload_through(fleet, producer, (60, 130)))
            group.create_task(in_the_middle(fleet, kills))
        await nothing_is_lost(fleet, client, producer.jobs)


async def test_broker_killed_and_started_again(tmp_path: Path, topic_prefix: str) -> None:
    kafka = KafkaProcess(tmp_path / "kafka")
    try:
        await kafka.start()
    except NoKafkaError as error:
        skip_or_fail(str(error))

    async def kill_broker() -> None:
        await kafka.kill()
        await kafka.start()

    try:
        opened = open_fleet(tmp_path, kafka.bootstrap_servers, topic_prefix, slots=1)
        async with opened as fleet:
            client = await fleet.client()
            producer = Producer(client)
            faults: list[Fault] = [
                (15, lambda: kill_worker(fleet)),
                (60, kill_broker),
                (120, lambda: kill_worker(fleet)),
            ]
            async with asyncio.TaskGroup() as group:
                group.create_task(upload_through(fleet, producer, (100,)))
                group.create_task(in_the_middle(fleet, faults))
            await nothing_is_lost(fleet, client, producer.jobs)
    finally:
        await kafka.stop()
