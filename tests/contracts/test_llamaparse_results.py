"""LlamaParse's results: inline and downloaded, with lost pages, late, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import ParseOptions
from streams.parsers.base import Document, Page
from streams.parsers.llamaparse import LlamaParse, LlamaParseOptions, open_llama_parse
from streams.parsers.llamaparse_results import LARGE_AT_ONCE
from tests.cloud_parser import Naps, OpenGate, document_of, operations, options_for
from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.faults import Fault
from tests.doubles.llamacloud.server import open_llama_cloud

PAGES = [
    Page(1, "# Page 1\n\nfirst page", "first page"),
    Page(2, "# Page 2\n\nsecond page", "second page"),
]


@pytest.fixture
async def cloud() -> AsyncIterator[LlamaCloud]:
    async with open_llama_cloud(Behaviour(hold=True)) as cloud:
        yield cloud


@pytest.fixture
def gate() -> OpenGate:
    return OpenGate()


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
async def parser(cloud: LlamaCloud, gate: OpenGate, naps: Naps) -> AsyncIterator[LlamaParse]:
    async with open_llama_parse(options_for(cloud.url), gate, sleep=naps) as parser:
        yield parser


@pytest.fixture
def document(tmp_path: Path) -> Document:
    return document_of(tmp_path / "source")


def for_small_answers(cloud: LlamaCloud) -> LlamaParseOptions:
    """Give options by which a result of a kilobyte is too large to come inline."""
    return options_for(cloud.url, inline_bytes=1000)


async def finished(cloud: LlamaCloud, parser: LlamaParse, document: Document) -> str:
    job = await parser.submit(document, await parser.upload(document))
    cloud.finish(job.id)
    return job.id


async def test_pages_with_their_numbers_who_made_them_and_the_bill(
    cloud: LlamaCloud, parser: LlamaParse, document: Document
) -> None:
    parsed = await parser.fetch(await finished(cloud, parser, document))
    assert parsed.pages == PAGES
    assert parsed.warnings == ()
    assert (parsed.parser, parsed.parser_version) == ("llamaparse", "cost_effective 2026-09-28")
    assert parsed.credits == 6
    assert operations(cloud) == ["upload_file", "create", "get"]


async def test_chosen_pages_keep_their_numbers(
    cloud: LlamaCloud, parser: LlamaParse, tmp_path: Path
) -> None:
    asked = ParseOptions(target_pages="2,4")
    raw = b"one\ftwo\fthree\ffour"
    document = document_of(tmp_path / "source", raw, options=asked)
    parsed = await parser.fetch(await finished(cloud, parser, document))
    assert [(page.number, page.text) for page in parsed.pages] == [(2, "two"), (4, "four")]
    assert parsed.warnings == ()


async def test_chosen_pages_that_do_not_come_are_warned_of(
    cloud: LlamaCloud, parser: LlamaParse, tmp_path: Path
) -> None:
    asked = ParseOptions(target_pages="2,4-6,8")
    document = document_of(tmp_path / "source", b"one\ftwo\fthree\ffour", options=asked)
    parsed = await parser.fetch(await finished(cloud, parser, document))
    assert [page.number for page in parsed.pages] == [2, 4]
    assert parsed.warnings == ("page_missing:5-6,8",)


async def test_a_longer_document_than_the_limit_is_refused_and_never_cut_off(
    cloud: LlamaCloud, parser: LlamaParse, tmp_path: Path
) -> None:
    raw = b"one\ftwo\fthree\ffour"
    document = document_of(tmp_path / "source", raw, options=ParseOptions(max_pages=2))
    with pytest.raises(PermanentError) as caught:
        await parser.fetch(await finished(cloud, parser, document))
    assert caught.value.code == Code.DOCUMENT_TOO_MANY_PAGES
    assert caught.value.message == "the document has more pages than the limit, 2"


async def test_pages_that_failed_are_empty_and_said_with_the_vendors_reason(
    cloud: LlamaCloud, parser: LlamaParse, document: Document
) -> None:
    texts = [f"text {number}" for number in range(1, 101)]
    texts[40] = ""
    failed = {7: "Model timed out.\nSee https://s3.example.org/k?sig=1", 99: "x" * 1000}
    cloud.plan(Plan(pages=texts, failed_pages=failed))
    parsed = await parser.fetch(await finished(cloud, parser, document))
    assert [page.number for page in parsed.pages] == list(range(1, 101))
    assert (parsed.pages[6].markdown, parsed.pages[6].text) == ("", "")
    assert parsed.pages[7].text == "text 8"
    assert parsed.warnings == (
        "page_failed:7:Model timed out. See [url]",
        "page_failed:99:" + "x" * 117 + "...",
    )


@pytest.mark.parametrize(
    ("message", "kind", "code"),
    [
        ("UNSUPPORTED_FILE_TYPE: .exe", PermanentError, "unsupported_media_type"),
        ("PDF_IS_PROTECTED", PermanentError, "document_encrypted"),
        ("PDF_IS_BROKEN: no xref", PermanentError, "document_broken"),
        ("NO_DATA_FOUND_IN_FILE", PermanentError, "document_has_no_text"),
        ("DOCUMENT_TOO_LARGE", PermanentError, "document_too_large"),
        ("TOO_MANY_PAGES: 3000", PermanentError, "document_too_many_pages"),
        ("TIMEOUT", TransientError, "vendor_failed"),
        ("ERROR_DURING_PROCESSING", TransientError, "vendor_failed"),
        ("2 of 3 pages failed to parse", TransientError, "vendor_failed"),
    ],
)
async def test_a_failed_job_has_no_result_but_a_reason(
    cloud: LlamaCloud,
    parser: LlamaParse,
    document: Document,
    message: str,
    kind: type[PermanentError | TransientError],
    code: str,
) -> None:
    job = await parser.submit(document, await parser.upload(document))
    cloud.fail(job.id, message)
    with pytest.raises(kind) as caught:
        await parser.fetch(job.id)
    assert (caught.value.code, caught.value.message) == (code, f"LlamaParse: {message}")


async def test_a_job_without_a_result_yet_is_transient(
    cloud: LlamaCloud, parser: LlamaParse, document: Document
) -> None:
    job = await parser.submit(document, await parser.upload(document))
    with pytest.raises(TransientError) as caught:
        await parser.fetch(job.id)
    assert caught.value.code == Code.VENDOR_FAILED
    cloud.cancel(job.id)
    with pytest.raises(TransientError) as caught:
        await parser.fetch(job.id)
    assert caught.value.code == Code.VENDOR_CANCELLED


async def test_a_result_that_is_missing_at_first_is_waited_for(
    cloud: LlamaCloud, parser: LlamaParse, document: Document, gate: OpenGate, naps: Naps
) -> None:
    job_id = await finished(cloud, parser, document)
    cloud.inject("get", Fault.RESULT_NOT_FOUND, times=4)
    assert (await parser.fetch(job_id)).pages == PAGES
    assert naps.seconds == [0.5, 1.0, 2.0, 4.0]
    assert gate.noted == [("upload", None), ("submit", None), *[("fetch", None)] * 5]


async def test_a_result_that_never_comes_is_given_up_for_this_time(
    cloud: LlamaCloud, parser: LlamaParse, document: Document, naps: Naps
) -> None:
    job_id = await finished(cloud, parser, document)
    cloud.inject("get", Fault.RESULT_NOT_FOUND, times=None)
    with pytest.raises(TransientError) as caught:
        await parser.fetch(job_id)
    assert caught.value.code == Code.VENDOR_LOST
    assert len(naps.seconds) == 4
    assert len(cloud.calls_of("get")) == 5


async def test_waiting_ends_with_the_calls_deadline(
    cloud: LlamaCloud, gate: OpenGate, naps: Naps
) -> None:
    options = options_for(cloud.url, call_seconds=0.4)
    async with open_llama_parse(options, gate, sleep=naps) as parser:
        with pytest.raises(TransientError) as caught:
            await parser.fetch("pjb-unknown")
    assert caught.value.code == Code.VENDOR_LOST
    assert naps.seconds == []


async def test_an_id_that_can_be_none_is_not_asked_for(
    cloud: LlamaCloud, parser: LlamaParse
) -> None:
    for name in ("", "..", "../versions", "pjb 1", "pjb-1?expand=text", "pjb-1\n", "p" * 300):
        with pytest.raises(TransientError) as caught:
            await parser.fetch(name)
        assert caught.value.code == Code.VENDOR_LOST
    assert cloud.calls == []


async def test_a_tier_without_markdown_gives_its_text(
    cloud: LlamaCloud, document: Document, gate: OpenGate
) -> None:
    options = options_for(cloud.url, tier="fast", version="2026-06-15")
    async with open_llama_parse(options, gate) as parser:
        parsed = await parser.fetch(await finished(cloud, parser, document))
    assert parsed.pages == [
        Page(1, "first page", "first page"),
        Page(2, "second page", "second page"),
    ]
    assert parsed.parser_version == "fast 2026-06-15"
    assert [call.query["expand"] for call in cloud.calls_of("get")] == [
        ["markdown,text,usage,job_metadata"],
        ["text,usage,job_metadata"],
    ]


async def test_a_large_result_is_downloaded_without_the_key(
    cloud: LlamaCloud, document: Document, gate: OpenGate
) -> None:
    cloud.plan(Plan(pages=["é" * 2000, "second page"], failed_pages={}))
    async with open_llama_parse(for_small_answers(cloud), gate) as parser:
        parsed = await parser.fetch(await finished(cloud, parser, document))
    assert [page.text for page in parsed.pages] == ["é" * 2000, "second page"]
    assert parsed.pages[1].markdown == "# Page 2\n\nsecond page"
    assert parsed.credits == 6
    # The double's storage refuses a download that comes with a key.
    assert [(call.operation, call.status) for call in cloud.calls[2:]] == [
        ("get", 200),
        ("get", 200),
        ("download", 200),
        ("download", 200),
    ]
    assert gate.entered[2:] == ["fetch", "fetch", "download", "download"]
    assert {failure for _, failure in gate.noted} == {None}


class FullGate(OpenGate):
    """Holds every download until so many are at it, and everybody knows that his is large."""

    def __init__(self, results: int) -> None:
        super().__init__()
        self.most = 0
        self._results = results
        self._downloading = 0
        self._full = asyncio.Event()

    async def enter(self, operation: str, calls: int = 1) -> None:
        await super().enter(operation, calls)
        if operation == "download":
            self._downloading += 1
            self.most = max(self.most, self._downloading)
            self._look()
            await self._full.wait()

    async def note(self, operation: str, failure: Code | None) -> None:
        await super().note(operation, failure)
        self._downloading -= operation == "download"
        self._look()

    def _look(self) -> None:
        asked = [operation for operation, _ in self.noted if operation == "fetch"]
        if self._downloading >= LARGE_AT_ONCE and len(asked) >= self._results + LARGE_AT_ONCE:
            self._full.set()


async def test_only_so_many_large_results_are_read_at_once(
    cloud: LlamaCloud, document: Document
) -> None:
    cloud.plan(Plan(pages=["long " * 1000, "second page"]), times=None)
    results = 3 * LARGE_AT_ONCE
    gate = FullGate(results)
    async with asyncio.timeout(20), open_llama_parse(for_small_answers(cloud), gate) as parser:
        ids = [await finished(cloud, parser, document) for _ in range(results)]
        parsed = await asyncio.gather(*(parser.fetch(job_id) for job_id in ids))
    assert [len(each.pages) for each in parsed] == [2] * results
    assert gate.most == LARGE_AT_ONCE


async def test_a_large_result_of_a_tier_without_markdown(
    cloud: LlamaCloud, document: Document, gate: OpenGate
) -> None:
    cloud.plan(Plan(pages=["long " * 1000, "second page"]))
    options = options_for(cloud.url, tier="fast", version="2026-06-15", inline_bytes=1000)
    async with open_llama_parse(options, gate) as parser:
        parsed = await parser.fetch(await finished(cloud, parser, document))
    assert [page.markdown for page in parsed.pages] == ["long " * 1000, "second page"]


@pytest.mark.parametrize(
    ("spoil", "code", "noted"),
    [
        (lambda cloud: cloud.expire_urls(), "vendor_failed", None),
        (
            lambda cloud: cloud.inject("download", Fault.SERVER_ERROR),
            "vendor_failed",
            "vendor_failed",
        ),
        (
            lambda cloud: cloud.inject("download", Fault.CUT_BEFORE),
            "parser_unavailable",
            "parser_unavailable",
        ),
        (
            lambda cloud: cloud.inject("download", Fault.SHORT_BODY),
            "parser_unavailable",
            "parser_unavailable",
        ),
        (lambda cloud: cloud.inject("download", Fault.GARBLED), "vendor_failed", None),
    ],
    ids=["expired", "server error", "cut", "short", "garbled"],
)
async def test_a_download_that_fails_is_transient_and_blames_no_key(
    cloud: LlamaCloud,
    document: Document,
    gate: OpenGate,
    spoil: Callable[[LlamaCloud], object],
    code: str,
    noted: str | None,
) -> None:
    cloud.plan(Plan(pages=["long " * 1000, "second page"]))
    async with open_llama_parse(for_small_answers(cloud), gate) as parser:
        job_id = await finished(cloud, parser, document)
        gate.on_enter["download"] = lambda: spoil(cloud)
        with pytest.raises(TransientError) as caught:
            await parser.fetch(job_id)
    assert caught.value.code == code
    assert "X-Amz" not in caught.value.message
    assert noted in {failure for operation, failure in gate.noted if operation == "download"}


async def test_blank_pages_are_warned_of(
    cloud: LlamaCloud, document: Document, gate: OpenGate
) -> None:
    cloud.plan(Plan(pages=["first page", "", "third page"]))
    options = options_for(cloud.url, tier="fast", version="2026-06-15")
    async with open_llama_parse(options, gate) as parser:
        parsed = await parser.fetch(await finished(cloud, parser, document))
    assert (parsed.pages[1].markdown, parsed.pages[1].text) == ("", "")
    assert parsed.warnings == ("page_has_no_text:2",)
