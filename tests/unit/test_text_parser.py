"""Text, Markdown and CSV: what becomes of them."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from schemas.errors import Code, PermanentError
from schemas.events import ParseOptions
from streams.parsers.base import Document, Parsed
from streams.parsers.text import MOST_BYTES, TextParser

SAMPLES = Path(__file__).parents[2] / "samples"


async def parse(
    path: Path, media_type: str, max_pages: int | None = None, target_pages: str | None = None
) -> Parsed:
    raw = await asyncio.to_thread(path.read_bytes)
    return await TextParser(max_pages=100).parse(
        Document(
            job_id="0190a1b2-0000-7000-8000-000000000001",
            tenant="acme",
            attempt=1,
            path=path,
            sha256=hashlib.sha256(raw).hexdigest(),
            size_bytes=len(raw),
            media_type=media_type,
            options=ParseOptions(max_pages=max_pages, target_pages=target_pages),
        )
    )


async def parse_bytes(folder: Path, raw: bytes, media_type: str = "text/plain") -> Parsed:
    path = folder / "document"
    path.write_bytes(raw)
    return await parse(path, media_type)


async def test_a_form_feed_ends_a_page() -> None:
    parsed = await parse(SAMPLES / "letter.txt", "text/plain")
    assert [page.number for page in parsed.pages] == [1, 2]
    assert parsed.pages[0].markdown.startswith("Dear harbour master,\n")
    assert parsed.pages[1].text == "Postscript\n\nA form feed began this page.\n"
    assert parsed.warnings == ()


async def test_the_last_form_feed_begins_no_page(tmp_path: Path) -> None:
    parsed = await parse_bytes(tmp_path, b"one\f\f three\f\n")
    assert [page.text for page in parsed.pages] == ["one", "", " three"]
    assert parsed.warnings == ("page_has_no_text:2",)


async def test_markdown_stands_as_it_is_but_for_mark_and_line_ends(tmp_path: Path) -> None:
    parsed = await parse_bytes(tmp_path, b"\xef\xbb\xbf# T\xc3\xaate\r\n\r\n*a*\r", "text/markdown")
    assert parsed.pages[0].markdown == "# Tête\n\n*a*\n"


async def test_the_sample_table_becomes_markdown() -> None:
    parsed = await parse(SAMPLES / "table.csv", "text/csv")
    assert parsed.pages[0].markdown == (
        "| buoy | temperature | remark |\n"
        "| --- | --- | --- |\n"
        "| North pier | 9,4 | calm; clear |\n"
        "| South pier | 9,9 | ferry \\| pump |\n"
        "| Lighthouse | 8,7 |  |\n"
        "| River mouth | 11,2 | silent<br>until midnight |\n"
    )


@pytest.mark.parametrize(
    ("raw", "table"),
    [
        (b"a,b\n1,2\n", "| a | b |\n| --- | --- |\n| 1 | 2 |\n"),
        (b"a\tb\n1,5\t2\n", "| a | b |\n| --- | --- |\n| 1,5 | 2 |\n"),
        (b"a|b\n1|2\n", "| a | b |\n| --- | --- |\n| 1 | 2 |\n"),
        (b"a;b\n1,5;2,5\n", "| a | b |\n| --- | --- |\n| 1,5 | 2,5 |\n"),
        (b"one\ntwo\n", "| one |\n| --- |\n| two |\n"),
        (b"a,b\n\n1\n", "| a | b |\n| --- | --- |\n| 1 |  |\n"),
    ],
)
async def test_delimiters_are_found(tmp_path: Path, raw: bytes, table: str) -> None:
    parsed = await parse_bytes(tmp_path, raw, "text/csv")
    assert parsed.pages[0].markdown == table


async def test_latin1_is_refused_with_the_position_and_without_content() -> None:
    with pytest.raises(PermanentError) as caught:
        await parse(SAMPLES / "latin1.txt", "text/plain")
    assert caught.value.code == Code.DOCUMENT_NOT_UTF8
    assert caught.value.message == "the byte at position 2 is not UTF-8"


async def test_the_position_counts_the_byte_order_mark(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="position 5 is"):
        await parse_bytes(tmp_path, b"\xef\xbb\xbfab\xff")


@pytest.mark.parametrize(
    ("raw", "media_type"),
    [(b" \n\t\n", "text/plain"), (b"\f\f", "text/plain"), (b",,\n,,\n", "text/csv")],
)
async def test_no_text_is_said(tmp_path: Path, raw: bytes, media_type: str) -> None:
    with pytest.raises(PermanentError) as caught:
        await parse_bytes(tmp_path, raw, media_type)
    assert caught.value.code == Code.DOCUMENT_HAS_NO_TEXT


async def test_a_field_beyond_the_csv_modules_limit_is_a_broken_document(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="not readable as CSV at line 2") as caught:
        await parse_bytes(tmp_path, b"a,b\n" + b"x" * 200_000 + b",1\n", "text/csv")
    assert caught.value.code == Code.DOCUMENT_BROKEN


async def test_the_producers_page_limit_holds() -> None:
    with pytest.raises(PermanentError, match="has 2 pages, the limit is 1") as caught:
        await parse(SAMPLES / "letter.txt", "text/plain", max_pages=1)
    assert caught.value.code == Code.DOCUMENT_TOO_MANY_PAGES


async def test_wanted_pages_alone_are_cut_out(tmp_path: Path) -> None:
    path = tmp_path / "document"
    path.write_bytes(b"one\ftwo\fthree\ffour\f")
    for wanted, texts in {"2-3": ["two", "three"], "1,4": ["one", "four"]}.items():
        parsed = await parse(path, "text/plain", target_pages=wanted)
        assert [page.text for page in parsed.pages] == texts
    parsed = await parse(path, "text/plain", target_pages="4-9")
    assert [(page.number, page.text) for page in parsed.pages] == [(4, "four")]
    assert parsed.warnings == ("page_missing:5-9",)


async def test_a_text_that_memory_would_not_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "document"
    path.write_bytes(b"text")
    given = Document("j", "t", 1, path, "0" * 64, MOST_BYTES + 1, "text/plain", ParseOptions())
    with pytest.raises(PermanentError, match="33554432 bytes, not 33554433") as caught:
        await TextParser(max_pages=1).parse(given)
    assert caught.value.code == Code.DOCUMENT_TOO_LARGE


async def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as caught:
        await TextParser(max_pages=1).parse(
            Document("j", "t", 1, tmp_path / "gone", "0" * 64, 1, "text/plain", ParseOptions())
        )
    assert caught.value.code == Code.SOURCE_MISSING
