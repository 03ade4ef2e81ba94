"""Counting a PDF's pages without parsing it: what the estimate before a paid parse stands on."""

import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.errors import Code, TransientError
from schemas.events import ParseOptions
from streams.parsers.base import Document
from streams.parsers.liteparse import LiteParser, open_lite_parser
from tests.pdfs import text_pdf

SAMPLES = Path(__file__).parents[2] / "samples"
DOUBLE = Path(__file__).parents[1] / "doubles" / "lite_child_double.py"


@pytest.fixture
async def lite() -> AsyncIterator[LiteParser]:
    async with open_lite_parser(slots=1, max_pages=5, timeout_seconds=60) as parser:
        yield parser


def document(path: Path) -> Document:
    raw = path.read_bytes()
    sha256 = hashlib.sha256(raw).hexdigest()
    return Document("j", "acme", 1, path, sha256, len(raw), "application/pdf", ParseOptions())


@pytest.mark.parametrize(
    ("name", "pages"),
    [
        ("report.pdf", 3),
        ("scan.pdf", 1),
        ("mixed.pdf", 3),
        ("broken.pdf", None),
        ("encrypted.pdf", None),
        ("letter.txt", None),
    ],
)
async def test_the_samples_pages(lite: LiteParser, name: str, pages: int | None) -> None:
    assert await lite.count_pages(document(SAMPLES / name)) == pages
    # The child that counted parses as before.
    assert len((await lite.parse(document(SAMPLES / "report.pdf"))).pages) == 3


async def test_pages_beyond_the_limit_are_counted_too(lite: LiteParser, tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(text_pdf([["a line"]] * 1200, "long"))
    assert await lite.count_pages(document(path)) == 1200


async def test_a_file_that_is_gone_has_no_count(lite: LiteParser, tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.write_bytes(b"%PDF-1.4")
    given = document(path)
    path.unlink()
    assert await lite.count_pages(given) is None


async def test_a_child_that_dies_while_it_counts_is_told(tmp_path: Path) -> None:
    path = tmp_path / "die"
    path.write_text("die")
    command = (sys.executable, str(DOUBLE))
    async with open_lite_parser(slots=1, max_pages=5, timeout_seconds=60, command=command) as lite:
        with pytest.raises(TransientError) as caught:
            await lite.count_pages(document(path))
    assert caught.value.code == Code.PARSER_CRASHED
