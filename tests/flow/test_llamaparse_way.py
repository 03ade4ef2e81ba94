"""A document's way through LlamaParse and back: real processes, a real broker, a double there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.faults import Fault
from tests.doubles.llamacloud.server import open_llama_cloud
from tests.fleet import Fleet, open_fleet
from tests.pdfs import text_pdf
from tests.processes import until

pytestmark = [pytest.mark.processes, pytest.mark.kafka]

WAIT_SECONDS = 40


@asynccontextmanager
async def open_cloud_fleet(
    folder: Path, servers: str, prefix: str, cloud: LlamaCloud, **settings: object
) -> AsyncIterator[Fleet]:
    opened = open_fleet(
        folder,
        servers,
        prefix,
        workers=0,
        **{
            "mode": "real",
            "llamaparse_api_key": cloud.api_key,
            "llamaparse_url": cloud.url,
            "llamaparse_requests_per_minute": 6000,
            "llamaparse_burst": 100,
            "llamaparse_poll_seconds": 60,
            **settings,
        },
    )
    async with opened as fleet:
        called_back = {} if "webhook_url" in settings else {"webhook_url": fleet.url}
        await fleet.add_worker(**called_back)
        yield fleet


def calls(cloud: LlamaCloud) -> dict[str, int]:
    counted: dict[str, int] = {}
    for call in cloud.calls:
        counted[call.operation] = counted.get(call.operation, 0) + 1
    return counted


def moves(history: list[Any]) -> list[tuple[str, str | None]]:
    return [(line["type"], line["to_state"]) for line in history if line["to_state"]]


async def test_a_webhook_brings_the_result(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_llama_cloud(Behaviour(hold=True)) as cloud,
        open_cloud_fleet(tmp_path, kafka_bootstrap, topic_prefix, cloud) as fleet,
    ):
        client = await fleet.client()
        job_id = str(
            (await client.upload(text_pdf([["one"], ["two"]], "unique"), "a.pdf")).json["job_id"]
        )
        job = await client.reaches(job_id, "parse_queued", within_seconds=WAIT_SECONDS)
        assert job["parser"] == "llamaparse"
        (vendor,) = cloud.jobs.values()
        cloud.finish(vendor.id)
        job = await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        assert (job["parser"], job["pages"], job["attempt"]) == ("llamaparse", 2, 1)
        assert b"Page 1 of" in (await client.result(job_id)).content
        steps = [step for step in moves(await client.history(job_id)) if step[1] != "parsing"]
        assert steps == [
            ("DocumentUploaded", "uploaded"),
            ("ParseQueued", "parse_queued"),
            ("ParseSucceeded", "parsed"),
            ("ParseSucceeded", "complete"),
        ]

        async def settled() -> bool:
            return not cloud.jobs and not fleet.sql("SELECT 1 FROM timers")

        await until(settled, "billed, and forgotten there", within_seconds=WAIT_SECONDS)
        assert fleet.sql("SELECT outcome, credits, kept_there FROM vendor_jobs") == [
            ("billed", 6.0, 0)
        ]
        assert calls(cloud) == {"upload_file": 1, "create": 1, "get": 2, "delete": 1}


async def test_without_webhooks_results_are_polled_for(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_llama_cloud(Behaviour(hold=True)) as cloud,
        open_cloud_fleet(
            tmp_path,
            kafka_bootstrap,
            topic_prefix,
            cloud,
            webhook_url="",
            llamaparse_poll_seconds=0.5,
        ) as fleet,
    ):
        client = await fleet.client()
        job_id = str((await client.upload(text_pdf([["one"]], "unique"), "a.pdf")).json["job_id"])
        await client.reaches(job_id, "parse_queued", within_seconds=WAIT_SECONDS)
        await cloud.until(lambda: len(cloud.calls_of("list")) >= 2)
        for vendor_job_id in cloud.jobs:
            cloud.finish(vendor_job_id)
        job = await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        assert job["parser"] == "llamaparse"
        assert cloud.deliveries == []


async def test_a_lost_answer_makes_no_second_job(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_llama_cloud(Behaviour()) as cloud,
        open_cloud_fleet(
            tmp_path, kafka_bootstrap, topic_prefix, cloud, webhook_url="", lease_seconds=3
        ) as fleet,
    ):
        cloud.inject("create", Fault.CUT_AFTER)
        client = await fleet.client()
        job_id = str((await client.upload(text_pdf([["one"]], "unique"), "a.pdf")).json["job_id"])
        job = await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        assert (job["attempt"], len(cloud.calls_of("create"))) == (1, 1)


async def test_a_cancelled_job_is_stopped_there(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_llama_cloud(Behaviour(hold=True)) as cloud,
        open_cloud_fleet(tmp_path, kafka_bootstrap, topic_prefix, cloud) as fleet,
    ):
        client = await fleet.client()
        job_id = str((await client.upload(text_pdf([["one"]], "unique"), "a.pdf")).json["job_id"])
        await client.reaches(job_id, "parse_queued", within_seconds=WAIT_SECONDS)
        await client.ask("POST", f"/api/v1/jobs/{job_id}/cancel")
        await client.reaches(job_id, "cancelled", within_seconds=WAIT_SECONDS)
        await cloud.until(lambda: len(cloud.calls_of("cancel")) == 1)
        (vendor,) = cloud.jobs.values()
        assert vendor.status == "CANCELLED"


async def test_some_pages_that_failed_leave_the_good_ones(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_llama_cloud(Behaviour()) as cloud,
        open_cloud_fleet(tmp_path, kafka_bootstrap, topic_prefix, cloud) as fleet,
    ):
        cloud.plan(Plan(failed_pages={2: "the page could not be read"}))
        client = await fleet.client()
        job_id = str(
            (await client.upload(text_pdf([["one"], ["two"], ["three"]], "unique"), "a.pdf")).json[
                "job_id"
            ]
        )
        job = await client.reaches(job_id, "complete", "failed_parse", within_seconds=WAIT_SECONDS)
        assert (job["state"], job["pages"]) == ("complete", 3)
        assert job["warnings"] == ["page_failed:2:the page could not be read"]
