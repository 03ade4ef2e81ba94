"""LlamaParse on the wire: what it sends for a document, and that it never submits it twice."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from schemas.events import ParseOptions
from streams.parsers.base import SubmissionUnresolvedError, VendorState
from streams.parsers.llamaparse import LlamaParse, open_llama_parse
from tests.cloud_parser import (
    JOB_ID,
    TWO_PAGES,
    OpenGate,
    document_of,
    operations,
    options_for,
)
from tests.doubles.llamacloud.behaviour import Behaviour
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


async def test_what_is_sent_for_a_document(
    cloud: LlamaCloud, parser: LlamaParse, gate: OpenGate, tmp_path: Path
) -> None:
    document = document_of(tmp_path / "source")
    file_id = await parser.upload(document)
    job = await parser.submit(document, file_id)
    file = cloud.files[file_id]
    assert (file.name, file.purpose, file.external_file_id, file.content) == (
        f"{JOB_ID}.txt",
        "parse",
        JOB_ID,
        TWO_PAGES,
    )
    assert cloud.jobs[job.id].options == {
        "file_id": file_id,
        "tier": "cost_effective",
        "version": "2026-09-28",
        "user_metadata": {
            "job": JOB_ID,
            "attempt": "1",
            "version": "2026-09-28",
            "page_limit": "400",
        },
        "page_ranges": {"max_pages": 401},
        "processing_control": {"job_failure_conditions": {"allowed_page_failure_ratio": 0.5}},
    }
    assert (job.state, job.job_id, job.attempt) == (VendorState.PENDING, JOB_ID, 1)
    assert operations(cloud) == ["upload_file", "create"]
    assert gate.entered == ["upload", "submit"]
    assert gate.noted == [("upload", None), ("submit", None)]


async def test_what_a_producer_asks_for_is_passed_on(
    cloud: LlamaCloud, tmp_path: Path, gate: OpenGate
) -> None:
    options = options_for(cloud.url, callback_url="https://pw.example.org/api/v1/webhooks/x")
    asked = ParseOptions(
        tier="agentic", languages=("de", "en"), target_pages="1,3-5", prompt="Keep the umlauts."
    )
    document = document_of(tmp_path / "source", attempt=2, options=asked)
    async with open_llama_parse(options, gate) as parser:
        job = await parser.submit(document, await parser.upload(document))
    sent = cloud.jobs[job.id].options
    assert sent["tier"] == "agentic"
    assert sent["version"] == "latest"
    assert sent["user_metadata"] == {
        "job": JOB_ID,
        "attempt": "2",
        "version": "latest",
        "target_pages": "1,3-5",
    }
    assert sent["page_ranges"] == {"target_pages": "1,3-5"}
    assert sent["processing_options"] == {"ocr_parameters": {"languages": ["de", "en"]}}
    assert sent["agentic_options"] == {"custom_prompt": "Keep the umlauts."}
    assert sent["disable_cache"] is True
    assert sent["webhook_configurations"] == [
        {
            "webhook_url": "https://pw.example.org/api/v1/webhooks/x",
            "webhook_events": [
                "parse.success",
                "parse.error",
                "parse.partial_success",
                "parse.cancelled",
            ],
            "webhook_output_format": "json",
            "webhook_signing_secret": "whsec-of-this-test",
        }
    ]


async def test_more_chosen_pages_than_the_limit_are_not_submitted(
    cloud: LlamaCloud, parser: LlamaParse, tmp_path: Path
) -> None:
    asked = ParseOptions(target_pages="1-300,400-600")
    with pytest.raises(PermanentError) as caught:
        await parser.submit(document_of(tmp_path / "source", options=asked), "file")
    assert caught.value.code == Code.DOCUMENT_TOO_MANY_PAGES
    assert cloud.calls == []


@pytest.mark.parametrize(
    ("fault", "status", "created", "code"),
    [
        (Fault.CUT_BEFORE, None, False, Code.PARSER_UNAVAILABLE),
        (Fault.CUT_AFTER, None, True, Code.PARSER_UNAVAILABLE),
        (Fault.HANG_BEFORE, None, False, Code.PARSER_UNAVAILABLE),
        (Fault.HANG_AFTER, None, True, Code.PARSER_UNAVAILABLE),
        (Fault.SLOW_BODY, None, True, Code.PARSER_UNAVAILABLE),
        (Fault.SHORT_BODY, None, True, Code.PARSER_UNAVAILABLE),
        (Fault.GARBLED, None, True, Code.VENDOR_FAILED),
        (Fault.SERVER_ERROR, None, False, Code.VENDOR_FAILED),
        (Fault.BAD_GATEWAY, None, False, Code.VENDOR_FAILED),
        (Fault.SERVER_ERROR, 503, False, Code.VENDOR_FAILED),
        (Fault.SERVER_ERROR, 504, False, Code.VENDOR_FAILED),
    ],
)
async def test_an_ambiguous_submission_is_left_to_who_looks(
    cloud: LlamaCloud,
    gate: OpenGate,
    tmp_path: Path,
    fault: Fault,
    status: int | None,
    created: bool,
    code: Code,
) -> None:
    since = datetime.now(UTC)
    options = options_for(cloud.url, submit_seconds=1.0)
    document = document_of(tmp_path / "source")
    cloud.inject("create", fault, status=status)
    async with open_llama_parse(options, gate) as parser:
        file_id = await parser.upload(document)
        with pytest.raises(SubmissionUnresolvedError):
            await parser.submit(document, file_id)
        found = await parser.find(JOB_ID, 1, since)
    assert (found is not None) == created
    assert operations(cloud) == ["upload_file", "create", "list"]
    assert len(cloud.jobs) == (1 if created else 0)
    assert gate.noted == [("upload", None), ("submit", code), ("find", None)]


@pytest.mark.parametrize(
    ("fault", "kind", "code", "noted"),
    [
        (Fault.UNAUTHORIZED, TransientError, "vendor_unauthorized", "vendor_unauthorized"),
        (Fault.FORBIDDEN, TransientError, "vendor_unauthorized", "vendor_unauthorized"),
        (Fault.CREDITS_SPENT, TransientError, "vendor_quota_spent", "vendor_quota_spent"),
        (Fault.PLAN_LIMIT, TransientError, "vendor_quota_spent", "vendor_quota_spent"),
        (Fault.RATE_LIMITED, TransientError, "vendor_rate_limited", "vendor_rate_limited"),
        (Fault.NOT_FOUND, TransientError, "vendor_failed", None),
        (Fault.TOO_LARGE, PermanentError, "document_too_large", None),
    ],
)
async def test_a_refused_submission_created_nothing(
    cloud: LlamaCloud,
    parser: LlamaParse,
    gate: OpenGate,
    tmp_path: Path,
    fault: Fault,
    kind: type[ParsewireError],
    code: str,
    noted: str | None,
) -> None:
    document = document_of(tmp_path / "source")
    file_id = await parser.upload(document)
    cloud.inject("create", fault)
    with pytest.raises(kind) as caught:
        await parser.submit(document, file_id)
    assert caught.value.code == code
    assert cloud.jobs == {}
    assert operations(cloud) == ["upload_file", "create"]
    assert gate.noted[-1] == ("submit", noted)
    # Its turn was paid for with the upload: no document is sent for nothing.
    assert gate.paid == [2, 0]


async def test_a_file_that_expired_there_may_be_sent_again(
    parser: LlamaParse, tmp_path: Path
) -> None:
    with pytest.raises(TransientError) as caught:
        await parser.submit(document_of(tmp_path / "source"), "file-that-is-gone")
    assert caught.value.message == (
        "LlamaParse answered submit with 404: Source file not found in storage"
    )


async def test_a_wrong_version_says_what_is_wrong_and_no_secret(
    cloud: LlamaCloud, gate: OpenGate, tmp_path: Path
) -> None:
    options = options_for(cloud.url, version="1999-01-01", callback_url="https://pw.example.org")
    asked = ParseOptions(prompt="The merger is called Nightingale.")
    document = document_of(tmp_path / "source", options=asked)
    async with open_llama_parse(options, gate) as parser:
        file_id = await parser.upload(document)
        with pytest.raises(PermanentError) as caught:
            await parser.submit(document, file_id)
    assert caught.value.code == Code.VENDOR_REFUSED
    assert caught.value.message == (
        "LlamaParse answered submit with 422: body.version: Value error, "
        "Unknown version '1999-01-01' for tier 'cost_effective'"
    )
    assert gate.noted[-1] == ("submit", None)


async def test_a_refused_connection_is_no_ambiguous_submission(
    gate: OpenGate, tmp_path: Path, free_port: int
) -> None:
    document = document_of(tmp_path / "source")
    async with open_llama_parse(options_for(f"http://127.0.0.1:{free_port}"), gate) as parser:
        with pytest.raises(TransientError) as caught:
            await parser.submit(document, "file")
    assert caught.value.code == Code.PARSER_UNAVAILABLE
    assert gate.noted == [("submit", Code.PARSER_UNAVAILABLE)]


async def test_a_name_that_nobody_resolves_is_no_ambiguous_submission(
    gate: OpenGate, tmp_path: Path
) -> None:
    document = document_of(tmp_path / "source")
    async with open_llama_parse(options_for("https://cloud.invalid"), gate) as parser:
        with pytest.raises(TransientError) as caught:
            await parser.submit(document, "file")
    assert caught.value.code == Code.PARSER_UNAVAILABLE


async def test_a_listener_that_speaks_no_tls_is_no_ambiguous_submission(
    gate: OpenGate, tmp_path: Path
) -> None:
    document = document_of(tmp_path / "source")

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with open_llama_parse(options_for(f"https://127.0.0.1:{port}"), gate) as parser:
            with pytest.raises(TransientError) as caught:
                await parser.submit(document, "file")
    assert caught.value.code == Code.PARSER_UNAVAILABLE


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (Fault.CUT_BEFORE, TransientError, "parser_unavailable"),
        (Fault.CUT_AFTER, TransientError, "parser_unavailable"),
        (Fault.HANG_BEFORE, TransientError, "parser_unavailable"),
        (Fault.GARBLED, TransientError, "vendor_failed"),
        (Fault.SERVER_ERROR, TransientError, "vendor_failed"),
        (Fault.UNAUTHORIZED, TransientError, "vendor_unauthorized"),
        (Fault.TOO_LARGE, PermanentError, "document_too_large"),
    ],
)
async def test_an_upload_that_failed_is_told_and_may_be_repeated(
    cloud: LlamaCloud,
    gate: OpenGate,
    tmp_path: Path,
    fault: Fault,
    kind: type[ParsewireError],
    code: str,
) -> None:
    document = document_of(tmp_path / "source")
    cloud.inject("upload_file", fault)
    async with open_llama_parse(options_for(cloud.url, call_seconds=1.0), gate) as parser:
        with pytest.raises(kind) as caught:
            await parser.upload(document)
        assert caught.value.code == code
        assert cloud.files[await parser.upload(document)].content == TWO_PAGES
    assert operations(cloud) == ["upload_file", "upload_file"]


async def test_a_large_file_arrives_whole(
    cloud: LlamaCloud, parser: LlamaParse, tmp_path: Path
) -> None:
    raw = b"%PDF-1.7\n" + bytes(range(256)) * 100_000
    document = document_of(tmp_path / "source", raw, media_type="application/pdf")
    file = cloud.files[await parser.upload(document)]
    assert file.name == f"{JOB_ID}.pdf"
    assert file.content == raw


async def test_what_llamacloud_would_refuse_by_its_size_is_not_sent(
    cloud: LlamaCloud, parser: LlamaParse, tmp_path: Path
) -> None:
    path = tmp_path / "source"
    empty = document_of(path, b"")
    with pytest.raises(PermanentError) as caught:
        await parser.upload(empty)
    assert caught.value.code == Code.DOCUMENT_EMPTY
    with path.open("wb") as file:
        file.truncate(512 * 1024 * 1024 + 1)
    large = document_of(tmp_path / "other", b"x")
    object.__setattr__(large, "size_bytes", path.stat().st_size)
    with pytest.raises(PermanentError) as caught:
        await parser.upload(large)
    assert caught.value.code == Code.DOCUMENT_TOO_LARGE
    assert cloud.calls == []


async def test_a_file_that_is_gone_is_said(parser: LlamaParse, tmp_path: Path) -> None:
    document = document_of(tmp_path / "source")
    document.path.unlink()
    with pytest.raises(PermanentError) as caught:
        await parser.upload(document)
    assert caught.value.code == Code.SOURCE_MISSING


async def test_a_cached_result_is_complete_at_once(gate: OpenGate, tmp_path: Path) -> None:
    async with (
        open_llama_cloud() as cloud,
        open_llama_parse(options_for(cloud.url), gate) as parser,
    ):
        document = document_of(tmp_path / "source")
        first = await parser.submit(document, await parser.upload(document))
        await cloud.until(lambda: cloud.jobs[first.id].status == "COMPLETED")
        again = await parser.submit(document, await parser.upload(document))
    assert first.state is VendorState.PENDING
    assert again.state is VendorState.COMPLETED


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_request_to_submit_is_accounted_for(
    gate: OpenGate, tmp_path: Path, seed: int
) -> None:
    since = datetime.now(UTC)
    known, unresolved, refused = set(), 0, 0
    async with (
        open_llama_cloud(Behaviour(hold=True, seed=seed)) as cloud,
        open_llama_parse(options_for(cloud.url), gate) as parser,
    ):
        file_id = await parser.upload(document_of(tmp_path / "source"))
        for fault in (
            Fault.CUT_BEFORE,
            Fault.CUT_AFTER,
            Fault.SHORT_BODY,
            Fault.GARBLED,
            Fault.BAD_GATEWAY,
            Fault.RATE_LIMITED,
        ):
            cloud.inject("create", fault, times=None, probability=0.1)
        for attempt in range(1, 101):
            document = document_of(tmp_path / "source", attempt=attempt)
            try:
                job = await parser.submit(document, file_id)
            except SubmissionUnresolvedError:
                unresolved += 1
                found = await parser.find(JOB_ID, attempt, since)
                known |= {found.id} if found else set()
            except TransientError:
                refused += 1
                assert await parser.find(JOB_ID, attempt, since) is None
            else:
                known.add(job.id)
    assert len(cloud.calls_of("create")) == 100
    assert gate.entered.count("submit") == 100
    assert known == set(cloud.jobs)
    assert unresolved > 0
    assert refused > 0


async def test_a_job_is_billed_by_its_own_tier_or_the_deployments(parser: LlamaParse) -> None:
    assert parser.tier(ParseOptions()) == "cost_effective"
    assert parser.tier(ParseOptions(tier="agentic_plus")) == "agentic_plus"
