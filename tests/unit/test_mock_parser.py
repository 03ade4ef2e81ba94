"""The mock parser and the router: deterministic, and honest about who served."""

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import ParseOptions
from streams.parsers.base import Document
from streams.parsers.mock import MockBehaviour, MockParser

SHAS = [f"{number:064x}" for number in range(400)]


def document(sha256: str, attempt: int = 1, **options: Any) -> Document:
    return Document(
        job_id="0190a1b2-0000-7000-8000-000000000001",
        tenant="acme",
        attempt=attempt,
        path=Path("nowhere"),
        sha256=sha256,
        size_bytes=3,
        media_type="text/plain",
        options=ParseOptions(**options),
    )


async def test_the_same_content_gives_the_same_pages_whoever_asks() -> None:
    first = await MockParser(max_pages=10).parse(document(SHAS[0]))
    again = await MockParser(max_pages=10).parse(document(SHAS[0], attempt=7))
    assert first == again
    assert [page.number for page in first.pages] == list(range(1, len(first.pages) + 1))
    assert first.parser == "mock"
    for page in first.pages:
        assert "output of the mock parser" in page.text
        assert SHAS[0] in page.markdown


async def test_there_are_one_to_five_pages_and_all_of_these_occur() -> None:
    parser = MockParser(max_pages=10)
    counts = {len((await parser.parse(document(sha))).pages) for sha in SHAS}
    assert counts == {1, 2, 3, 4, 5}


async def test_the_page_limit_holds() -> None:
    parser = MockParser(max_pages=10)
    long = [sha for sha in SHAS if len((await parser.parse(document(sha))).pages) == 5]
    with pytest.raises(PermanentError, match="has 5 pages, the limit is 2") as caught:
        await parser.parse(document(long[0], max_pages=2))
    assert caught.value.code == Code.DOCUMENT_TOO_MANY_PAGES


async def test_latency_goes_through_the_given_sleep() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    behaviour = MockBehaviour(latency_seconds=2.0, jitter_seconds=0.5)
    parser = MockParser(max_pages=10, behaviour=behaviour, sleep=sleep)
    for sha in SHAS[:20]:
        await parser.parse(document(sha))
    assert len(slept) == 20
    assert all(2.0 <= seconds < 2.5 for seconds in slept)
    assert len(set(slept)) == 20


async def test_transient_failures_are_drawn_for_each_attempt() -> None:
    parser = MockParser(max_pages=10, behaviour=MockBehaviour(transient_rate=0.5))
    failed: dict[int, set[str]] = {1: set(), 2: set()}
    for attempt, shas in failed.items():
        for sha in SHAS:
            try:
                await parser.parse(document(sha, attempt))
            except TransientError:
                shas.add(sha)
    assert 140 < len(failed[1]) < 260
    assert failed[1] != failed[2]


async def test_permanent_failures_stay_with_the_content() -> None:
    parser = MockParser(max_pages=10, behaviour=MockBehaviour(permanent_rate=0.3))
    refused: dict[int, set[str]] = {1: set(), 2: set()}
    for attempt, shas in refused.items():
        for sha in SHAS:
            try:
                await parser.parse(document(sha, attempt))
            except PermanentError:
                shas.add(sha)
    assert 70 < len(refused[1]) < 170
    assert refused[1] == refused[2]


async def test_a_crash_is_nobodys_expected_error() -> None:
    parser = MockParser(max_pages=10, behaviour=MockBehaviour(crash_rate=1.0))
    with pytest.raises(RuntimeError, match="mock crash"):
        await parser.parse(document(SHAS[0]))
