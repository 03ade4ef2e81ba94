"""LlamaParse's jobs looked at, looked for, cancelled and forgotten."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog.testing

from schemas.errors import Code, TransientError
from streams.parsers.llamaparse import LlamaParse, open_llama_parse
from tests.cloud_parser import (
    JOB_ID,
    OpenGate,
    document_of,
    options_for,
)
from tests.doubles.llamacloud.behaviour import API_KEY, Behaviour
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.faults import Fault
from tests.doubles.llamacloud.server import open_llama_cloud


@pytest.fixture
async def cloud() -> AsyncIterator[LlamaCloud]:
    async with open_llama_cloud(Behaviour(hold=True)) as cloud:
        yield cloud


@pytest.fixture
def gate() -> OpenGate:
    return OpenGate()


@pytest.fixture
async def parser(cloud: LlamaCloud, gate: OpenGate) -> AsyncIterator[LlamaParse]:
    async with open_llama_parse(options_for(cloud.url), gate) as parser:
        yield parser


async def test_an_attempts_job_is_found_among_many(
    parser: LlamaParse, gate: OpenGate, tmp_path: Path
) -> None:
    since = datetime.now(UTC)
    document = document_of(tmp_path / "source")
    file_id = await parser.upload(document)
    wanted = await parser.submit(document, file_id)
    for attempt in range(2, 122):
        other = document_of(tmp_path / "source", attempt=attempt)
        await parser.submit(other, file_id)
    gate.entered.clear()
    assert await parser.find(JOB_ID, 1, since) == wanted
    assert gate.entered == ["find", "find", "find"]
    assert await parser.find(JOB_ID, 500, since) is None
    assert await parser.find("0190a1b2-0000-7000-8000-000000000002", 1, since) is None
    # The vendor's clock may be behind ours, by less than five minutes.
    assert await parser.find(JOB_ID, 1, since + timedelta(minutes=4)) == wanted
    assert await parser.find(JOB_ID, 1, since + timedelta(minutes=6)) is None


async def test_many_jobs_are_asked_about_in_few_calls(
    cloud: LlamaCloud, parser: LlamaParse, tmp_path: Path
) -> None:
    document = document_of(tmp_path / "source")
    file_id = await parser.upload(document)
    ids = [(await parser.submit(document, file_id)).id for _ in range(120)]
    cloud.forget(ids[7])
    cloud.calls.clear()
    found = await parser.look([*ids, ids[0], "pjb-unknown", "../versions", ""])
    assert found.keys() == set(ids) - {ids[7]}
    calls = cloud.calls_of("list")
    assert [len(call.query["job_ids"]) for call in calls] == [50, 50, 21]
    assert await parser.look([]) == {}


async def test_where_jobs_stand_there(
    cloud: LlamaCloud, parser: LlamaParse, tmp_path: Path
) -> None:
    document = document_of(tmp_path / "source")
    file_id = await parser.upload(document)
    pending, running, done, failed, slow, gone = [
        (await parser.submit(document, file_id)).id for _ in range(6)
    ]
    for started in (running, done, failed):
        cloud.start(started)
    cloud.finish(done)
    cloud.fail(failed, "PDF_IS_PROTECTED: The PDF is password protected")
    cloud.fail(slow, "TIMEOUT: see https://example.org/?X-Amz-Signature=0a1b")
    cloud.cancel(gone)
    found = await parser.look([pending, running, done, failed, slow, gone])
    told = {name: (job.state, job.code, job.transient) for name, job in found.items()}
    assert told == {
        pending: ("pending", None, False),
        running: ("pending", None, False),
        done: ("completed", None, False),
        failed: ("failed", "document_encrypted", False),
        slow: ("failed", "vendor_failed", True),
        gone: ("cancelled", "vendor_cancelled", True),
    }
    assert found[slow].message == "LlamaParse: TIMEOUT: see [url]"


async def test_a_job_is_seen_with_its_bill_when_that_is_known(tmp_path: Path) -> None:
    behaviour = Behaviour(hold=True, billing_seconds=None)
    async with (
        open_llama_cloud(behaviour) as cloud,
        open_llama_parse(options_for(cloud.url), OpenGate()) as parser,
    ):
        document = document_of(tmp_path / "source")
        job = await parser.submit(document, await parser.upload(document))
        cloud.finish(job.id)
        seen = await parser.see(job.id)
        assert seen is not None
        assert (seen.state, seen.job_id, seen.credits) == ("completed", JOB_ID, None)
        cloud.bill(job.id)
        billed = await parser.see(job.id)
        assert billed is not None
        assert billed.credits == 6.0
        assert await parser.see("pjb-unknown") is None
        assert await parser.see("../versions") is None


async def test_cancelling_is_no_error_whatever_the_job_does(
    cloud: LlamaCloud, parser: LlamaParse, gate: OpenGate, tmp_path: Path
) -> None:
    document = document_of(tmp_path / "source")
    job = await parser.submit(document, await parser.upload(document))
    await parser.cancel(job.id)
    assert cloud.jobs[job.id].status == "CANCELLED"
    await parser.cancel(job.id)
    await parser.cancel("pjb-unknown")
    await parser.cancel("../../files")
    assert len(cloud.calls_of("cancel")) == 3
    assert {failure for _, failure in gate.noted} == {None}


async def test_only_an_ended_job_is_forgotten(
    cloud: LlamaCloud, parser: LlamaParse, tmp_path: Path
) -> None:
    document = document_of(tmp_path / "source")
    job = await parser.submit(document, await parser.upload(document))
    with pytest.raises(TransientError) as caught:
        await parser.forget(job.id)
    assert caught.value.code == Code.VENDOR_FAILED
    cloud.finish(job.id)
    await parser.forget(job.id)
    assert cloud.jobs == {}
    await parser.forget(job.id)


@pytest.mark.parametrize("call", ["look", "see", "find", "fetch", "cancel", "forget"])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.UNAUTHORIZED, "vendor_unauthorized"),
        (Fault.CREDITS_SPENT, "vendor_quota_spent"),
        (Fault.RATE_LIMITED, "vendor_rate_limited"),
        (Fault.SERVER_ERROR, "vendor_failed"),
        (Fault.BAD_GATEWAY, "vendor_failed"),
        (Fault.CUT_BEFORE, "parser_unavailable"),
        (Fault.SHORT_BODY, "parser_unavailable"),
        (Fault.HANG_BEFORE, "parser_unavailable"),
        (Fault.SLOW_BODY, "parser_unavailable"),
    ],
)
async def test_trouble_on_the_way_is_transient_and_noted(
    cloud: LlamaCloud, gate: OpenGate, tmp_path: Path, call: str, fault: Fault, code: str
) -> None:
    document = document_of(tmp_path / "source")
    async with open_llama_parse(options_for(cloud.url, call_seconds=1.0), gate) as parser:
        job = await parser.submit(document, await parser.upload(document))
        cloud.finish(job.id)
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "look": lambda: parser.look([job.id]),
            "see": lambda: parser.see(job.id),
            "find": lambda: parser.find(JOB_ID, 1, datetime.now(UTC)),
            "fetch": lambda: parser.fetch(job.id),
            "cancel": lambda: parser.cancel(job.id),
            "forget": lambda: parser.forget(job.id),
        }
        cloud.inject("*", fault)
        with pytest.raises(TransientError) as caught:
            await calls[call]()
    assert caught.value.code == code
    assert gate.noted[-1] == (call, code)
    assert gate.entered == ["upload", "submit", call]


async def test_a_job_of_another_project_is_not_shown_and_blames_no_key(
    cloud: LlamaCloud, parser: LlamaParse, gate: OpenGate
) -> None:
    cloud.inject("get", Fault.FORBIDDEN)
    with pytest.raises(TransientError) as caught:
        await parser.see("pjb-of-others")
    assert caught.value.code == Code.VENDOR_LOST
    assert gate.noted == [("see", None)]
    cloud.inject("list", Fault.FORBIDDEN)
    with pytest.raises(TransientError) as caught:
        await parser.look(["pjb-of-others"])
    assert caught.value.code == Code.VENDOR_UNAUTHORIZED
    assert gate.noted[1:] == [("look", Code.VENDOR_UNAUTHORIZED)]


async def test_neither_messages_nor_logs_hold_the_key(
    cloud: LlamaCloud, parser: LlamaParse, tmp_path: Path
) -> None:
    assert API_KEY not in repr(options_for(cloud.url))
    assert "whsec-of-this-test" not in repr(options_for(cloud.url))
    document = document_of(tmp_path / "source")
    job = await parser.submit(document, await parser.upload(document))
    cloud.fail(job.id, f"could not use {API_KEY} with whsec-of-this-test")
    with structlog.testing.capture_logs() as logs:
        found = (await parser.look([job.id]))[job.id]
    assert found.message == "LlamaParse: could not use [...] with [...]"
    assert API_KEY not in str(logs)
