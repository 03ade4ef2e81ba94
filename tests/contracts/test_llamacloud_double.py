"""The double of LlamaCloud, driven by LlamaCloud's own client: what differs is our mistake."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import llama_cloud
import pytest
from llama_cloud.types import (
    FileCreateResponse,
    FileListResponse,
    FileRetrieveResponse,
    ParsingCancelResponse,
    ParsingCreateResponse,
    ParsingDeleteResponse,
    ParsingGetResponse,
    ParsingListResponse,
    ParsingListVersionsResponse,
    PresignedURL,
    WebhookConfigResponse,
)

from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.catalogue import EXPANDS
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.official import Official, open_official, read_strictly
from tests.doubles.llamacloud.server import open_llama_cloud

LETTER = ("letter.txt", b"first\fsecond\fthird")
PARSE: dict[str, Any] = {"tier": "agentic", "version": "2026-10-16"}
FIRST_MARKDOWN = "# Page 1\n\nfirst"


@pytest.fixture
async def cloud() -> AsyncIterator[LlamaCloud]:
    async with open_llama_cloud(Behaviour(hold=True)) as cloud:
        yield cloud


@pytest.fixture(params=["async", "sync"])
async def sdk(request: pytest.FixtureRequest, cloud: LlamaCloud) -> AsyncIterator[Official]:
    synchronous = request.param == "sync"
    async with open_official(cloud.url, cloud.api_key, synchronous=synchronous) as official:
        yield official


async def created(sdk: Official, **options: Any) -> str:
    file = await sdk.call("files.create", file=LETTER, purpose="parse")
    job = await sdk.call("parsing.create", **(PARSE | {"file_id": file.id} | options))
    return str(job.id)


def items(body: bytes) -> list[bytes]:
    page = json.loads(body)
    assert page.keys() == {"items", "next_page_token"}
    return [json.dumps(item).encode() for item in page["items"]]


async def test_files_are_kept_found_fetched_and_deleted(sdk: Official, cloud: LlamaCloud) -> None:
    file = await sdk.strict(
        FileCreateResponse, "files.create", file=LETTER, purpose="parse", external_file_id="job-1"
    )
    assert (file.name, file.file_type, file.purpose) == ("letter.txt", "txt", "parse")
    again = await sdk.call("files.create", file=LETTER, purpose="parse", external_file_id="job-1")
    await sdk.call("files.create", file=LETTER, purpose="parse", external_file_id="job-2")
    await sdk.strict(FileRetrieveResponse, "files.retrieve", file.id)
    found = items(await sdk.body("files.list", external_file_id="job-1"))
    assert [read_strictly(FileListResponse, f).id for f in found] == [file.id, again.id]
    await sdk.strict(PresignedURL, "files.content", file.id)
    await sdk.call("files.delete", file.id)
    with pytest.raises(llama_cloud.NotFoundError):
        await sdk.call("files.retrieve", file.id)
    assert [call.operation for call in cloud.calls if call.file_id == file.id] == [
        "upload_file", "get_file", "file_content", "delete_file", "get_file",
    ]  # fmt: skip


async def test_a_job_is_created_and_every_expansion_is_read(
    sdk: Official, cloud: LlamaCloud
) -> None:
    file = await sdk.call("files.create", file=LETTER, purpose="parse")
    job = await sdk.strict(
        ParsingCreateResponse,
        "parsing.create",
        file_id=file.id,
        user_metadata={"job": "j", "attempt": "1"},
        page_ranges={"target_pages": "1,3"},
        processing_options={"ocr_parameters": {"languages": ["en", "ch_sim"]}},
        agentic_options={"custom_prompt": "as it stands"},
        webhook_configurations=[{"webhook_url": "https://example.com", "webhook_events": []}],
        **PARSE,
    )
    assert (job.status, job.user_metadata) == ("PENDING", {"job": "j", "attempt": "1"})
    waiting = await sdk.strict(ParsingGetResponse, "parsing.get", job.id, expand=["markdown"])
    assert (waiting.job.status, waiting.markdown) == ("PENDING", None)
    cloud.start(job.id)
    assert (await sdk.call("parsing.get", job.id)).job.status == "RUNNING"
    cloud.finish(job.id)
    done = await sdk.strict(ParsingGetResponse, "parsing.get", job.id, expand=sorted(EXPANDS))
    assert done.job.model_fields_set == type(done.job).model_fields.keys()
    assert done.job.status == "COMPLETED"
    assert done.job.usage
    assert done.job.usage.credits == 20
    assert done.markdown is not None
    assert [page.page_number for page in done.markdown.pages] == [1, 3]
    assert done.markdown_full == "# Page 1\n\nfirst\n\n---\n\n# Page 3\n\nthird"
    assert done.text_full == "first\n\n---\n\nthird"
    assert done.result_content_metadata is not None
    exists = {name for name, file in done.result_content_metadata.items() if file.exists}
    assert exists == {"markdown", "md", "text", "fullText", "items", "metadata", "forms"}


async def test_expand_is_read_with_commas_and_repeated(sdk: Official, cloud: LlamaCloud) -> None:
    job_id = await created(sdk)
    cloud.finish(job_id)
    repeated = await sdk.body("parsing.get", job_id, expand=["text", "usage"])
    commas = await sdk.body("parsing.get", job_id, extra_query={"expand": "text,usage"})
    assert commas == repeated
    bare = await sdk.call("parsing.get", job_id)
    assert (bare.text, bare.job.usage) == (None, None)
    assert [call.query for call in cloud.calls_of("get")] == [
        {"expand": ["text", "usage"]},
        {"expand": ["text,usage"]},
        {},
    ]


async def test_a_file_is_uploaded_and_parsed_in_one_call(sdk: Official, cloud: LlamaCloud) -> None:
    body = await sdk.body("parsing.create", upload_file=LETTER, user_metadata={"a": "b"}, **PARSE)
    job = json.loads(body)
    assert job.keys() == ParsingCreateResponse.model_fields.keys()
    assert job["user_metadata"] is None
    cloud.finish(job["id"])
    assert (await sdk.call("parsing.wait_for_completion", job["id"])).status == "COMPLETED"


async def test_a_result_in_the_cache_is_complete_at_once_and_free(
    sdk: Official, cloud: LlamaCloud
) -> None:
    cloud.finish(await created(sdk))
    file = await sdk.call("files.create", file=LETTER, purpose="parse")
    again = await sdk.call("parsing.create", file_id=file.id, client_name="other", **PARSE)
    assert again.status == "COMPLETED"
    got = await sdk.call("parsing.get", again.id, expand=["usage", "markdown"])
    assert (got.job.usage.credits, got.markdown.pages[0].markdown) == (0, FIRST_MARKDOWN)
    forced = await sdk.call("parsing.create", file_id=file.id, disable_cache=True, **PARSE)
    other = await sdk.call("parsing.create", file_id=file.id, tier="fast", version="latest")
    assert (forced.status, other.status) == ("PENDING", "PENDING")


async def test_jobs_are_listed_by_id_by_status_by_time_and_in_pages(
    sdk: Official, cloud: LlamaCloud
) -> None:
    jobs = [await created(sdk) for _ in range(3)]
    cloud.start(jobs[1])
    body = await sdk.body("parsing.list", job_ids=[jobs[0], jobs[1], "pjb-unknown"])
    rows = [read_strictly(ParsingListResponse, row) for row in items(body)]
    assert [(row.id, row.status) for row in rows] == [(jobs[1], "RUNNING"), (jobs[0], "PENDING")]
    running = await sdk.call("parsing.list", status="RUNNING")
    assert [row.id for row in running.items] == [jobs[1]]
    later = datetime.now(UTC) + timedelta(hours=1)
    assert (await sdk.call("parsing.list", created_at_on_or_after=later)).items == []
    page = await sdk.call("parsing.list", page_size=2)
    assert [row.id for row in page.items] == [jobs[2], jobs[1]]
    rest = await sdk.call("parsing.list", page_size=2, page_token=page.next_page_token)
    assert ([row.id for row in rest.items], rest.next_page_token) == ([jobs[0]], None)


async def test_only_a_living_job_is_cancelled_and_only_an_ended_one_deleted(
    sdk: Official, cloud: LlamaCloud
) -> None:
    job_id = await created(sdk)
    with pytest.raises(llama_cloud.ConflictError):
        await sdk.call("parsing.delete", job_id)
    cancelled = await sdk.strict(ParsingCancelResponse, "parsing.cancel", job_id)
    assert cancelled.status == "CANCELLED"
    with pytest.raises(llama_cloud.ConflictError):
        await sdk.call("parsing.cancel", job_id)
    cloud.finish(job_id)
    assert cloud.jobs[job_id].status == "CANCELLED"
    assert (await sdk.strict(ParsingDeleteResponse, "parsing.delete", job_id)).id == job_id
    with pytest.raises(llama_cloud.NotFoundError, match="Parse job not found"):
        await sdk.call("parsing.get", job_id)


async def test_the_versions_are_those_of_the_client(sdk: Official) -> None:
    versions = await sdk.strict(ParsingListVersionsResponse, "parsing.list_versions")
    assert versions.latest.agentic == "2026-10-16"


async def test_webhook_configurations_are_kept_without_their_secret(sdk: Official) -> None:
    stored = await sdk.strict(
        WebhookConfigResponse,
        "webhook_configs.create",
        webhook_url="https://example.com/hook",
        webhook_events=["parse.success"],
        webhook_output_format="json",
        webhook_signing_secret="secret",
    )
    assert stored.has_secret
    changed = await sdk.strict(
        WebhookConfigResponse, "webhook_configs.update", stored.id, webhook_events=["parse.error"]
    )
    assert (changed.webhook_events, changed.webhook_url) == (["parse.error"], stored.webhook_url)
    with pytest.deprecated_call():
        assert await sdk.call("webhook_configs.list") == [changed]
    assert (await sdk.call("webhook_configs.list_paginated")).items == [changed]
    await sdk.call("webhook_configs.delete", stored.id)
    with pytest.raises(llama_cloud.NotFoundError):
        await sdk.call("webhook_configs.retrieve", stored.id)


async def test_pages_that_failed_say_so_and_too_many_fail_the_job(
    sdk: Official, cloud: LlamaCloud
) -> None:
    cloud.plan(Plan(failed_pages={2: "OCR failed"}), times=2)
    strict = await created(sdk)
    conditions = {"job_failure_conditions": {"allowed_page_failure_ratio": 0.5}}
    lenient = await created(sdk, processing_control=conditions)
    for job_id in (strict, lenient):
        cloud.finish(job_id)
    got = await sdk.call("parsing.get", strict)
    assert (got.job.status, got.job.error_message) == ("FAILED", "1 of 3 pages failed to parse")
    expand = ["markdown", "text", "items", "forms"]
    got = await sdk.strict(ParsingGetResponse, "parsing.get", lenient, expand=expand)
    failed = {"page_number": 2, "success": False, "error": "OCR failed"}
    for result in (got.markdown, got.items, got.forms):
        assert result is not None
        assert [page.success for page in result.pages] == [True, False, True]
        assert result.pages[1].model_dump() == failed


async def test_waiting_ends_when_the_job_does(sdk: Official, cloud: LlamaCloud) -> None:
    job_id = await created(sdk)
    waiting = asyncio.create_task(
        sdk.call("parsing.wait_for_completion", job_id, polling_interval=0.01, backoff="constant")
    )
    await cloud.until(lambda: len(cloud.calls_of("get")) >= 2)
    cloud.finish(job_id)
    assert (await waiting).status == "COMPLETED"


async def test_a_key_of_another_region_is_refused(cloud: LlamaCloud) -> None:
    async with open_official(cloud.url, "llx-europe", synchronous=False) as sdk:
        with pytest.raises(llama_cloud.AuthenticationError):
            await sdk.call("parsing.list")
    assert cloud.calls[0].status == 401
