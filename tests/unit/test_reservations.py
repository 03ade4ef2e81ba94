"""Reservations: held once for an attempt, never more than a hard budget has, or nothing at all."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from schemas.cost_events import CostReleased, CostReserved, CostSettled
from schemas.errors import Code
from schemas.events import CostInput
from schemas.ids import uuid7
from schemas.money import Policy, Spend
from schemas.periods import Period, moment_of, unix_ms
from streams.cost_audit import audit_costs
from streams.costs import Costs
from streams.reservations import FROZEN, BudgetSpentError, Payer, check, reserve, standing
from tests.harness import NOW, Desk, event_of, open_memory_desk
from tests.ledger_desk import Ledger
from tests.money_desk import spend_of

HOUR_MS = 3_600_000


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as desk:
        yield desk


async def limit(desk: Desk, scope: str = "deployment", subject: str = "", **changes: Any) -> str:
    """Set a budget of $0.10 a day, or what is asked."""
    period = changes.pop("period", "day")
    name = scope if not subject else f"{scope}:{subject}"
    values: dict[str, Any] = {
        "id": f"{name}/{period}",
        "scope": scope,
        "subject": subject,
        "period": period,
        "limit_micro_usd": 100_000,
        "limit_pages": None,
        "limit_requests": None,
        "hard": 1,
        "policy": "reject",
    }
    await desk.tables.write(lambda tx: tx.run("money.set_budget", **(values | changes)))
    return str(values["id"])


def payer(job_id: str | None = None, attempt: int = 1, tenant: str = "acme") -> Payer:
    return Payer(job_id or uuid7(), tenant, attempt, None)


async def hold(desk: Desk, who: Payer | None = None, spend: Spend | None = None) -> Payer:
    who = who or payer()
    await desk.tables.write(lambda tx: reserve(tx, who, spend or spend_of(), UTC))
    return who


async def refused(desk: Desk, who: Payer | None = None, spend: Spend | None = None) -> Any:
    with pytest.raises(BudgetSpentError) as caught:
        await hold(desk, who, spend)
    return caught.value


async def window(desk: Desk, budget: str) -> tuple[int, int, int, int]:
    """Give the micro-dollars held and spent, and the pages and requests held."""
    rows = await desk.tables.read(lambda tx: standing(tx, UTC))
    (row,) = [row for row in rows if row["id"] == budget]
    names = ("reserved_micro_usd", "spent_micro_usd", "reserved_pages", "reserved_requests")
    held, spent, pages, requests = (row[name] for name in names)
    return held, spent, pages, requests


async def fold(desk: Desk, *bodies: CostInput) -> None:
    await desk.tables.write(lambda tx: Costs(UTC).apply(tx, [event_of(body) for body in bodies]))


def settled(who: Payer, micro_usd: int, **changes: Any) -> CostSettled:
    values: dict[str, Any] = {
        "job_id": who.job_id,
        "tenant": who.tenant,
        "attempt": who.attempt,
        "service": "llamaparse",
        "tier": "cost_effective",
        "booked_at": moment_of(NOW),
        "vendor_job_id": "v1",
        "basis": "billed",
        "pages": 10,
        "micro_usd": micro_usd,
    }
    return CostSettled(**(values | changes))


async def test_what_fits_is_held_and_said(desk: Desk) -> None:
    budget = await limit(desk)
    who = await hold(desk)
    await hold(desk)
    assert await window(desk, budget) == (75_000, 0, 20, 2)
    assert desk.said() == []
    first, _ = desk.costs
    assert first.body == CostReserved(
        who.job_id, "acme", 1, "llamaparse", "cost_effective", moment_of(NOW), 10, 37_500
    )


async def test_what_does_not_fit_holds_nothing_of_any_budget(desk: Desk) -> None:
    wide = await limit(desk, limit_micro_usd=10_000_000)
    narrow = await limit(desk, "tenant", "acme")
    await hold(desk)
    await hold(desk)
    who = payer()
    error = await refused(desk, who)
    assert (error.code, error.policy) == (Code.BUDGET_SPENT, Policy.REJECT)
    assert error.message == "not enough is left of the budget: tenant:acme/day"
    assert await window(desk, wide) == (75_000, 0, 20, 2)
    assert await window(desk, narrow) == (75_000, 0, 20, 2)
    assert await desk.rows("money.reservation", job_id=who.job_id, attempt=1) == []
    assert len(desk.said()) == 0
    assert len(desk.costs) == 2


async def test_to_the_last_micro_dollar_and_not_beyond(desk: Desk) -> None:
    await limit(desk)
    await hold(desk, spend=spend_of(micro_usd=99_999))
    await refused(desk, spend=spend_of(micro_usd=2))
    await hold(desk, spend=spend_of(micro_usd=1))
    await refused(desk, spend=spend_of(micro_usd=1))
    await hold(desk, spend=spend_of(micro_usd=0))


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        ({"limit_micro_usd": None, "limit_pages": 25}, 2),
        ({"limit_micro_usd": None, "limit_requests": 3}, 3),
        ({"limit_micro_usd": 37_500, "limit_pages": 100, "limit_requests": 9}, 1),
        ({"limit_micro_usd": 0}, 0),
    ],
)
async def test_dollars_pages_and_requests_are_limited(
    desk: Desk, limits: dict[str, Any], fits: int
) -> None:
    await limit(desk, **limits)
    for _ in range(fits):
        await hold(desk)
    await refused(desk)


async def test_only_budgets_of_the_tenant_and_the_service_count(desk: Desk) -> None:
    await limit(desk, "tenant", "other", limit_micro_usd=0)
    await limit(desk, "service", "callback", limit_micro_usd=0)
    await hold(desk)
    await refused(desk, payer(tenant="other"))
    await refused(desk, spend=spend_of("callback"))


async def test_the_same_attempt_holds_once(desk: Desk) -> None:
    budget = await limit(desk)
    who = await hold(desk)
    await hold(desk, who)
    assert await window(desk, budget) == (37_500, 0, 10, 1)
    await hold(desk, payer(who.job_id, attempt=2))
    assert await window(desk, budget) == (75_000, 0, 20, 2)


async def test_a_soft_budget_only_counts(desk: Desk) -> None:
    budget = await limit(desk, hard=0, limit_micro_usd=1)
    await hold(desk)
    assert await window(desk, budget) == (37_500, 0, 10, 1)


async def test_the_strictest_policy_of_the_spent_budgets_holds_and_the_longest_wait(
    desk: Desk,
) -> None:
    await limit(desk, policy="local", limit_micro_usd=0)
    hourly = await refused(desk)
    assert hourly.policy is Policy.LOCAL
    await limit(desk, "tenant", "acme", policy="wait", limit_micro_usd=0, period="hour")
    error = await refused(desk)
    assert error.policy is Policy.WAIT
    # NOW is 2027-01-15 08:00 UTC: the day ends in 16 hours.
    assert error.retry_after_seconds == 16 * 3600 + 0.001
    await limit(desk, "service", "llamaparse", policy="reject", limit_micro_usd=0, period="hour")
    assert (await refused(desk)).policy is Policy.REJECT


async def test_a_budget_counts_what_was_held_and_spent_before_it_was_set(desk: Desk) -> None:
    first, second = await hold(desk), await hold(desk)
    await fold(desk, settled(second, 30_000))
    budget = await limit(desk)
    assert await window(desk, budget) == (37_500, 30_000, 10, 1)
    await hold(desk, spend=spend_of(micro_usd=32_500))
    assert await window(desk, budget) == (70_000, 30_000, 20, 2)
    await refused(desk, spend=spend_of(micro_usd=1))
    await fold(desk, settled(first, 37_500, vendor_job_id="v0"))
    assert await window(desk, budget) == (32_500, 67_500, 10, 1)


async def test_a_new_window_begins_empty_and_the_old_one_takes_its_bill(desk: Desk) -> None:
    budget = await limit(desk, period="hour", policy="wait")
    who = await hold(desk, spend=spend_of(micro_usd=100_000))
    error = await refused(desk)
    assert error.retry_after_seconds == 3600.001
    desk.clock.pass_ms(HOUR_MS + 1)
    await hold(desk)
    assert await window(desk, budget) == (37_500, 0, 10, 1)
    await fold(desk, settled(who, 90_000))
    assert await window(desk, budget) == (37_500, 0, 10, 1)
    desk.clock.pass_ms(-HOUR_MS)
    assert await window(desk, budget) == (0, 90_000, 0, 0)


async def test_the_last_moment_of_a_window_is_the_first_of_the_next(desk: Desk) -> None:
    budget = await limit(desk, period="hour")
    desk.clock.pass_ms(-1)
    await hold(desk)
    desk.clock.pass_ms(1)
    who = await hold(desk)
    await fold(desk, settled(who, 30_000))
    assert await window(desk, budget) == (0, 30_000, 0, 0)
    desk.clock.pass_ms(-1)
    assert await window(desk, budget) == (37_500, 0, 10, 1)


async def test_what_is_given_back_can_be_held_again(desk: Desk) -> None:
    budget = await limit(desk, limit_micro_usd=37_500)
    who = await hold(desk)
    await refused(desk)
    released = CostReleased(
        who.job_id, "acme", 1, "llamaparse", "cost_effective", moment_of(NOW), "circuit_open"
    )
    await fold(desk, released)
    assert await window(desk, budget) == (0, 0, 0, 0)
    await hold(desk)


async def test_a_look_tells_what_a_hold_would_and_holds_nothing(desk: Desk) -> None:
    budget = await limit(desk, limit_micro_usd=37_500)
    await desk.tables.read(lambda tx: check(tx, "acme", spend_of(), UTC))
    assert await window(desk, budget) == (0, 0, 0, 0)
    await hold(desk)
    with pytest.raises(BudgetSpentError):
        await desk.tables.read(lambda tx: check(tx, "acme", spend_of(micro_usd=1), UTC))


@pytest.mark.parametrize("policy", list(Policy))
async def test_nothing_is_held_while_spending_is_frozen(desk: Desk, policy: Policy) -> None:
    await desk.tables.write(lambda tx: tx.run("limits.set", name=FROZEN, value=policy.value))
    error = await refused(desk)
    assert (error.code, error.policy) == (Code.SPENDING_FROZEN, policy)
    await desk.tables.write(lambda tx: tx.run("limits.unset", name=FROZEN))
    await hold(desk)


async def test_the_day_is_the_zones(desk: Desk) -> None:
    """At 08:00 UTC it is 00:00 in Los Angeles: a second before, another day."""
    zone = ZoneInfo("America/Los_Angeles")
    await limit(desk, limit_micro_usd=37_500)
    desk.clock.pass_ms(-1_000)
    await desk.tables.write(lambda tx: reserve(tx, payer(), spend_of(), zone))
    with pytest.raises(BudgetSpentError) as caught:
        await desk.tables.write(lambda tx: reserve(tx, payer(), spend_of(), zone))
    assert caught.value.retry_after_seconds == 1.001
    desk.clock.pass_ms(1_001)
    await desk.tables.write(lambda tx: reserve(tx, payer(), spend_of(), zone))


async def test_windows_of_two_zones_hold_and_end_the_same(desk: Desk) -> None:
    """At 09:00 UTC both the day of UTC and that of Los Angeles are under way."""
    utc, there = Ledger(desk.tables), Ledger(desk.tables, ZoneInfo("America/Los_Angeles"))
    await utc.limit(micro_usd=75_000)
    first = await utc.hold()
    desk.clock.pass_ms(HOUR_MS)
    second = await there.hold()
    await refused(desk)
    assert [f for f in await desk.tables.read(audit_costs) if f.check == "windows"] == []
    await there.settle(second, 30_000)
    await there.settle(first, 20_000)
    await hold(desk, spend=spend_of(micro_usd=25_000))
    await refused(desk, spend=spend_of(micro_usd=1))
    assert [f for f in await desk.tables.read(audit_costs) if f.check == "windows"] == []


async def test_windows_of_two_zones_that_begin_together_end_each_at_its_own_end(
    desk: Desk,
) -> None:
    """March ends in London, where summer has begun, an hour before it does in UTC."""
    london = Ledger(desk.tables, ZoneInfo("Europe/London"))
    utc = Ledger(desk.tables)
    desk.clock.now_ms = unix_ms(datetime(2027, 3, 31, 22, 30, tzinfo=UTC))
    await london.limit(period=Period.MONTH, micro_usd=75_000)
    first = await london.hold()
    desk.clock.pass_ms(HOUR_MS)
    second = await utc.hold()
    await refused(desk)
    await utc.settle(first, 20_000)
    await utc.settle(second, 30_000)
    assert await window(desk, "deployment/month") == (0, 50_000, 0, 0)
    await hold(desk, spend=spend_of(micro_usd=25_000))
    await refused(desk, spend=spend_of(micro_usd=1))
    assert [f for f in await desk.tables.read(audit_costs) if f.check == "windows"] == []
