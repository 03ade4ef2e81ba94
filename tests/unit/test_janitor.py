"""The janitor and the gauges: what no row names goes, what the tables hold is shown."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from schemas import events as ev
from schemas.ids import uuid7
from streams.blobs.base import elsewhere_key, result_key, source_key, webhook_key
from streams.blobs.disk import DiskBlobs
from streams.gauges import Gauges
from streams.janitor import Janitor
from tests.harness import Desk, fold_events, open_memory_desk


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


async def keys(blobs: DiskBlobs) -> set[str]:
    return {stored.key async for stored in blobs.list_all()}


async def test_a_deleted_jobs_blobs_are_erased_and_its_timer_goes(
    desk: Desk, tmp_path: Path
) -> None:
    blobs = DiskBlobs(tmp_path / "blobs")
    job, other = (await desk.upload(1)).job, (await desk.upload(2)).job
    for one in (job, other):
        await blobs.put(source_key("acme", one.id), b"source")
        await blobs.put(result_key("acme", one.id, 1), b"result")
    await blobs.put(elsewhere_key("acme", job.id, 1), b"late")
    await fold_events(desk, ev.DeleteRequested(job.id, "acme", 1))
    janitor = Janitor(desk.tables, blobs)
    assert await janitor.erase_deleted() == 1
    assert await keys(blobs) == {source_key("acme", other.id), result_key("acme", other.id, 1)}
    assert await janitor.erase_deleted() == 0


async def test_old_blobs_that_no_row_names_are_removed(desk: Desk, tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path / "blobs")
    job = (await desk.upload()).job
    named = {source_key("acme", job.id), result_key("acme", job.id, 1)}
    stray = {source_key("acme", uuid7()), result_key("acme", job.id, 7)}
    for key in named | stray:
        await blobs.put(key, b"x")
    assert await Janitor(desk.tables, blobs).remove_orphans() == 0
    assert await keys(blobs) == named | stray
    assert await Janitor(desk.tables, blobs, orphan_seconds=-1).remove_orphans() == 2
    assert await keys(blobs) == named


async def test_the_result_of_a_cancelled_job_is_removed_and_its_document_kept(
    desk: Desk, tmp_path: Path
) -> None:
    """As by a worker that kept a result and was told of the cancel only then."""
    blobs = DiskBlobs(tmp_path / "blobs")
    cancelled, at_work = (await desk.upload(1)).job, (await desk.upload(2)).job
    named = {source_key("acme", job.id) for job in (cancelled, at_work)}
    named |= {result_key("acme", at_work.id, 1), elsewhere_key("acme", at_work.id, 1)}
    lost = {result_key("acme", cancelled.id, 1), elsewhere_key("acme", cancelled.id, 1)}
    for key in named | lost:
        await blobs.put(key, b"x")
    await fold_events(desk, ev.CancelRequested(cancelled.id, "acme", 1))
    assert await Janitor(desk.tables, blobs, orphan_seconds=-1).remove_orphans() == 2
    assert await keys(blobs) == named


async def test_what_a_deleted_job_left_behind_is_removed(desk: Desk, tmp_path: Path) -> None:
    """As by a worker that died after it kept a result, which came after the erasure."""
    blobs = DiskBlobs(tmp_path / "blobs")
    job = (await desk.upload()).job
    await fold_events(desk, ev.DeleteRequested(job.id, "acme", 1))
    janitor = Janitor(desk.tables, blobs, orphan_seconds=-1)
    await janitor.erase_deleted()
    await blobs.put(result_key("acme", job.id, 1), b"result")
    assert await janitor.remove_orphans() == 1
    assert await keys(blobs) == set()


async def test_gauges_show_what_the_tables_hold(desk: Desk) -> None:
    first = (await desk.upload(1)).job
    await desk.upload(2)
    desk.clock.pass_ms(5_000)
    await fold_events(desk, ev.CancelRequested(first.id, "acme", 1))
    await Gauges(desk.tables, desk.recorder).show()

    def value(name: str, **labels: str) -> float | None:
        return desk.recorder.registry.get_sample_value(name, labels)

    assert value("parsewire_jobs", state="uploaded") == 1
    assert value("parsewire_jobs", state="cancelled") == 1
    assert value("parsewire_jobs", state="complete") == 0
    assert value("parsewire_oldest_unfinished_job_seconds") == 5
    assert value("parsewire_unfinished_jobs_without_timer") == 0
    assert value("parsewire_outbox_events") == 3
    assert value("parsewire_outbox_oldest_seconds") == 5


async def test_a_webhooks_body_is_kept_as_long_as_its_record(desk: Desk, tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path / "blobs")
    hook, stray = webhook_key(uuid7()), source_key("webhooks", uuid7())
    for key in (hook, stray):
        await blobs.put(key, b"x")
    # Any other blob that no row names goes after a day.
    week = DiskBlobs(tmp_path / "blobs", clock=lambda: time.time() + 7 * 86_400 - 60)
    assert await Janitor(desk.tables, week).remove_orphans() == 1
    assert await keys(blobs) == {hook}
    later = DiskBlobs(tmp_path / "blobs", clock=lambda: time.time() + 7 * 86_400 + 60)
    assert await Janitor(desk.tables, later).remove_orphans() == 1
    assert await keys(blobs) == set()
