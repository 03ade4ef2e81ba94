"""Estimates: never too low, by the pages that are wanted, and a refusal before money is spent."""

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import ParseOptions
from schemas.money import Spend
from schemas.prices import read_prices
from streams.estimates import Estimates, most_text_pages, uncounted
from streams.parsers.base import Document
from tests.fakes import FakeRemote

NOVEMBER_24 = 1_795_478_400.0
"""2026-11-24 at midnight UTC."""

PRICES = read_prices("""
[[llamaparse]]
from = 2026-01-01
source = "the price list"
dollars_per_1000_credits = "1.25"
credits_per_page = { cost_effective = 3, agentic = 10 }

[[llamaparse]]
from = 2026-11-25
source = "their letter"
dollars_per_1000_credits = "2.50"
credits_per_page = { cost_effective = 3, agentic = 10 }
""")


class Counter:
    """Counts as it is told, and notes what it was asked of."""

    def __init__(self, pages: int | None = None, error: Exception | None = None) -> None:
        self.pages, self.error = pages, error
        self.asked: list[Document] = []

    async def __call__(self, document: Document) -> int | None:
        self.asked.append(document)
        if self.error is not None:
            raise self.error
        return self.pages


def pdf(size_bytes: int = 1_000_000, **options: Any) -> Document:
    asked = ParseOptions(**options)
    kind = "application/pdf"
    return Document("j", "acme", 1, Path("nowhere"), "0" * 64, size_bytes, kind, asked)


def text(folder: Path, raw: bytes, media_type: str = "text/plain", **options: Any) -> Document:
    path = folder / "text"
    path.write_bytes(raw)
    asked = ParseOptions(**options)
    return Document("j", "acme", 1, path, "0" * 64, len(raw), media_type, asked)


def estimates(pages: int | None, *, now: float = NOVEMBER_24, max_pages: int = 100) -> Estimates:
    return Estimates(PRICES, Counter(pages), max_pages=max_pages, clock=lambda: now)


async def test_ten_pages_of_the_agentic_tier() -> None:
    spend = await estimates(10).of(pdf(tier="agentic"), FakeRemote())
    assert spend == Spend("llamaparse", "agentic", 10, 125_000, 1_250_000)


async def test_the_deployments_tier_and_the_price_of_the_day() -> None:
    before = await estimates(10).of(pdf(), FakeRemote())
    assert before == Spend("llamaparse", "cost_effective", 10, 37_500, 1_250_000)
    after = await estimates(10, now=NOVEMBER_24 + 86_400).of(pdf(), FakeRemote())
    assert after == Spend("llamaparse", "cost_effective", 10, 75_000, 2_500_000)


async def test_a_parser_without_a_price_costs_nothing_and_still_has_pages() -> None:
    spend = await estimates(10).of(pdf(tier="agentic"), FakeRemote("callback"))
    assert (spend.service, spend.pages, spend.micro_usd) == ("callback", 10, 0)


@pytest.mark.parametrize(
    ("there", "options", "pages"),
    [
        (100, {}, 100),
        (10, {"max_pages": 10}, 10),
        (10, {"target_pages": "1,3-5"}, 4),
        (4, {"target_pages": "3-9"}, 2),
        # Of a long document some pages may be had.
        (5_000, {"target_pages": "4990-5000"}, 11),
        # Not counted: LlamaParse is asked for one page more than the limit.
        (None, {}, 101),
        (None, {"max_pages": 7}, 8),
        (None, {"max_pages": 500}, 101),
        (None, {"target_pages": "1,3-5"}, 4),
        (0, {}, 101),
    ],
)
async def test_the_pages_of_a_pdf(there: int | None, options: dict[str, Any], pages: int) -> None:
    spend = await estimates(there).of(pdf(**options), FakeRemote())
    assert (spend.pages, spend.micro_usd) == (pages, pages * 3_750)


@pytest.mark.parametrize(
    ("there", "options", "code"),
    [
        (101, {}, Code.DOCUMENT_TOO_MANY_PAGES),
        (10, {"max_pages": 9}, Code.DOCUMENT_TOO_MANY_PAGES),
        (None, {"target_pages": "1-101"}, Code.DOCUMENT_TOO_MANY_PAGES),
        (3, {"target_pages": "4"}, Code.INVALID_REQUEST),
        (3, {"target_pages": "5-4"}, Code.INVALID_REQUEST),
    ],
)
async def test_what_the_parser_must_not_be_given(
    there: int | None, options: dict[str, Any], code: Code
) -> None:
    remote = FakeRemote()
    with pytest.raises(PermanentError) as caught:
        await estimates(there).of(pdf(**options), remote)
    assert caught.value.code == code
    assert remote.calls == []


