"""Money's gauges: what the tables hold, and nothing of what is gone."""

from collections.abc import AsyncIterator
from datetime import UTC

import pytest_asyncio

from schemas.money import Policy, Scope
from schemas.periods import Period
from streams.budgets import Whose, freeze, remove_budget
from streams.cost_gauges import CostGauges
from tests.harness import Desk, open_memory_desk
from tests.ledger_desk import Ledger

DAY_MS = 24 * 3_600_000


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as desk:
        yield desk


def shown(desk: Desk, name: str, **labels: str) -> float | None:
    return desk.recorder.registry.get_sample_value(f"parsewire_{name}", labels)


async def test_money_is_shown_by_service(desk: Desk) -> None:
    ledger, gauges = Ledger(desk.tables), CostGauges(desk.tables, desk.recorder, UTC)
    await gauges.show()
    assert shown(desk, "spending_frozen") == 0
    assert shown(desk, "spent_usd", service="llamaparse") is None
    await ledger.settle(await ledger.hold(), 30_000)
    await ledger.settle(await ledger.hold(), 60_000)
    open_one = await ledger.hold()
    await gauges.show()
    assert shown(desk, "spent_usd", service="llamaparse") == 0.09
    assert shown(desk, "reserved_usd", service="llamaparse") == 0.0375
    # 90,000 were billed where 75,000 were held.
    error = shown(desk, "estimate_error_ratio", service="llamaparse")
    assert error is not None
    assert round(error, 9) == 0.2
    await ledger.release(open_one)
    desk.clock.pass_ms(31 * DAY_MS)
    await gauges.show()
    assert shown(desk, "spent_usd", service="llamaparse") == 0.09
    assert shown(desk, "reserved_usd", service="llamaparse") == 0
    assert shown(desk, "estimate_error_ratio", service="llamaparse") is None


async def test_each_budget_shows_what_is_left_and_what_it_comes_to(desk: Desk) -> None:
    ledger, gauges = Ledger(desk.tables), CostGauges(desk.tables, desk.recorder, UTC)
    await ledger.limit(Scope.TENANT, "acme", micro_usd=150_000, pages=80, requests=1, hard=False)
    await ledger.limit(period=Period.HOUR, micro_usd=0, hard=False)
    await ledger.settle(await ledger.hold(), 37_500)
    await ledger.hold()
    await gauges.show()
    acme = "tenant:acme/day"
    assert shown(desk, "budget_left_ratio", budget=acme, measure="micro_usd") == 0.5
    assert shown(desk, "budget_left_ratio", budget=acme, measure="pages") == 0.75
    assert shown(desk, "budget_left_ratio", budget=acme, measure="requests") == -1.0
    # Sixteen hours are left at 37,500 an hour.
    assert shown(desk, "budget_forecast_ratio", budget=acme) == 4.25
    hourly = "deployment/hour"
    assert shown(desk, "budget_left_ratio", budget=hourly, measure="micro_usd") == 0
    assert shown(desk, "budget_forecast_ratio", budget=hourly) is None


async def test_a_removed_budget_is_shown_no_more(desk: Desk) -> None:
    ledger, gauges = Ledger(desk.tables), CostGauges(desk.tables, desk.recorder, UTC)
    await ledger.limit()
    await gauges.show()
    day = {"budget": "deployment/day", "measure": "micro_usd"}
    assert shown(desk, "budget_left_ratio", **day) == 1
    whose = Whose(Scope.DEPLOYMENT, "", Period.DAY)
    await desk.tables.write(lambda tx: remove_budget(tx, whose, "ann@host"))
    await gauges.show()
    assert shown(desk, "budget_left_ratio", **day) is None
    await ledger.limit()
    await gauges.show()
    assert shown(desk, "budget_left_ratio", **day) == 1


async def test_the_emergency_stop_is_shown(desk: Desk) -> None:
    await desk.tables.write(lambda tx: freeze(tx, Policy.WAIT, "ann@host"))
    await CostGauges(desk.tables, desk.recorder, UTC).show()
    assert shown(desk, "spending_frozen") == 1
