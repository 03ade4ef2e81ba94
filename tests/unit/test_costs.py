"""The costs fold: each event once, in any order; sums that equal those computed by hand."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC
from typing import Any

import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.cost_events import CostCorrected, CostReleased, CostSettled
from schemas.errors import PermanentError
from schemas.events import Event
from schemas.money import Spend
from schemas.periods import moment_of
from streams.cost_audit import audit_costs
from streams.costs import Costs
from streams.reservations import Payer, reserve
from tests.harness import NOW, Desk, event_of, open_memory_desk
from tests.money_desk import costs_of_day, spend_of

HOUR_MS = 3_600_000


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as desk:
        yield desk


async def fold(desk: Desk, events: Sequence[Event]) -> None:
    await desk.tables.write(lambda tx: Costs(UTC).apply(tx, events))


async def hold(
    desk: Desk, job_id: str = "j1", attempt: int = 1, spend: Spend | None = None
) -> None:
    who = Payer(job_id, "acme", attempt, None)
    await desk.tables.write(lambda tx: reserve(tx, who, spend or spend_of(), UTC))


def about(job_id: str = "j1", attempt: int = 1) -> dict[str, Any]:
    """Give what the events of an attempt have in common."""
    return {
        "job_id": job_id,
        "tenant": "acme",
        "attempt": attempt,
        "service": "llamaparse",
        "tier": "cost_effective",
        "booked_at": moment_of(NOW),
    }


def settled(micro_usd: int = 30_000, vendor_job_id: str = "v1", **changes: Any) -> CostSettled:
    values: dict[str, Any] = {"basis": "billed", "pages": 10, "credits": micro_usd / 1250}
    common = about() | {k: changes.pop(k) for k in list(changes) if k in about()}
    return CostSettled(
        **common, vendor_job_id=vendor_job_id, micro_usd=micro_usd, **(values | changes)
    )


async def ledger(desk: Desk, job_id: str = "j1") -> list[tuple[str, int, int]]:
    """Give (kind, change of what is held, change of what is spent) of a job's lines."""
    return await desk.sql(
        "SELECT kind, reserved_micro_usd, spent_micro_usd FROM cost_ledger"
        " WHERE job_id = ? ORDER BY seq",
        job_id,
    )


async def reservation(desk: Desk, job_id: str = "j1", attempt: int = 1) -> str:
    (row,) = await desk.rows("money.reservation", job_id=job_id, attempt=attempt)
    return str(row["state"])


async def test_a_bill_ends_the_reservation_and_is_spent(desk: Desk) -> None:
    await hold(desk)
    desk.said()
    await fold(desk, [*desk.costs, event_of(settled())])
    assert await ledger(desk) == [("reserved", 37_500, 0), ("settled", -37_500, 30_000)]
    assert await reservation(desk) == "settled"


async def test_what_is_released_is_not_spent(desk: Desk) -> None:
    await hold(desk)
    await fold(desk, [event_of(CostReleased(**about(), reason="circuit_open"))])
    assert await ledger(desk) == [("released", -37_500, 0)]
    assert await reservation(desk) == "released"


async def test_a_second_job_of_an_attempt_is_spent_and_ends_nothing_twice(desk: Desk) -> None:
    await hold(desk)
    await fold(desk, [event_of(settled()), event_of(settled(37_500, "v2"))])
    assert await ledger(desk) == [("settled", -37_500, 30_000), ("settled", 0, 37_500)]


async def test_a_bill_after_the_release_is_spent_all_the_same(desk: Desk) -> None:
    await hold(desk)
    released = CostReleased(**about(), reason="worker_lost")
    await fold(desk, [event_of(released)])
    await fold(desk, [event_of(settled())])
    assert await ledger(desk) == [("released", -37_500, 0), ("settled", 0, 30_000)]
    assert await reservation(desk) == "released"


async def test_a_correction_changes_what_is_spent_by_the_difference(desk: Desk) -> None:
    await hold(desk)
    less = CostCorrected(**about(), vendor_job_id="v1", pages=0, micro_usd=-5_000, credits=20.0)
    await fold(desk, [event_of(less), event_of(settled())])
    assert await ledger(desk) == [("corrected", 0, -5_000), ("settled", -37_500, 30_000)]
    (day,) = await costs_of_day(desk)
    assert (day["name"], day["spent_micro_usd"]) == ("2027-01-15", 25_000)


async def test_an_event_that_comes_twice_counts_once(desk: Desk) -> None:
    await hold(desk)
    event = event_of(settled())
    await fold(desk, [event, event])
    await fold(desk, [event])
    assert await ledger(desk) == [("settled", -37_500, 30_000)]


async def test_money_that_was_never_held_is_spent_and_found_by_the_audit(desk: Desk) -> None:
    await hold(desk)
    await fold(desk, [event_of(settled(job_id="j9"))])
    assert await ledger(desk, "j9") == [("settled", 0, 30_000)]
    found = await desk.tables.read(audit_costs)
    assert [finding.check for finding in found] == ["unreserved"]


async def test_what_is_no_cost_event_is_refused(desk: Desk) -> None:
    with pytest.raises(PermanentError) as caught:
        await fold(desk, [event_of(ev.RetryDue("j", "t", 1))])
    assert caught.value.code == "poison_event"