async def test_a_tier_without_a_price_is_refused() -> None:
    with pytest.raises(PermanentError) as caught:
        await estimates(1).of(pdf(tier="fast"), FakeRemote())
    assert caught.value.code == Code.PRICE_UNKNOWN


@pytest.mark.parametrize("code", [Code.PARSE_TIMEOUT, Code.PARSER_CRASHED, Code.PARSER_UNAVAILABLE])
async def test_a_pdf_that_the_count_stumbles_over_has_the_bound(code: Code) -> None:
    counter = Counter(error=TransientError(code, "no count"))
    given = Estimates(PRICES, counter, max_pages=100, clock=lambda: NOVEMBER_24)
    assert (await given.of(pdf(), FakeRemote())).pages == 101


async def test_a_shutdown_is_no_answer() -> None:
    counter = Counter(error=TransientError(Code.SHUTDOWN, "the parser is being closed"))
    with pytest.raises(TransientError, match="being closed"):
        await Estimates(PRICES, counter, max_pages=100).of(pdf(), FakeRemote())


async def test_without_a_local_parser_every_pdf_has_the_bound() -> None:
    given = Estimates(PRICES, uncounted, max_pages=100, clock=lambda: NOVEMBER_24)
    assert (await given.of(pdf(), FakeRemote())).pages == 101


@pytest.mark.parametrize(
    ("raw", "pages"),
    [
        (b"", 1),
        (b"a line\n", 1),
        (b"x" * 499, 1),
        (b"x" * 500, 2),
        (b"x" * 1_999, 4),
        (b"\n" * 39, 1),
        (b"\n" * 80, 3),
        (b"\r\n" * 80, 3),
        (b"\r" * 80, 3),
        (b"one\ftwo\fthree", 3),
        # Two form feeds, 1,206 bytes and 41 lines: 1 + 2 + 2 + 1.
        (b"\f" + b"x" * 1_163 + b"\n" * 41 + b"\f", 6),
    ],
)
async def test_the_bound_of_a_text(tmp_path: Path, raw: bytes, pages: int) -> None:
    given = text(tmp_path, raw)
    assert most_text_pages(given.path) == pages
    counter = Counter(77)
    spend = await Estimates(PRICES, counter, max_pages=100, clock=lambda: NOVEMBER_24).of(
        given, FakeRemote()
    )
    assert (spend.pages, counter.asked) == (pages, [])


async def test_a_text_is_bounded_by_the_limit_and_the_choice_too(tmp_path: Path) -> None:
    long = b"x" * 49_000
    for kind in ("text/plain", "text/markdown", "text/csv"):
        assert (await estimates(None).of(text(tmp_path, long, kind), FakeRemote())).pages == 99
    few = text(tmp_path, long, target_pages="1,3")
    assert (await estimates(None).of(few, FakeRemote())).pages == 2
    longer = text(tmp_path, long * 2)
    assert (await estimates(None).of(longer, FakeRemote())).pages == 101
    feeds = text(tmp_path, b"\f" * 1_000)
    assert (await estimates(None).of(feeds, FakeRemote())).pages == 101


async def test_a_text_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    given = text(tmp_path, b"a line")
    given.path.unlink()
    with pytest.raises(PermanentError) as caught:
        await estimates(None).of(given, FakeRemote())
    assert caught.value.code == Code.SOURCE_MISSING


async def test_other_kinds_have_the_bound(tmp_path: Path) -> None:
    counter = Counter(1)
    given = Estimates(PRICES, counter, max_pages=100, clock=lambda: NOVEMBER_24)
    assert (await given.of(text(tmp_path, b"PK", "application/docx"), FakeRemote())).pages == 101
    assert counter.asked == []


@pytest.mark.parametrize(("size_bytes", "pages"), [(63, 1), (64, 2), (639, 10), (6_400, 101)])
async def test_a_pdf_that_cannot_be_opened_has_no_more_pages_than_it_has_room_for(
    size_bytes: int, pages: int
) -> None:
    assert (await estimates(None).of(pdf(size_bytes), FakeRemote())).pages == pages
