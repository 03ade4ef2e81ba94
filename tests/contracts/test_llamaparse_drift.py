"""LlamaParse against a server that answers what nobody documented, and behind a gate."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import structlog.testing

from schemas.errors import Code, PermanentError, TransientError
from streams.parsers.base import SubmissionUnresolvedError, VendorState
from streams.parsers.llamaparse import LlamaParse, open_llama_parse
from streams.parsers.llamaparse_calls import Call, Calls
from streams.parsers.llamaparse_wire import open_files, open_session
from tests.cloud_parser import JOB_ID, OpenGate, Oracle, document_of, open_oracle, options_for

JOB = {"id": "pjb-1", "project_id": "prj-1", "status": "COMPLETED"}
NOW = datetime(2026, 11, 23, tzinfo=UTC)
SECRET_TEXT = "the text of a document"


@pytest.fixture
async def oracle() -> AsyncIterator[Oracle]:
    async with open_oracle() as oracle:
        yield oracle


@pytest.fixture
def gate() -> OpenGate:
    return OpenGate()


@pytest.fixture
async def parser(oracle: Oracle, gate: OpenGate) -> AsyncIterator[LlamaParse]:
    async with open_llama_parse(options_for(oracle.url), gate) as parser:
        yield parser


def written(**parts: object) -> bytes:
    return orjson.dumps({"job": JOB, **parts})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html>",
        b"[" * 5000,
        b'{"items": null}',
        b'{"items": [{"id": "pjb-1"}]}',
        b'{"items": [{"id": 7, "status": "COMPLETED"}]}',
        b'{"items": [{"id": "../pjb", "status": "COMPLETED"}]}',
        b'{"items": [{"id": "pjb-1", "status": "COMPLETED", "user_metadata": "text"}]}',
        b'{"items": [], "next_page_token": 7}',
        b'{"jobs": []}',
    ],
)
async def test_a_list_of_another_shape_is_no_list_of_lost_jobs(
    oracle: Oracle, parser: LlamaParse, gate: OpenGate, body: bytes
) -> None:
    oracle.say(body)
    with pytest.raises(TransientError) as caught:
        await parser.look(["pjb-1"])
    assert (caught.value.code, caught.value.message) == (
        Code.VENDOR_FAILED,
        "unexpected answer to look",
    )
    with pytest.raises(TransientError):
        await parser.find(JOB_ID, 1, NOW)
    assert gate.noted == [("look", Code.VENDOR_FAILED), ("find", Code.VENDOR_FAILED)]


async def test_a_list_without_end_proves_nothing(oracle: Oracle, parser: LlamaParse) -> None:
    oracle.say(orjson.dumps({"items": [{**JOB, "id": "pjb-2"}], "next_page_token": "again"}))
    with pytest.raises(TransientError) as caught:
        await parser.look(["pjb-1"])
    assert caught.value.message == "the list has more than 5 pages"
    assert len(oracle.asked) == 5
    with pytest.raises(TransientError):
        await parser.find(JOB_ID, 1, NOW)
    assert len(oracle.asked) == 205


async def test_fields_and_jobs_that_nobody_asked_for_are_ignored(
    oracle: Oracle, parser: LlamaParse
) -> None:
    strange = {
        **JOB,
        "id": "pjb-3",
        "status": "SLEEPING",
        "usage": {"credits": None, "euros": 3},
        "user_metadata": {"job": 7, "attempt": "one", "deep": {"er": []}},
        "mood": "good",
    }
    oracle.say(orjson.dumps({"items": [JOB, strange], "total_size": 2}))
    with structlog.testing.capture_logs() as logs:
        found = await parser.look(["pjb-3"])
    assert list(found) == ["pjb-3"]
    job = found["pjb-3"]
    assert (job.state, job.job_id, job.attempt, job.credits) == (
        VendorState.PENDING,
        None,
        None,
        None,
    )
    assert [entry["event"] for entry in logs] == ["vendor_status_unknown"]


@pytest.mark.parametrize(
    "parts",
    [
        {"markdown": {"pages": [{"page_number": 1, "success": True, "markdown": 7}]}},
        {"markdown": {"pages": [{"page_number": 0, "markdown": SECRET_TEXT}]}},
        {"markdown": {"pages": [{"markdown": SECRET_TEXT}]}},
        {"markdown": {"pages": [{"page_number": 1, "markdown": SECRET_TEXT}] * 2}},
        {"markdown": [SECRET_TEXT]},
        {"text": {"pages": [{"page_number": 1}]}},
        {"markdown": None, "text": None},
        {"markdown": {"pages": []}},
        {},
    ],
)
async def test_a_result_of_another_shape_is_transient_and_not_quoted(
    oracle: Oracle, parser: LlamaParse, parts: dict[str, object]
) -> None:
    oracle.say(written(**parts))
    with pytest.raises(TransientError) as caught:
        await parser.fetch("pjb-1")
    assert caught.value.code == Code.VENDOR_FAILED
    assert SECRET_TEXT not in caught.value.message


async def test_a_bill_and_a_tier_beyond_sense_spoil_no_result(
    oracle: Oracle, parser: LlamaParse
) -> None:
    job = {**JOB, "usage": {"credits": 1e308}, "tier": "t" * 1_000_000}
    pages = [{"page_number": 1, "success": True, "markdown": "text"}]
    oracle.say(orjson.dumps({"job": job, "markdown": {"pages": pages}}))
    parsed = await parser.fetch("pjb-1")
    assert (parsed.credits, len(parsed.parser_version)) == (None, 100)


async def test_pages_that_all_failed_are_no_proof_against_the_document(
    oracle: Oracle, parser: LlamaParse
) -> None:
    failed = [{"page_number": n, "success": False, "error": f"error {n}"} for n in (1, 2)]
    oracle.say(written(markdown={"pages": failed}))
    with pytest.raises(TransientError) as caught:
        await parser.fetch("pjb-1")
    assert (caught.value.code, caught.value.message) == (
        Code.VENDOR_FAILED,
        "2 of 2 pages failed, none has text; page 1: error 1",
    )


async def test_pages_that_are_all_blank_are(oracle: Oracle, parser: LlamaParse) -> None:
    blank = [{"page_number": n, "success": True, "markdown": " \n"} for n in (1, 2)]
    oracle.say(written(markdown={"pages": blank}, text={"pages": []}))
    with pytest.raises(PermanentError) as caught:
        await parser.fetch("pjb-1")
    assert caught.value.code == Code.DOCUMENT_HAS_NO_TEXT


async def test_pages_that_were_lost_on_the_way_are_named(
    oracle: Oracle, parser: LlamaParse
) -> None:
    job = {**JOB, "user_metadata": {"page_limit": "400"}}
    there = [{"page_number": n, "success": True, "markdown": f"page {n}"} for n in (1, 2, 4)]
    oracle.say(
        written(job=job, markdown={"pages": there}, job_metadata={"job_pages": 6, "pages": []})
    )
    parsed = await parser.fetch("pjb-1")
    assert [page.number for page in parsed.pages] == [1, 2, 4]
    assert parsed.warnings == ("page_missing:3", "page_missing:5", "page_missing:6")


async def test_a_redirect_is_not_followed(
    oracle: Oracle, parser: LlamaParse, tmp_path: Path
) -> None:
    for status in (301, 302, 303, 307, 308):
        oracle.answers.clear()
        oracle.say(b"", status, {"Location": f"{oracle.url}/elsewhere"})
        with pytest.raises(TransientError) as caught:
            await parser.submit(document_of(tmp_path / "source"), "file")
        assert caught.value.message == f"LlamaParse answered submit with {status}"
        with pytest.raises(TransientError):
            await parser.see("pjb-1")
    assert len(oracle.asked) == 10
    assert not any(path.startswith("/elsewhere") for _, path, _ in oracle.asked)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"id": null}', b'{"id": "pjb-1"}', b"[1]"])
async def test_a_success_that_cannot_be_read_is_an_ambiguous_submission(
    oracle: Oracle, parser: LlamaParse, tmp_path: Path, body: bytes
) -> None:
    oracle.say(body)
    with pytest.raises(SubmissionUnresolvedError):
        await parser.submit(document_of(tmp_path / "source"), "file")
    assert len(oracle.asked) == 1


async def test_a_body_is_cut_off_at_its_limit_after_decompression(
    oracle: Oracle, parser: LlamaParse
) -> None:
    bomb = gzip.compress(b'{"items": [' + b" " * (80 << 20))
    oracle.say(bomb, headers={"Content-Encoding": "gzip"})
    with pytest.raises(TransientError) as caught:
        await parser.look(["pjb-1"])
    assert caught.value.message == "the answer to look has more than 67108864 bytes"


async def test_a_result_that_is_too_large_for_us_is_the_documents_fault(
    oracle: Oracle, parser: LlamaParse
) -> None:
    file = {"size_bytes": 300 << 20, "exists": True, "presigned_url": f"{oracle.url}/s3"}
    oracle.say(b" " * (9 << 20))
    oracle.say(written(result_content_metadata={"markdown": file}))
    with pytest.raises(PermanentError) as caught:
        await parser.fetch("pjb-1")
    assert caught.value.code == Code.DOCUMENT_TOO_LARGE
    assert len(oracle.asked) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "169.254.169.254", "localhost"])
async def test_llamacloud_leads_no_download_into_a_network(gate: OpenGate, host: str) -> None:
    url = "https://api.cloud.eu.llamaindex.ai"
    async with open_session() as session, open_files(url) as files:
        calls = Calls(session, gate, url=url, api_key="llx-1", project_id=None, files=files)
        with pytest.raises(TransientError) as caught:
            await calls.download(Call("download", "GET", f"https://{host}:9/result?sig=1", 5.0))
    assert (caught.value.code, caught.value.message) == (
        Code.VENDOR_FAILED,
        "the download's address is unsafe",
    )


@pytest.mark.parametrize("url", ["http://s3.example.org/k?sig=1", "ftp://127.0.0.1/", "", "/k"])
async def test_an_unsafe_download_is_not_made(oracle: Oracle, parser: LlamaParse, url: str) -> None:
    file = {"size_bytes": 3, "exists": True, "presigned_url": url}
    oracle.say(b" " * (9 << 20))
    oracle.say(written(result_content_metadata={"md": file}))
    with pytest.raises(TransientError) as caught:
        await parser.fetch("pjb-1")
    assert caught.value.code == Code.VENDOR_FAILED
    assert "sig" not in caught.value.message
    assert len(oracle.asked) == 2


async def test_a_result_file_of_bare_text_is_one_page(oracle: Oracle, parser: LlamaParse) -> None:
    file = {"size_bytes": 14, "exists": True, "presigned_url": f"{oracle.url}/s3?a=%2Fb"}
    oracle.say(b" " * (9 << 20))
    oracle.say(written(result_content_metadata={"md": file}))
    oracle.say(b"# Title\n\nWords")
    parsed = await parser.fetch("pjb-1")
    assert [(page.number, page.markdown) for page in parsed.pages] == [(1, "# Title\n\nWords")]
    method, path, headers = oracle.asked[-1]
    assert (method, path) == ("GET", "/s3?a=%2Fb")
    assert "Authorization" not in headers


async def test_a_retry_after_is_passed_on(oracle: Oracle, parser: LlamaParse) -> None:
    oracle.say(b'{"detail": "Rate limit exceeded"}', 429, {"Retry-After": "17"})
    with pytest.raises(TransientError) as caught:
        await parser.look(["pjb-1"])
    assert caught.value.retry_after_seconds == 17


async def test_a_flaw_is_told_without_what_was_sent(
    oracle: Oracle, parser: LlamaParse, tmp_path: Path
) -> None:
    flaw = {
        "type": "value_error",
        "loc": ["body", "webhook_configurations", 0, "webhook_url"],
        "msg": "Value error, not public",
        "input": {"webhook_signing_secret": "whsec-of-this-test"},
    }
    oracle.say(orjson.dumps({"detail": [flaw, "odd", {"msg": 7}]}), 422)
    with pytest.raises(PermanentError) as caught:
        await parser.submit(document_of(tmp_path / "source"), "file")
    assert caught.value.message == (
        "LlamaParse answered submit with 422: "
        "body.webhook_configurations.0.webhook_url: Value error, not public; 7"
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://api.cloud.llamaindex.ai",
        "api.cloud.llamaindex.ai",
        "https://",
        "https://user:pw@api.cloud.llamaindex.ai",
        "ftp://127.0.0.1",
        "http://127.0.0.1.example.org",
    ],
)
async def test_the_key_goes_nowhere_without_https(gate: OpenGate, url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        async with open_llama_parse(options_for(url), gate):
            pytest.fail("opened")


async def test_a_closed_gate_stops_the_call(
    oracle: Oracle, parser: LlamaParse, gate: OpenGate, tmp_path: Path
) -> None:
    def close() -> None:
        raise TransientError(Code.CIRCUIT_OPEN, "later", retry_after_seconds=9)

    gate.on_enter["submit"] = close
    with pytest.raises(TransientError) as caught:
        await parser.submit(document_of(tmp_path / "source"), "file")
    assert (caught.value.code, caught.value.retry_after_seconds) == (Code.CIRCUIT_OPEN, 9)
    assert (oracle.asked, gate.noted) == ([], [])


async def test_the_wait_at_the_gate_counts_for_the_deadline(oracle: Oracle, tmp_path: Path) -> None:
    class SlowGate(OpenGate):
        async def enter(self, operation: str, calls: int = 1) -> None:
            await super().enter(operation, calls)
            await asyncio.Event().wait()

    gate = SlowGate()
    async with open_llama_parse(options_for(oracle.url, submit_seconds=0.1), gate) as parser:
        with pytest.raises(TransientError) as caught:
            await parser.submit(document_of(tmp_path / "source"), "file")
    assert caught.value.code == Code.VENDOR_RATE_LIMITED
    assert (oracle.asked, gate.noted) == ([], [])


async def test_bookkeeping_that_fails_loses_no_job(oracle: Oracle, tmp_path: Path) -> None:
    class ForgetfulGate(OpenGate):
        async def note(self, operation: str, failure: Code | None) -> None:
            await super().note(operation, failure)
            raise TransientError(Code.TABLES_UNAVAILABLE, "the tables are away")

    oracle.say(orjson.dumps({**JOB, "status": "PENDING"}))
    async with open_llama_parse(options_for(oracle.url), ForgetfulGate()) as parser:
        with structlog.testing.capture_logs() as logs:
            job = await parser.submit(document_of(tmp_path / "source"), "file")
    assert (job.id, job.state, job.job_id) == ("pjb-1", VendorState.PENDING, JOB_ID)
    assert [entry["event"] for entry in logs] == ["call_not_noted"]


async def test_the_project_goes_with_every_call(oracle: Oracle, gate: OpenGate) -> None:
    options = options_for(f"{oracle.url}/proxied/", project_id="prj-7")
    oracle.say(b'{"items": []}')
    async with open_llama_parse(options, gate) as parser:
        assert await parser.look(["pjb-1"]) == {}
    assert [path for _, path, _ in oracle.asked] == [
        "/proxied/api/v2/parse?job_ids=pjb-1&page_size=50&project_id=prj-7"
    ]
    assert oracle.asked[0][2]["Authorization"].startswith("Bearer llx-")
