"""Admission: new jobs, duplicates, generations, tenants."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.errors import Code
from schemas.job import State
from tests.harness import Desk, fold_events, open_memory_desk


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


async def test_a_duplicate_joins_and_another_tenant_does_not(desk: Desk) -> None:
    first = await desk.upload(1)
    assert (await desk.upload(1)).job.id == first.job.id
    forced = await desk.upload(1, force=True)
    assert (forced.duplicate, forced.job.generation) == (False, 2)
    assert (await desk.upload(1)).job.id == forced.job.id
    other = await desk.upload(1, tenant="other")
    assert (other.duplicate, other.job.generation) == (False, 1)
    limited = await desk.upload(1, options=ev.ParseOptions(max_pages=3))
    assert (limited.duplicate, limited.job.generation) == (False, 1)


async def test_a_deleted_document_uploaded_again_is_a_new_generation(desk: Desk) -> None:
    job = (await desk.upload(1)).job
    await fold_events(desk, ev.DeleteRequested(job.id, "acme", 1))
    again = await desk.upload(1)
    assert (again.duplicate, again.job.generation) == (False, 2)


@pytest.mark.parametrize("code", ["source_missing", "source_corrupt"])
async def test_bytes_given_again_take_the_place_of_lost_ones(desk: Desk, code: str) -> None:
    lost = (await desk.upload(1)).job
    gone = "nothing is kept under its key"
    await fold_events(desk, ev.ParseFailed(lost.id, "acme", 1, Code(code), gone, transient=False))
    again = await desk.upload(1)
    assert (again.duplicate, again.job.generation) == (False, 2)
    assert again.job.source.key == f"acme/{again.job.id}/source"
    assert (await desk.job(lost.id)).state is State.FAILED_PARSE


async def test_a_document_that_failed_by_itself_is_joined_and_asked_to_retry(desk: Desk) -> None:
    job = (await desk.upload(1)).job
    broken = ev.ParseFailed(job.id, "acme", 1, Code.DOCUMENT_BROKEN, "no", transient=False)
    await fold_events(desk, broken)
    desk.said()
    again = await desk.upload(1)
    assert (again.duplicate, again.job.id) == (True, job.id)
    (asked,) = desk.said()
    assert asked.body == ev.RetryRequested(job.id, "acme", 1)
