"""An estimate against the bill: exact for pages that were counted, never below it for others."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.events import ParseOptions
from schemas.money import price_of
from services.config import Settings
from services.money_settings import read_money
from streams.estimates import Estimates
from streams.parsers.liteparse import open_lite_parser
from streams.parsers.llamaparse import LlamaParse, open_llama_parse
from tests.cloud_parser import CloudParser, OpenGate, document_of, options_for
from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.server import open_llama_cloud
from tests.pdfs import text_pdf

SAMPLES = Path(__file__).parents[2] / "samples"
MAX_PAGES = 20
PDF, TEXT = "application/pdf", "text/plain"


@pytest.fixture
async def cloud() -> AsyncIterator[LlamaCloud]:
    async with open_llama_cloud(Behaviour()) as cloud:
        yield cloud


@pytest.fixture
async def parser(cloud: LlamaCloud) -> AsyncIterator[LlamaParse]:
    options = options_for(cloud.url, max_pages=MAX_PAGES)
    async with open_llama_parse(options, OpenGate()) as parser:
        yield parser


@pytest.fixture
async def estimates() -> AsyncIterator[Estimates]:
    prices = read_money(Settings()).prices
    async with open_lite_parser(slots=1, max_pages=MAX_PAGES, timeout_seconds=60) as lite:
        yield Estimates(prices, lite.count_pages, max_pages=MAX_PAGES)


@pytest.mark.parametrize(
    ("name", "kind", "options", "estimated", "billed"),
    [
        ("report.pdf", PDF, {}, 11_250, 11_250),
        ("report.pdf", PDF, {"tier": "agentic"}, 37_500, 37_500),
        ("report.pdf", PDF, {"target_pages": "2-9", "tier": "agentic_plus"}, 112_500, 112_500),
        ("scan.pdf", PDF, {}, 3_750, 3_750),
        # It needs a password here, and may not there: 1,121 bytes have room for 18 pages.
        ("encrypted.pdf", PDF, {}, 67_500, 3_750),
        ("letter.txt", TEXT, {}, 7_500, 7_500),
    ],
)
async def test_what_was_estimated_is_enough(
    parser: LlamaParse,
    cloud: LlamaCloud,
    estimates: Estimates,
    tmp_path: Path,
    name: str,
    kind: str,
    options: dict[str, Any],
    estimated: int,
    billed: int,
) -> None:
    raw, asked = (SAMPLES / name).read_bytes(), ParseOptions(**options)
    document = document_of(tmp_path / "source", raw, media_type=kind, options=asked)
    spend = await estimates.of(document, parser)
    await CloudParser(parser, cloud).parse(replace(document, held_pages=spend.pages))
    (there,) = cloud.jobs
    seen = await parser.see(there)
    assert seen is not None
    assert seen.credits is not None
    bill = price_of(seen.credits, spend.micro_usd_per_kilocredit)
    assert (spend.micro_usd, bill) == (estimated, billed)


@pytest.mark.parametrize(
    ("options", "pages", "pays"),
    [({}, [1, 2], 7_500), ({"max_pages": 4}, [1, 2], 7_500), ({"target_pages": "2-9"}, [2], 3_750)],
)
async def test_a_pdf_that_states_fewer_pages_than_it_has_costs_no_more_than_is_held(
    parser: LlamaParse,
    cloud: LlamaCloud,
    estimates: Estimates,
    tmp_path: Path,
    options: dict[str, Any],
    pages: list[int],
    pays: int,
) -> None:
    """It says two of its nine, and two are what the local parser finds in it."""
    raw = text_pdf([[f"page {number}"] for number in range(1, 10)], "nine")
    document = document_of(
        tmp_path / "source",
        raw.replace(b"/Count 9", b"/Count 2"),
        media_type=PDF,
        options=ParseOptions(**options),
    )
    spend = await estimates.of(document, parser)
    parsed = await CloudParser(parser, cloud).parse(replace(document, held_pages=spend.pages))
    assert [page.number for page in parsed.pages] == pages
    (there,) = cloud.jobs
    seen = await parser.see(there)
    assert seen is not None
    assert seen.credits is not None
    bill = price_of(seen.credits, spend.micro_usd_per_kilocredit)
    assert (spend.micro_usd, bill) == (pays, pays)
