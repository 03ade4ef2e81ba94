"""Bills: what each end of an attempt elsewhere says of its money, once."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from schemas.cost_events import CostCorrected, CostReleased, CostReserved, CostSettled
from schemas.job import Job
from schemas.periods import moment_of
from streams.billing import release
from streams.cost_audit import audit_costs
from streams.reservation_sweep import ReservationSweep
from streams.tables.base import Transaction
from tests.harness import NOW, Desk, claim, open_memory_desk, queue
from tests.money_desk import BILLING, costs_of_day, fold_costs, held, hold, spend_of, spent

DAY_MS = 86_400_000


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as desk:
        yield desk


async def elsewhere(desk: Desk, vendor_job_id: str = "v1", number: int = 1) -> Job:
    """Put in a job at LlamaParse, for which $0.0375 are held."""
    job = await queue(desk, vendor_job_id, number)
    await hold(desk, job.id)
    await fold_costs(desk)
    return job


async def settle(
    desk: Desk, outcome: str, billed: float | None = None, vendor_job_id: str = "v1"
) -> None:
    await desk.tables.write(
        lambda tx: BILLING.settle(tx, "llamaparse", vendor_job_id, outcome, billed)
    )


async def vendor_job(desk: Desk) -> tuple[str, float | None, int]:
    (row,) = await desk.rows("vendor.by_id", parser="llamaparse", vendor_job_id="v1")
    return row["outcome"], row["credits"], row["micro_usd"]


def about(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "tenant": "acme",
        "attempt": 1,
        "service": "llamaparse",
        "tier": "cost_effective",
        "booked_at": moment_of(NOW),
    }


@pytest.mark.parametrize(
    ("outcome", "billed", "basis", "pages", "micro_usd"),
    [
        ("billed", 24.0, "billed", 10, 30_000),
        ("billed", 0.5, "billed", 10, 625),
        ("billed", 0.0, "billed", 10, 0),
        ("unbilled", None, "unbilled", 0, 0),
        ("never_told", None, "estimated", 10, 37_500),
    ],
)
async def test_a_job_elsewhere_is_settled_once(
    desk: Desk, outcome: str, billed: float | None, basis: Any, pages: int, micro_usd: int
) -> None:
    job = await elsewhere(desk)
    desk.clock.pass_ms(5_000)
    await settle(desk, outcome, billed)
    await settle(desk, outcome, billed)
    assert await fold_costs(desk) == [
        CostSettled(
            **about(job),
            vendor_job_id="v1",
            basis=basis,
            pages=pages,
            micro_usd=micro_usd,
            credits=billed,
        )
    ]
    assert (await held(desk), await spent(desk)) == (0, micro_usd)
    assert await vendor_job(desk) == (outcome, billed, micro_usd)
    assert await desk.tables.read(audit_costs) == []


@pytest.mark.parametrize(
    ("first", "billed", "pages", "difference"),
    [
        ("billed", 24.0, 0, 7_500),
        ("unbilled", None, 10, 37_500),
        ("never_told", None, 0, 0),
    ],
)
async def test_a_bill_that_comes_afterwards_is_a_correction(
    desk: Desk, first: str, billed: float | None, pages: int, difference: int
) -> None:
    job = await elsewhere(desk)
    await settle(desk, first, billed)
    await fold_costs(desk)
    await settle(desk, "billed", 30.0)
    await settle(desk, "billed", 30.0)
    assert await fold_costs(desk) == [
        CostCorrected(
            **about(job), vendor_job_id="v1", pages=pages, micro_usd=difference, credits=30.0
        )
    ]
    assert await spent(desk) == 37_500
    assert await vendor_job(desk) == ("billed", 30.0, 37_500)
    assert await desk.tables.read(audit_costs) == []


async def test_what_was_reserved_at_another_price_is_billed_at_it(desk: Desk) -> None:
    job = await queue(desk)
    dear = spend_of()
    await hold(desk, job.id, spend=type(dear)(dear.service, dear.tier, 10, 90_000, 3_000_000))
    await settle(desk, "billed", 30.0)
    await fold_costs(desk)
    assert await spent(desk) == 90_000


async def test_what_was_never_reserved_is_billed_by_the_price_list(desk: Desk) -> None:
    job = await queue(desk)
    await settle(desk, "billed", 4.0)
    assert await fold_costs(desk) == [
        CostSettled(
            **(about(job) | {"tier": None}),
            vendor_job_id="v1",
            basis="billed",
            pages=0,
            micro_usd=5_000,
            credits=4.0,
        )
    ]


async def test_a_job_that_nobody_knows_is_not_settled(desk: Desk) -> None:
    await settle(desk, "billed", 3.0, "v9")
    assert await fold_costs(desk) == []


async def test_a_parser_without_bills_costs_what_was_held_once(desk: Desk) -> None:
    job = await queue(desk)
    await hold(desk, job.id, spend=spend_of("callback", micro_usd=9_000))

    async def book(name: str) -> None:
        there = {"parser": "callback", "vendor_job_id": name}
        await desk.tables.write(lambda tx: tx.run("vendor.book", job_id=job.id, attempt=1, **there))
        await desk.tables.write(
            lambda tx: BILLING.settle(tx, **there, outcome="billed", credits_billed=0.0)
        )

    await book("c1")
    await book("c2")
    await fold_costs(desk)
    assert (await held(desk), await spent(desk)) == (0, 9_000)
    (day,) = await costs_of_day(desk)
    assert (day["spent_pages"], day["spent_requests"]) == (10, 1)
    assert await desk.tables.read(audit_costs) == []


async def test_each_attempt_at_a_parser_without_bills_costs_what_was_held(desk: Desk) -> None:
    job = await queue(desk)
    for attempt, micro_usd in ((1, 9_000), (2, 8_000)):
        await hold(desk, job.id, attempt, spend_of("callback", micro_usd=micro_usd))
        there = {"parser": "callback", "vendor_job_id": f"c{attempt}"}
        named = {"job_id": job.id, "attempt": attempt, **there}

        async def unit(
            tx: Transaction, there: dict[str, str] = there, named: dict[str, Any] = named
        ) -> None:
            await tx.run("vendor.book", **named)
            await BILLING.settle(tx, **there, outcome="billed", credits_billed=0.0)

        await desk.tables.write(unit)
    await fold_costs(desk)
    assert (await held(desk), await spent(desk)) == (0, 17_000)


async def test_what_is_held_for_nothing_is_given_back_once(desk: Desk) -> None:
    job = (await desk.upload()).job
    await hold(desk, job.id)
    for _ in range(2):
        await desk.tables.write(lambda tx: release(tx, job.id, 1, "circuit_open"))
    reserved, released = await fold_costs(desk)
    assert isinstance(reserved, CostReserved)
    assert released == CostReleased(**about(job), reason="circuit_open")
    await desk.tables.write(lambda tx: release(tx, job.id, 1, "circuit_open"))
    await desk.tables.write(lambda tx: release(tx, job.id, 2, "circuit_open"))
    assert await fold_costs(desk) == []
    assert (await held(desk), await spent(desk)) == (0, 0)


async def test_what_nobody_ends_for_a_day_is_booked_at_its_estimate(desk: Desk) -> None:
    job = (await desk.upload()).job
    await hold(desk, job.id)
    await fold_costs(desk)
    sweep = ReservationSweep(desk.tables, BILLING)
    desk.clock.pass_ms(DAY_MS - 1)
    await sweep.tick()
    assert await fold_costs(desk) == []
    desk.clock.pass_ms(1)
    await sweep.tick()
    await sweep.tick()
    assert await fold_costs(desk) == [
        CostSettled(**about(job), vendor_job_id=None, basis="estimated", pages=10, micro_usd=37_500)
    ]
    await sweep.tick()
    assert await fold_costs(desk) == []
    assert await held(desk) == 0


async def test_what_was_given_back_a_moment_ago_is_not_booked(desk: Desk) -> None:
    """Its tenant's other events hold up nothing."""
    job, other, third = [(await desk.upload(number)).job for number in (1, 2, 3)]
    await hold(desk, job.id)
    await hold(desk, other.id)
    await fold_costs(desk)
    await hold(desk, third.id)
    desk.clock.pass_ms(DAY_MS)
    await desk.tables.write(lambda tx: release(tx, job.id, 1, "struck"))
    await ReservationSweep(desk.tables, BILLING).tick()
    said = await fold_costs(desk)
    assert {(type(body), body.job_id) for body in said} == {
        (CostReserved, third.id),
        (CostReleased, job.id),
        (CostSettled, other.id),
    }


