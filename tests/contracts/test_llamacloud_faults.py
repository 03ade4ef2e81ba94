"""What the double of LlamaCloud does wrong on request, seen through LlamaCloud's own client."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import llama_cloud
import pytest

from tests.doubles.llamacloud.behaviour import REAL_QUOTAS, Behaviour
from tests.doubles.llamacloud.catalogue import Status
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.faults import Fault
from tests.doubles.llamacloud.official import Official, open_official
from tests.doubles.llamacloud.server import open_llama_cloud

LETTER = ("letter.txt", b"first\fsecond")
PARSE: dict[str, Any] = {"tier": "agentic", "version": "2026-10-16"}
REFUSALS = [
    (Fault.UNAUTHORIZED, llama_cloud.AuthenticationError, 401, "authentication"),
    (Fault.CREDITS_SPENT, llama_cloud.APIStatusError, 402, "maximum number of credits"),
    (Fault.FORBIDDEN, llama_cloud.PermissionDeniedError, 403, "access"),
    (Fault.NOT_FOUND, llama_cloud.NotFoundError, 404, "Parse job not found"),
    (Fault.TOO_LARGE, llama_cloud.APIStatusError, 413, "size"),
    (Fault.RATE_LIMITED, llama_cloud.RateLimitError, 429, "Rate limit exceeded"),
    (Fault.PLAN_LIMIT, llama_cloud.RateLimitError, 429, "You've already reached the maximum"),
    (Fault.SERVER_ERROR, llama_cloud.InternalServerError, 500, r"Correlation ID: [0-9a-f-]{36}"),
    (Fault.BAD_GATEWAY, llama_cloud.InternalServerError, 502, "<html>"),
]
FLAWS: list[tuple[dict[str, Any], str, list[str | int]]] = [
    ({"tier": "cheap"}, "literal_error", ["body", "tier"]),
    ({"version": "2020-01-01"}, "value_error", ["body", "version"]),
    ({"tier": "fast"}, "value_error", ["body", "version"]),
    ({"source_url": "https://example.com/a.pdf"}, "value_error", ["body"]),
    ({"page_ranges": {"target_pages": "0-2"}}, "value_error",
     ["body", "page_ranges", "target_pages"]),
    ({"page_ranges": {"target_pages": "2,1-3"}}, "value_error",
     ["body", "page_ranges", "target_pages"]),
    ({"page_ranges": {"last_page": 3}}, "extra_forbidden", ["body", "page_ranges", "last_page"]),
    ({"user_metadata": {"attempt": 1}}, "string_type", ["body", "user_metadata", "attempt"]),
    ({"processing_control": {"timeouts": {"base_in_seconds": 9000}}}, "less_than_equal",
     ["body", "processing_control", "timeouts", "base_in_seconds"]),
    ({"webhook_configurations": [{"webhook_events": ["parse.done"]}]}, "literal_error",
     ["body", "webhook_configurations", 0, "webhook_events"]),
    ({"extra_body": {"webhook_url": "https://example.com"}}, "extra_forbidden",
     ["body", "webhook_url"]),
]  # fmt: skip


@pytest.fixture
async def cloud() -> AsyncIterator[LlamaCloud]:
    async with open_llama_cloud(Behaviour(hold=True)) as cloud:
        yield cloud


@pytest.fixture(params=["async", "sync"])
async def sdk(request: pytest.FixtureRequest, cloud: LlamaCloud) -> AsyncIterator[Official]:
    synchronous = request.param == "sync"
    async with open_official(cloud.url, cloud.api_key, synchronous=synchronous) as official:
        yield official


async def uploaded(sdk: Official) -> str:
    return str((await sdk.call("files.create", file=LETTER, purpose="parse")).id)


async def created(sdk: Official, **options: Any) -> str:
    options = PARSE | {"file_id": await uploaded(sdk)} | options
    return str((await sdk.call("parsing.create", **options)).id)


@pytest.mark.parametrize(("fault", "kind", "status", "text"), REFUSALS)
async def test_refusals_are_the_errors_of_the_client(
    sdk: Official, cloud: LlamaCloud, fault: Fault, kind: type[Exception], status: int, text: str
) -> None:
    cloud.inject("list", fault)
    with pytest.raises(llama_cloud.APIStatusError) as caught:
        await sdk.call("parsing.list")
    assert type(caught.value) is kind
    assert caught.value.status_code == status
    assert "Retry-After" not in caught.value.response.headers
    body = caught.value.body
    assert re.search(text, body["detail"] if isinstance(body, dict) else str(body))
    await sdk.call("parsing.list")
    assert [(call.status, call.fault) for call in cloud.calls] == [(status, fault), (200, None)]


@pytest.mark.parametrize(("options", "kind", "loc"), FLAWS)
async def test_a_wrong_request_is_told_what_is_wrong_with_it(
    sdk: Official, cloud: LlamaCloud, options: dict[str, Any], kind: str, loc: list[str | int]
) -> None:
    with pytest.raises(llama_cloud.UnprocessableEntityError) as caught:
        await created(sdk, **options)
    assert isinstance(caught.value.body, dict)
    (detail,) = caught.value.body["detail"]
    assert detail.keys() == {"type", "loc", "msg", "input"}
    assert (detail["type"], detail["loc"]) == (kind, loc)
    assert not cloud.jobs


async def test_other_wrong_requests(sdk: Official, cloud: LlamaCloud) -> None:
    with pytest.raises(llama_cloud.BadRequestError, match=r"Uploaded file is empty\."):
        await sdk.call("files.create", file=("empty.txt", b""), purpose="parse")
    with pytest.raises(llama_cloud.NotFoundError, match="Source file not found in storage"):
        await created(sdk, file_id="11111111-2222-3333-4444-555555555555")
    with pytest.raises(llama_cloud.UnprocessableEntityError):
        await sdk.call("files.create", file=LETTER, purpose="reading")
    with pytest.raises(llama_cloud.PermissionDeniedError):
        await sdk.call("parsing.list", project_id="prj-of-somebody-else")
    await sdk.call("parsing.list", project_id=cloud.project_id, organization_id="org")
    fast = await created(sdk, tier="fast", version="latest")
    with pytest.raises(llama_cloud.BadRequestError, match="not available for FAST tier"):
        await sdk.call("parsing.get", fast, expand=["markdown"])


@pytest.mark.parametrize(
    ("fault", "jobs"),
    [(Fault.CUT_BEFORE, 0), (Fault.CUT_AFTER, 1), (Fault.SHORT_BODY, 1)],
)
async def test_a_connection_is_cut_before_or_after_the_job_was_created(
    sdk: Official, cloud: LlamaCloud, fault: Fault, jobs: int
) -> None:
    file_id = await uploaded(sdk)
    cloud.inject("create", fault)
    with pytest.raises(llama_cloud.APIConnectionError):
        await sdk.call("parsing.create", file_id=file_id, **PARSE)
    assert len(cloud.jobs) == jobs
    assert [(call.status, call.fault) for call in cloud.calls_of("create")] == [(None, fault)]


@pytest.mark.parametrize(
    ("fault", "jobs"), [(Fault.HANG_BEFORE, 0), (Fault.HANG_AFTER, 1), (Fault.SLOW_BODY, 1)]
)
async def test_an_answer_that_does_not_come_in_time(
    sdk: Official, cloud: LlamaCloud, fault: Fault, jobs: int
) -> None:
    file_id = await uploaded(sdk)
    cloud.inject("create", fault)
    with pytest.raises(llama_cloud.APITimeoutError):
        await sdk.call("parsing.create", file_id=file_id, timeout=0.2, **PARSE)
    assert len(cloud.jobs) == jobs


async def test_a_slow_body_comes_whole_in_the_end(sdk: Official, cloud: LlamaCloud) -> None:
    cloud.inject("versions", Fault.SLOW_BODY, seconds=0.01)
    assert (await sdk.call("parsing.list_versions")).latest.fast == "2026-06-15"


async def test_a_result_may_be_missing_just_after_success(sdk: Official, cloud: LlamaCloud) -> None:
    cloud.inject("get", Fault.RESULT_NOT_FOUND, times=2)
    job_id = await created(sdk)
    await sdk.call("parsing.get", job_id, expand=["text"])
    cloud.finish(job_id)
    assert (await sdk.call("parsing.get", job_id)).job.status == "COMPLETED"
    for _ in range(2):
        with pytest.raises(llama_cloud.NotFoundError, match="Result not found"):
            await sdk.call("parsing.get", job_id, expand=["text"])
    assert (await sdk.call("parsing.get", job_id, expand=["text"])).text.pages[0].text == "first"


async def test_presigned_bytes_need_no_key_bear_none_and_expire(cloud: LlamaCloud) -> None:
    async with (
        open_official(cloud.url, cloud.api_key, synchronous=False) as sdk,
        aiohttp.ClientSession() as http,
    ):
        job_id = await created(sdk)
        cloud.finish(job_id)
        got = await sdk.call("parsing.get", job_id, expand=["markdown_full_content_metadata"])
        file = got.result_content_metadata["md"]
        async with http.get(file.presigned_url) as answer:
            body = await answer.read()
        assert body == b"# Page 1\n\nfirst\n\n---\n\n# Page 2\n\nsecond"
        assert file.size_bytes == len(body)
        key = {"Authorization": f"Bearer {cloud.api_key}"}
        async with http.get(file.presigned_url, headers=key) as answer:
            assert answer.status == 400
            assert "<Code>InvalidArgument</Code>" in await answer.text()
        cloud.expire_urls()
        async with http.get(file.presigned_url) as answer:
            assert answer.status == 403
    assert [call.status for call in cloud.calls_of("download")] == [200, 400, 403]


async def test_the_bill_may_come_late() -> None:
    async with (
        open_llama_cloud(Behaviour(billing_seconds=None)) as cloud,
        open_official(cloud.url, cloud.api_key, synchronous=False) as sdk,
    ):
        job_id = await created(sdk, processing_options={"confidence_score_effort": "high"})
        await cloud.until(lambda: cloud.jobs[job_id].status is Status.COMPLETED)
        got = await sdk.call("parsing.get", job_id, expand=["usage"])
        assert got.job.usage.credits is None
        cloud.bill(job_id)
        got = await sdk.call("parsing.get", job_id, expand=["usage"])
        assert got.job.usage.credits == 30


async def test_jobs_end_by_themselves_as_planned() -> None:
    async with (
        open_llama_cloud() as cloud,
        open_official(cloud.url, cloud.api_key, synchronous=False) as sdk,
    ):
        cloud.plan(Plan(error="PDF_IS_PROTECTED: The PDF file is password protected"))
        cloud.plan(Plan(stuck=True))
        failed, stuck = await created(sdk), await created(sdk)
        pdf = await sdk.call("files.create", file=("a.pdf", b"no pdf"), purpose="parse")
        broken = (await sdk.call("parsing.create", file_id=pdf.id, **PARSE)).id
        await cloud.until(lambda: cloud.jobs[broken].status is Status.FAILED)
        assert (await sdk.call("parsing.get", broken)).job.error_message.startswith("PDF_IS_BROKEN")
        got = await sdk.call("parsing.get", failed, expand=["usage"])
        assert (got.job.status, got.job.usage.credits) == ("FAILED", None)
        assert cloud.jobs[stuck].status is Status.PENDING
        cloud.forget(stuck)
        assert (await sdk.call("parsing.list", job_ids=[stuck])).items == []


async def test_quotas_are_counted_per_window() -> None:
    now = [0.0]
    behaviour = Behaviour(hold=True, quotas=REAL_QUOTAS)
    async with (
        open_llama_cloud(behaviour, clock=lambda: now[0]) as cloud,
        open_official(cloud.url, cloud.api_key, synchronous=False) as sdk,
    ):
        await asyncio.gather(*(uploaded(sdk) for _ in range(50)))
        with pytest.raises(llama_cloud.RateLimitError):
            await uploaded(sdk)
        now[0] = 5.0
        await uploaded(sdk)


async def test_chance_follows_the_seed() -> None:
    async def draws(seed: int) -> list[int | None]:
        async with (
            open_llama_cloud(Behaviour(seed=seed)) as cloud,
            open_official(cloud.url, cloud.api_key, synchronous=False) as sdk,
        ):
            card = cloud.inject("*", Fault.SERVER_ERROR, times=None, probability=0.5, status=503)
            for _ in range(20):
                await asyncio.gather(sdk.call("parsing.list"), return_exceptions=True)
            assert card.hits == [call.status for call in cloud.calls].count(503)
            return [call.status for call in cloud.calls]

    first = await draws(7)
    assert set(first) == {200, 503}
    assert await draws(7) == first
    assert await draws(8) != first
