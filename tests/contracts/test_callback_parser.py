"""The callback parser on the wire: one signed POST for a document, and what its end means."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from schemas.events import ParseOptions
from schemas.ids import document_id
from streams.parsers.base import SubmissionUnresolvedError, VendorJob, VendorState
from streams.parsers.callback import CallbackOptions, CallbackParser, open_callback_parser
from tests.cloud_parser import JOB_ID, OpenGate, document_of
from tests.doubles.callback_service import SECRET, CallbackService, open_callback_service

BACK = "https://pw.example.org/api/v1/webhooks/artifacts"
FIRST = f"{JOB_ID}.1"


@pytest.fixture
async def service() -> AsyncIterator[CallbackService]:
    async with open_callback_service() as service:
        yield service


@pytest.fixture
def gate() -> OpenGate:
    return OpenGate()


def options_for(url: str, **changes: Any) -> CallbackOptions:
    given: dict[str, Any] = {"secret": SECRET, "submit_seconds": 20.0} | changes
    return CallbackOptions(url=url, callback_url=BACK, max_pages=400, **given)


@pytest.fixture
async def parser(service: CallbackService, gate: OpenGate) -> AsyncIterator[CallbackParser]:
    async with open_callback_parser(options_for(service.url), gate) as parser:
        yield parser


async def submit(parser: CallbackParser, folder: Path, **changes: Any) -> VendorJob:
    document = document_of(folder / "source", **changes)
    return await parser.submit(document, await parser.upload(document))


async def test_it_has_no_tiers(parser: CallbackParser) -> None:
    assert parser.tier(ParseOptions(tier="agentic")) is None


async def test_what_is_sent_for_a_document(
    service: CallbackService, parser: CallbackParser, gate: OpenGate, tmp_path: Path
) -> None:
    raw = b"%PDF-1.7 " + bytes(range(256)) * 2000
    asked = ParseOptions(languages=("de",), target_pages="1,3-5", prompt="Keep the \u00fcmlauts.")
    job = await submit(
        parser, tmp_path, raw=raw, media_type="application/pdf", attempt=2, options=asked
    )
    assert job == VendorJob(f"{JOB_ID}.2.p-1", VendorState.PENDING, JOB_ID, 2)
    sha256 = hashlib.sha256(raw).hexdigest()
    assert service.files == [raw]
    assert service.orders == [
        {
            "version": 1,
            "job_id": JOB_ID,
            "document_id": document_id("acme", sha256),
            "correlation_id": "2",
            "sha256": sha256,
            "size_bytes": 512_009,
            "media_type": "application/pdf",
            "options": {
                "languages": ["de"],
                "target_pages": "1,3-5",
                "prompt": "Keep the \u00fcmlauts.",
                "max_pages": 400,
            },
            "callback_url": BACK,
        }
    ]
    (headers,) = service.requests
    assert int(headers["Content-Length"]) > len(raw)
    assert "Authorization" not in headers
    assert (gate.entered, gate.noted) == (["submit"], [("submit", None)])


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (b'{"parse_job_id": "p:7"}', f"{FIRST}.p:7"),
        (b'{"parse_job_id": 12}', f"{FIRST}.12"),
        (b'{"parse_job_id": "../../etc"}', FIRST),
        (b'{"parse_job_id": true}', FIRST),
        (b'{"parse_job_id": "' + b"x" * 101 + b'"}', FIRST),
        (b'{"parse_job_id": null}', FIRST),
        (b"[]", FIRST),
        (b"thank you", FIRST),
        (None, FIRST),
        (b"x" * 200_000, FIRST),
    ],
)
async def test_any_success_takes_the_job(
    service: CallbackService,
    parser: CallbackParser,
    tmp_path: Path,
    answer: bytes | None,
    named: str,
) -> None:
    service.answer = answer
    assert (await submit(parser, tmp_path)).id == named


@pytest.mark.parametrize(
    ("status", "kind", "code", "noted"),
    [
        (400, PermanentError, Code.VENDOR_REFUSED, None),
        (413, PermanentError, Code.DOCUMENT_TOO_LARGE, None),
        (415, PermanentError, Code.VENDOR_REFUSED, None),
        (401, TransientError, Code.VENDOR_UNAUTHORIZED, Code.VENDOR_UNAUTHORIZED),
        (403, TransientError, Code.VENDOR_UNAUTHORIZED, Code.VENDOR_UNAUTHORIZED),
        (404, TransientError, Code.VENDOR_FAILED, None),
        (409, TransientError, Code.VENDOR_FAILED, None),
        (429, TransientError, Code.VENDOR_RATE_LIMITED, Code.VENDOR_RATE_LIMITED),
        (302, TransientError, Code.VENDOR_FAILED, Code.VENDOR_FAILED),
    ],
)
async def test_a_clear_refusal_leaves_no_job(
    service: CallbackService,
    parser: CallbackParser,
    gate: OpenGate,
    tmp_path: Path,
    status: int,
    kind: type[ParsewireError],
    code: Code,
    noted: Code | None,
) -> None:
    service.status, service.answer = status, b'{"detail": "no, by ' + SECRET.encode() + b'"}'
    service.headers = {"Retry-After": "7", "Location": service.url}
    with pytest.raises(ParsewireError) as caught:
        await submit(parser, tmp_path)
    error = caught.value
    assert (type(error), error.code) == (kind, code)
    assert error.message == f"the callback parser answered submit with {status}: no, by [...]"
    if isinstance(error, TransientError):
        assert error.retry_after_seconds == (None if noted is None else 7.0)
    assert (len(service.orders), gate.noted) == (1, [("submit", noted)])


async def test_a_wrong_secret_is_refused_there(
    service: CallbackService, gate: OpenGate, tmp_path: Path
) -> None:
    options = options_for(service.url, secret="another secret of ours")
    async with open_callback_parser(options, gate) as parser:
        with pytest.raises(TransientError) as caught:
            await submit(parser, tmp_path)
    assert (caught.value.code, service.orders) == (Code.VENDOR_UNAUTHORIZED, [])


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_broken_answer_leaves_the_matter_open(
    service: CallbackService, parser: CallbackParser, gate: OpenGate, tmp_path: Path, status: int
) -> None:
    service.status = status
    with pytest.raises(SubmissionUnresolvedError):
        await submit(parser, tmp_path)
    assert gate.noted == [("submit", Code.VENDOR_FAILED)]


async def test_a_cut_and_a_silence_leave_the_matter_open(
    service: CallbackService, gate: OpenGate, tmp_path: Path
) -> None:
    service.cut = True
    async with open_callback_parser(options_for(service.url), gate) as parser:
        with pytest.raises(SubmissionUnresolvedError, match="lost"):
            await submit(parser, tmp_path)
    service.silent.clear()
    async with open_callback_parser(options_for(service.url, submit_seconds=0.3), gate) as parser:
        with pytest.raises(SubmissionUnresolvedError, match=r"no answer to submit in 0\.3 s"):
            await submit(parser, tmp_path)
    assert [failure for _, failure in gate.noted] == [Code.PARSER_UNAVAILABLE] * 2
    assert len(service.orders) == 2


async def test_half_a_document_makes_no_job(gate: OpenGate, tmp_path: Path) -> None:
    hung = asyncio.Event()

    async def never_read(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hung.wait()
        writer.close()

    server = await asyncio.start_server(never_read, "127.0.0.1", 0, limit=1024)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/parse"
    try:
        options = options_for(url, submit_seconds=1.0)
        async with open_callback_parser(options, gate) as parser:
            with pytest.raises(TransientError) as caught:
                await submit(parser, tmp_path, raw=bytes(64 << 20))
        assert caught.value.code is Code.PARSER_UNAVAILABLE
    finally:
        hung.set()
        server.close()
        await server.wait_closed()


async def test_nobody_there_is_a_clear_failure(gate: OpenGate, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        options = options_for(f"http://127.0.0.1:{taken.getsockname()[1]}/parse")
        async with open_callback_parser(options, gate) as parser:
            with pytest.raises(TransientError) as caught:
                await submit(parser, tmp_path)
    assert caught.value.code is Code.PARSER_UNAVAILABLE
    assert gate.noted == [("submit", Code.PARSER_UNAVAILABLE)]


async def test_a_shut_gate_sends_nothing(
    service: CallbackService, parser: CallbackParser, gate: OpenGate, tmp_path: Path
) -> None:
    def shut() -> None:
        raise TransientError(Code.CIRCUIT_OPEN, "left alone")

    gate.on_enter["submit"] = shut
    with pytest.raises(TransientError, match="left alone"):
        await submit(parser, tmp_path)
    assert (service.requests, gate.noted) == ([], [])


async def test_documents_that_cannot_be_sent(
    service: CallbackService, parser: CallbackParser, tmp_path: Path
) -> None:
    with pytest.raises(PermanentError) as empty:
        await submit(parser, tmp_path, raw=b"")
    with pytest.raises(PermanentError) as pages:
        await submit(parser, tmp_path, options=ParseOptions(target_pages="1-401"))
    gone = document_of(tmp_path / "gone")
    gone.path.unlink()
    with pytest.raises(PermanentError) as missing:
        await parser.submit(gone, "")
    assert [caught.value.code for caught in (empty, pages, missing)] == [
        Code.DOCUMENT_EMPTY,
        Code.DOCUMENT_TOO_MANY_PAGES,
        Code.SOURCE_MISSING,
    ]
    assert service.requests == []


async def test_nobody_there_is_ever_asked(
    service: CallbackService, parser: CallbackParser, gate: OpenGate
) -> None:
    assert await parser.look(["a", "b"]) == {
        "a": VendorJob("a", VendorState.PENDING),
        "b": VendorJob("b", VendorState.PENDING),
    }
    assert await parser.see("a") == VendorJob("a", VendorState.PENDING, credits=0.0)
    assert await parser.find(JOB_ID, 1, datetime.now(UTC)) is None
    await parser.cancel("a")
    await parser.forget("a")
    with pytest.raises(TransientError, match="comes by webhook"):
        await parser.fetch("a")
    assert (service.requests, gate.entered) == ([], [])
    assert parser.accepts("application/pdf")
    assert not parser.accepts("image/png")