async def test_what_may_yet_be_found_elsewhere_is_not_booked(desk: Desk) -> None:
    """The parser does not answer for a day: its intent stands until it does."""
    job = (await desk.upload()).job
    await claim(desk, job, intends="llamaparse")
    await hold(desk, job.id)
    await fold_costs(desk)
    desk.clock.pass_ms(2 * DAY_MS)
    await ReservationSweep(desk.tables, BILLING).tick()
    assert await fold_costs(desk) == []


@pytest.mark.parametrize("read_first", [True, False])
async def test_an_estimate_that_counted_is_taken_back_when_the_bill_comes(
    desk: Desk, *, read_first: bool
) -> None:
    job = (await desk.upload()).job
    await hold(desk, job.id)
    await desk.tables.write(lambda tx: BILLING.give_up(tx, job.id, 1))
    if read_first:
        await fold_costs(desk)
        assert await spent(desk) == 37_500
    found = {"parser": "llamaparse", "vendor_job_id": "v1", "job_id": job.id, "attempt": 1}
    await desk.tables.write(lambda tx: tx.run("vendor.book", **found))
    await settle(desk, "billed", 24.0)
    await settle(desk, "billed", 24.0)
    *_, taken_back = await fold_costs(desk)
    assert taken_back == CostCorrected(
        **about(job), vendor_job_id=None, pages=-10, micro_usd=-37_500, credits=0.0
    )
    assert (await held(desk), await spent(desk)) == (0, 30_000)
    (day,) = await costs_of_day(desk)
    assert (day["spent_pages"], day["spent_requests"]) == (10, 1)
    assert await desk.tables.read(lambda tx: audit_costs(tx, grace_ms=0)) == []


async def test_the_sweep_leaves_alone_what_somebody_will_end(desk: Desk) -> None:
    """One is at a parser elsewhere; another's end is on its way to the ledger."""
    await elsewhere(desk)
    other = (await desk.upload(2)).job
    await hold(desk, other.id)
    await desk.tables.write(lambda tx: release(tx, other.id, 1, "circuit_open"))
    desk.clock.pass_ms(2 * DAY_MS)
    await ReservationSweep(desk.tables, BILLING).tick()
    bodies = await fold_costs(desk)
    assert [type(body) for body in bodies] == [CostReserved, CostReleased]
