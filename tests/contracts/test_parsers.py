"""The parsers' contract: pages with numbers, stable codes, slots that come free."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import Code, ParsewireError, PermanentError
from schemas.events import ParseOptions
from streams.parsers.base import Document, Parsed, Parser
from streams.parsers.liteparse import open_lite_parser
from streams.parsers.llamaparse import open_llama_parse
from streams.parsers.mock import MockBehaviour, MockParser
from streams.parsers.text import TextParser
from tests.cloud_parser import CloudParser, OpenGate, options_for
from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.server import open_llama_cloud
from tests.pdfs import Image, build_pdf, stamped, text_pdf

SAMPLES = Path(__file__).parents[2] / "samples"
MAX_PAGES = 400
SERVES = {
    "liteparse": ("report.pdf", "application/pdf"),
    "text": ("letter.txt", "text/plain"),
    "mock": ("letter.txt", "text/plain"),
    "llamaparse": ("letter.txt", "text/plain"),
}
# LlamaParse stops one page after the limit, so that nobody pays for all of them.
TOO_MANY = {"llamaparse": "the document has more pages than the limit, 1"}


@pytest.fixture(params=["liteparse", "text", "mock", "llamaparse"])
async def parser(request: pytest.FixtureRequest) -> AsyncIterator[Parser]:
    if request.param == "text":
        yield TextParser(max_pages=MAX_PAGES)
    elif request.param == "mock":
        behaviour = MockBehaviour(latency_seconds=0.001)
        yield MockParser(max_pages=MAX_PAGES, behaviour=behaviour)
    elif request.param == "llamaparse":
        async with (
            open_llama_cloud(Behaviour()) as cloud,
            open_llama_parse(options_for(cloud.url, max_pages=MAX_PAGES), OpenGate()) as real,
        ):
            yield CloudParser(real, cloud)
    else:
        async with open_lite_parser(slots=2, max_pages=MAX_PAGES, timeout_seconds=60) as lite:
            yield lite


@pytest.fixture(params=["liteparse", "text", "mock"])
async def local(request: pytest.FixtureRequest) -> AsyncIterator[Parser]:
    if request.param == "text":
        yield TextParser(max_pages=MAX_PAGES)
    elif request.param == "mock":
        yield MockParser(max_pages=MAX_PAGES)
    else:
        async with open_lite_parser(slots=1, max_pages=MAX_PAGES, timeout_seconds=60) as lite:
            yield lite


@pytest.fixture
async def lite() -> AsyncIterator[Parser]:
    async with open_lite_parser(slots=1, max_pages=MAX_PAGES, timeout_seconds=60) as parser:
        yield parser


def document(path: Path, media_type: str = "application/pdf", **options: Any) -> Document:
    raw = path.read_bytes()
    return Document(
        job_id="0190a1b2-0000-7000-8000-000000000001",
        tenant="acme",
        attempt=1,
        path=path,
        sha256=hashlib.sha256(raw).hexdigest(),
        size_bytes=len(raw),
        media_type=media_type,
        options=ParseOptions(**options),
    )


def sample(parser: Parser, **options: Any) -> Document:
    name, media_type = SERVES[parser.name]
    return document(SAMPLES / name, media_type, **options)


def written(folder: Path, pdf: bytes, name: str = "source") -> Document:
    path = folder / name
    path.write_bytes(pdf)
    return document(path)


async def refusal(parser: Parser, given: Document) -> ParsewireError:
    with pytest.raises(ParsewireError) as caught:
        await parser.parse(given)
    return caught.value


async def test_pages_are_numbered_from_one_and_say_who_made_them(parser: Parser) -> None:
    assert parser.accepts(SERVES[parser.name][1])
    assert not parser.accepts("image/png")
    parsed = await parser.parse(sample(parser))
    assert [page.number for page in parsed.pages] == list(range(1, len(parsed.pages) + 1))
    assert all(page.markdown and page.text for page in parsed.pages)
    assert (parsed.parser, parsed.parser_version) == (parser.name, parser.version)
    assert parsed.parser_version
    assert parsed.warnings == ()


async def test_the_same_document_gives_the_same_result(parser: Parser) -> None:
    assert await parser.parse(sample(parser)) == await parser.parse(sample(parser))


async def test_many_documents_at_once(parser: Parser) -> None:
    alone = await parser.parse(sample(parser))
    together = await asyncio.gather(*(parser.parse(sample(parser)) for _ in range(20)))
    assert together == [alone] * 20


async def test_a_cancelled_parse_frees_its_slot(parser: Parser) -> None:
    tasks = [asyncio.create_task(parser.parse(sample(parser))) for _ in range(8)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, Parsed | asyncio.CancelledError) for end in ends)
    parsed = await asyncio.wait_for(parser.parse(sample(parser)), 30)
    assert parsed.parser == parser.name


async def test_the_sample_report(lite: Parser) -> None:
    parsed = await lite.parse(document(SAMPLES / "report.pdf"))
    first, second, third = parsed.pages
    assert first.markdown.startswith("# Harbour Water Report\n")
    assert "\n## What was measured\n" in first.markdown
    assert "\n- Salinity, in grams of salt per kilogram of water\n" in first.markdown
    assert "\n| North pier | 9.4 C | 31.2 g/kg |\n" in first.markdown
    assert second.markdown.startswith("# What It Means\n")
    assert third.text.startswith("Outlook\n")
    assert "#" not in first.text


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("scan.pdf", Code.DOCUMENT_HAS_NO_TEXT),
        ("encrypted.pdf", Code.DOCUMENT_ENCRYPTED),
        ("broken.pdf", Code.DOCUMENT_BROKEN),
    ],
)
async def test_bad_samples_end_in_their_codes(lite: Parser, name: str, code: Code) -> None:
    error = await refusal(lite, document(SAMPLES / name))
    assert isinstance(error, PermanentError)
    assert error.code == code
    assert (await lite.parse(document(SAMPLES / "report.pdf"))).pages


@pytest.mark.parametrize("raw", [b"", b"%PDF-1.7\n", b"%PDF-1.4\n" + bytes(range(256)) * 20])
async def test_garbage_is_a_broken_document(lite: Parser, tmp_path: Path, raw: bytes) -> None:
    assert (await refusal(lite, written(tmp_path, raw))).code == Code.DOCUMENT_BROKEN


async def test_a_pdf_without_pages_is_broken(lite: Parser, tmp_path: Path) -> None:
    none = build_pdf([], file_id=b"0" * 16)
    assert (await refusal(lite, written(tmp_path, none))).code == Code.DOCUMENT_BROKEN


async def test_a_file_that_is_gone_is_said(lite: Parser, tmp_path: Path) -> None:
    given = written(tmp_path, b"%PDF-1.7\n")
    given.path.unlink()
    assert (await refusal(lite, given)).code == Code.SOURCE_MISSING


async def test_a_page_without_text_is_empty_and_warned_of(lite: Parser) -> None:
    parsed = await lite.parse(document(SAMPLES / "mixed.pdf"))
    assert [page.number for page in parsed.pages] == [1, 2, 3]
    assert (parsed.pages[1].markdown, parsed.pages[1].text) == ("", "")
    assert "Page three was typed again" in parsed.pages[2].markdown
    assert parsed.warnings == ("page_has_no_text:2",)


async def test_a_page_that_fails_is_empty_and_warned_of(lite: Parser, tmp_path: Path) -> None:
    pdf = build_pdf([["one"], ["two"], ["three"]], file_id=b"0" * 16)
    holed = pdf.replace(b"8 0 obj\n<< /Type /Page ", b"8 0 obj\n<< /Type /Pxge ")
    parsed = await lite.parse(written(tmp_path, holed))
    assert [page.text for page in parsed.pages] == ["one", "", "three"]
    assert parsed.warnings == ("page_failed:2",)


async def test_titles_at_the_tops_of_pages_are_kept(lite: Parser, tmp_path: Path) -> None:
    pages = [[f"# {n}. Section number {n}", "", f"Words of page {n}."] for n in range(1, 11)]
    parsed = await lite.parse(written(tmp_path, text_pdf(pages, "titles")))
    for number, page in enumerate(parsed.pages, 1):
        assert page.markdown.startswith(f"# {number}. Section number {number}\n")


async def test_every_page_of_a_long_document_comes(lite: Parser, tmp_path: Path) -> None:
    pages = [[f"# Chapter {n}", "", f"This is the text of page {n}."] for n in range(1, 301)]
    parsed = await lite.parse(written(tmp_path, text_pdf(pages, "long")))
    assert [page.number for page in parsed.pages] == list(range(1, 301))
    for page in parsed.pages:
        assert f"This is the text of page {page.number}." in page.markdown
        assert f"This is the text of page {page.number}." in page.text


async def test_the_deployments_limit_is_exact(lite: Parser, tmp_path: Path) -> None:
    fits = text_pdf([[f"page {n}"] for n in range(400)], "fits")
    assert len((await lite.parse(written(tmp_path, fits))).pages) == 400
    more = text_pdf([[f"page {n}"] for n in range(450)], "more")
    error = await refusal(lite, written(tmp_path, more))
    assert error.code == Code.DOCUMENT_TOO_MANY_PAGES
    assert error.message == "the document has 450 pages, the limit is 400"


async def test_the_producers_limit_is_the_lower_one(parser: Parser) -> None:
    pages = len((await parser.parse(sample(parser, max_pages=100_000))).pages)
    assert pages > 1
    assert len((await parser.parse(sample(parser, max_pages=pages))).pages) == pages
    error = await refusal(parser, sample(parser, max_pages=1))
    assert error.code == Code.DOCUMENT_TOO_MANY_PAGES
    told = f"the document has {pages} pages, the limit is 1"
    assert error.message == TOO_MANY.get(parser.name, told)


async def test_wanted_pages_come_alone_under_their_own_numbers(parser: Parser) -> None:
    whole = await parser.parse(sample(parser))
    second = await parser.parse(sample(parser, target_pages="2", max_pages=1))
    assert [page.number for page in second.pages] == [2]
    assert second.pages[0].text == whole.pages[1].text
    assert second.warnings == ()
    both = await parser.parse(sample(parser, target_pages="2,1-2,1"))
    assert [(page.number, page.text) for page in both.pages] == [
        (1, whole.pages[0].text),
        (2, whole.pages[1].text),
    ]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"target_pages": "1-3,9", "max_pages": 3}, Code.DOCUMENT_TOO_MANY_PAGES,
         "4 pages are wanted, the limit is 3"),
        ({"target_pages": "1-999999"}, Code.DOCUMENT_TOO_MANY_PAGES,
         "999999 pages are wanted, the limit is 400"),
        ({"target_pages": "3-2"}, Code.INVALID_REQUEST,
         "target_pages: the range 3-2 runs backwards"),
    ],
)  # fmt: skip
async def test_pages_that_cannot_be_wanted(
    parser: Parser, options: dict[str, Any], code: Code, message: str
) -> None:
    error = await refusal(parser, sample(parser, **options))
    assert isinstance(error, PermanentError)
    assert (error.code, error.message) == (code, message)


async def test_pages_beyond_the_end_are_warned_of(local: Parser) -> None:
    parsed = await local.parse(sample(local, target_pages="2,50-60,99"))
    assert [page.number for page in parsed.pages] == [2]
    assert parsed.warnings == ("page_missing:50-60,99",)


async def test_wanted_pages_that_are_all_beyond_the_end(local: Parser) -> None:
    pages = len((await local.parse(sample(local))).pages)
    error = await refusal(local, sample(local, target_pages="50-60"))
    assert isinstance(error, PermanentError)
    assert error.code == Code.INVALID_REQUEST
    assert error.message == f"target_pages is 50-60, the document's last page is {pages}"


async def test_what_a_local_parser_leaves_out_it_says(local: Parser) -> None:
    asked = {"tier": "agentic", "languages": ("en", "de"), "prompt": "Tables only."}
    parsed = await local.parse(sample(local, **asked, disable_cache=True))
    assert parsed.warnings == (
        "option_not_used:tier",
        "option_not_used:languages",
        "option_not_used:prompt",
    )


async def test_wanted_pages_of_a_long_document(lite: Parser, tmp_path: Path) -> None:
    path = tmp_path / "long.pdf"
    path.write_bytes(text_pdf([[f"page number {n}"] for n in range(1, 451)], "long"))
    # The document has more pages than the deployment allows; what is wanted of it has not.
    parsed = await lite.parse(document(path, target_pages="3,100-160,449-500"))
    numbers = [3, *range(100, 161), 449, 450]
    assert [page.number for page in parsed.pages] == numbers
    assert all(f"page number {page.number}\n" in page.text for page in parsed.pages)
    assert parsed.warnings == ("page_missing:451-500",)
    assert len((await lite.parse(document(SAMPLES / "report.pdf"))).pages) == 3


async def test_wanted_pages_may_fail_or_have_no_text(lite: Parser, tmp_path: Path) -> None:
    pdf = build_pdf([["one"], ["two"], Image(4, 4, bytes(16))], file_id=b"0" * 16)
    path = tmp_path / "holed.pdf"
    path.write_bytes(pdf.replace(b"8 0 obj\n<< /Type /Page ", b"8 0 obj\n<< /Type /Pxge "))
    parsed = await lite.parse(document(path, target_pages="1-3"))
    assert [page.text for page in parsed.pages] == ["one", "", ""]
    assert parsed.warnings == ("page_failed:2", "page_has_no_text:3")
    assert (await refusal(lite, document(path, target_pages="2"))).code == Code.DOCUMENT_BROKEN
    error = await refusal(lite, document(path, target_pages="3"))
    assert error.code == Code.DOCUMENT_HAS_NO_TEXT


async def test_other_bytes_are_another_document_with_the_same_text(
    lite: Parser, tmp_path: Path
) -> None:
    raw = (SAMPLES / "report.pdf").read_bytes()
    plain = await lite.parse(written(tmp_path, raw, "plain"))
    assert await lite.parse(written(tmp_path, stamped(raw, "unique"), "stamped")) == plain


@pytest.mark.parametrize(
    ("name", "scanned"),
    [
        ("scan.pdf", True),
        ("mixed.pdf", False),
        ("report.pdf", False),
        ("broken.pdf", False),
        ("encrypted.pdf", False),
    ],
)
async def test_a_scan_is_told_from_text(name: str, scanned: bool) -> None:
    async with open_lite_parser(slots=1, max_pages=MAX_PAGES, timeout_seconds=60) as lite:
        assert await lite.looks_scanned(document(SAMPLES / name)) is scanned
        # The child that looked parses as before.
        assert len((await lite.parse(document(SAMPLES / "report.pdf"))).pages) == 3


async def test_a_look_ends_after_twenty_pages(tmp_path: Path) -> None:
    path = tmp_path / "mostly.pdf"
    picture = Image(4, 4, bytes(16))
    path.write_bytes(build_pdf([*[picture] * 20, ["text at last"]], file_id=b"0" * 16))
    async with open_lite_parser(slots=1, max_pages=MAX_PAGES, timeout_seconds=60) as lite:
        assert await lite.looks_scanned(document(path)) is True
