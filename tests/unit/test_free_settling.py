"""Jobs at a parser that costs nothing: settled as soon as nobody waits for them."""

import pytest

from schemas import events as ev
from streams.vendor_settle import VendorSettle
from tests.harness import Desk, fold_events, open_memory_desk
from tests.money_desk import BILLING


def settle_of(desk: Desk) -> VendorSettle:
    return VendorSettle(
        desk.tables,
        {},
        desk.recorder,
        BILLING,
        forget=True,
        every_seconds=1,
        unmetered=("callback",),
    )


async def rows_of(desk: Desk, job_id: str) -> list[tuple[str, str | None, float | None]]:
    rows = await desk.rows("vendor.of_job", job_id=job_id)
    return [(row["vendor_job_id"], row["outcome"], row["credits"]) for row in rows]


@pytest.mark.parametrize("late", [False, True])
async def test_a_job_that_nobody_waits_for_is_settled_at_once(late: bool) -> None:
    async with open_memory_desk() as desk:
        job = (await desk.upload()).job
        queued = ev.ParseQueued(job.id, "acme", 1, "callback", "v-1")
        cancelled = ev.CancelRequested(job.id, "acme", 1)
        await fold_events(desk, *((cancelled, queued) if late else (queued, cancelled)))
        desk.clock.pass_ms(10_000)
        await settle_of(desk).tick()
        assert await rows_of(desk, job.id) == [("v-1", "billed", 0.0)]
        assert await desk.rows("vendor.due_settles", most=10) == []


async def test_one_that_is_waited_for_is_left_alone() -> None:
    async with open_memory_desk() as desk:
        job = (await desk.upload()).job
        # The second name of the same job: an early webhook did not know the first.
        await fold_events(
            desk,
            ev.ParseQueued(job.id, "acme", 1, "callback", "v-1"),
            ev.ParseQueued(job.id, "acme", 1, "callback", "v-2"),
        )
        desk.clock.pass_ms(10_000)
        await settle_of(desk).tick()
        assert await rows_of(desk, job.id) == [("v-1", None, None), ("v-2", "billed", 0.0)]
        await fold_events(desk, ev.CancelRequested(job.id, "acme", 1))
        desk.clock.pass_ms(30_000)
        await settle_of(desk).tick()
        assert await rows_of(desk, job.id) == [("v-1", "unbilled", None), ("v-2", "billed", 0.0)]
