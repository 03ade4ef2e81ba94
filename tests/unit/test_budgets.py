"""Budgets: what may be set, what is noted of it, and whom it wakes."""

from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

import orjson
import pytest
import pytest_asyncio

from schemas.errors import Code, PermanentError
from schemas.events import ParseDeferred
from schemas.money import Policy, Scope
from schemas.periods import Period
from streams.budget_standing import read_standings
from streams.budgets import (
    Budget,
    Limits,
    Whose,
    freeze,
    read_frozen,
    read_whose,
    remove_budget,
    set_budget,
    unfreeze,
)
from streams.reservations import standing
from streams.settings import Defaults, read_effective
from streams.tables.queries import load_statements
from tests.harness import NOW, Desk, claim, fold_events, open_memory_desk
from tests.ledger_desk import Ledger

SERVICES = ("llamaparse", "callback")
DAY = Whose(Scope.DEPLOYMENT, "", Period.DAY)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as desk:
        yield desk


async def give(desk: Desk, whose: Whose = DAY, **limits: Any) -> bool:
    """Set a budget, and tell whether that changed it."""
    hard, policy = limits.pop("hard", True), limits.pop("policy", Policy.WAIT)
    budget = Budget(whose, Limits(**limits), hard, policy)
    return await desk.tables.write(lambda tx: set_budget(tx, budget, "ann@host", UTC))


async def noted(desk: Desk) -> list[tuple[str, Any, Any, str]]:
    rows = await desk.rows("limits.changes", most=100)
    return [
        (
            row["name"],
            row["from_value"] and orjson.loads(row["from_value"]),
            row["to_value"] and orjson.loads(row["to_value"]),
            row["who"],
        )
        for row in reversed(rows)
    ]


async def wait_for_money(desk: Desk, code: str = "budget_spent", number: int = 1) -> str:
    """Put in a job that waits for an hour."""
    job = (await desk.upload(number)).job
    until = NOW + 3_600_000
    await fold_events(desk, ParseDeferred(job.id, job.tenant, 1, code, 3_600.0))
    assert await due(desk, job.id) == until
    return job.id


async def due(desk: Desk, job_id: str) -> int:
    (row,) = await desk.rows("costs.steps", job_ids=orjson.dumps([job_id]).decode())
    return int(row["due_ms"])


@pytest.mark.parametrize(
    ("whose", "period", "name"),
    [
        ("deployment", "day", "deployment/day"),
        ("tenant:acme", "month", "tenant:acme/month"),
        ("service:llamaparse", "hour", "service:llamaparse/hour"),
    ],
)
def test_a_budget_is_named_by_whose_it_is(whose: str, period: str, name: str) -> None:
    assert read_whose(whose, period, SERVICES).id == name


@pytest.mark.parametrize(
    ("whose", "period", "says"),
    [
        ("deployment", "week", "no period 'week'; there are: hour, day, month"),
        ("deployment:x", "day", "`deployment`, `tenant:NAME` or `service:NAME`"),
        ("tenant", "day", "`deployment`, `tenant:NAME` or `service:NAME`"),
        ("other:x", "day", "`deployment`, `tenant:NAME` or `service:NAME`"),
        ("tenant:", "day", "cannot name a tenant"),
        ("tenant:Acme", "day", "'Acme' cannot name a tenant"),
        ("service:liteparse", "day", "those that can: callback, llamaparse"),
    ],
)
def test_what_cannot_be_limited_is_refused(whose: str, period: str, says: str) -> None:
    with pytest.raises(PermanentError, match=says) as caught:
        read_whose(whose, period, SERVICES)
    assert caught.value.code is Code.INVALID_REQUEST


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({}, "dollars, pages or requests: give at least one"),
        ({"micro_usd": -1}, "a limit of micro_usd is a whole number from 0"),
        ({"pages": 10**12 + 1}, "a limit of pages is a whole number from 0 to 1000000000000"),
        ({"requests": -5}, "a limit of requests is a whole number from 0"),
    ],
)
async def test_limits_that_cannot_be_are_refused(
    desk: Desk, limits: dict[str, Any], says: str
) -> None:
    with pytest.raises(PermanentError, match=says):
        await give(desk, **limits)
    assert await noted(desk) == []


async def test_every_change_is_noted_with_who_made_it(desk: Desk) -> None:
    assert await give(desk, micro_usd=5_000_000)
    assert not await give(desk, micro_usd=5_000_000)
    assert await give(desk, pages=100, hard=False, policy=Policy.LOCAL)
    assert await desk.tables.write(lambda tx: remove_budget(tx, DAY, "bob@host"))
    assert not await desk.tables.write(lambda tx: remove_budget(tx, DAY, "bob@host"))
    first = {"limit_micro_usd": 5_000_000, "hard": 1, "policy": "wait"}
    second = {"limit_pages": 100, "hard": 0, "policy": "local"}
    name = "budgets.deployment/day"
    assert await noted(desk) == [
        (name, None, first, "ann@host"),
        (name, first, second, "ann@host"),
        (name, second, None, "bob@host"),
    ]
    assert await desk.tables.read(lambda tx: read_standings(tx, UTC)) == []


@pytest.mark.parametrize(
    ("changes", "wakes"),
    [
        ({"micro_usd": 6_000_000}, True),
        ({"micro_usd": 4_000_000}, False),
        ({"micro_usd": 5_000_000, "pages": 10}, False),
        ({"pages": 10}, True),
        ({"micro_usd": 5_000_000, "hard": False}, True),
        ({"micro_usd": 5_000_000, "policy": Policy.LOCAL}, True),
    ],
)
async def test_whom_a_change_may_serve_is_woken(
    desk: Desk, changes: dict[str, Any], wakes: bool
) -> None:
    await give(desk, micro_usd=5_000_000)
    job_id = await wait_for_money(desk)
    other = await wait_for_money(desk, "circuit_open", number=2)
    await give(desk, **changes)
    assert (await due(desk, job_id) == NOW) is wakes
    assert await due(desk, other) == NOW + 3_600_000


@pytest.mark.parametrize("change", ["raise", "remove", "unfreeze"])
async def test_a_change_while_a_wait_is_on_its_way_wakes_too(desk: Desk, change: str) -> None:
    await give(desk, micro_usd=5_000_000)
    await desk.tables.write(lambda tx: freeze(tx, Policy.WAIT, "ann@host"))
    desk.clock.pass_ms(1_000)
    job = (await desk.upload()).job
    await claim(desk, job)
    desk.clock.pass_ms(1_000)
    if change == "raise":
        await give(desk, micro_usd=6_000_000)
    elif change == "remove":
        await desk.tables.write(lambda tx: remove_budget(tx, DAY, "ann@host"))
    else:
        await desk.tables.write(lambda tx: unfreeze(tx, "ann@host"))
    desk.clock.pass_ms(1_000)
    code = "spending_frozen" if change == "unfreeze" else "budget_spent"
    await fold_events(desk, ParseDeferred(job.id, job.tenant, 1, code, 3_600.0))
    assert await due(desk, job.id) == NOW + 3_000


async def test_a_wait_that_knew_of_the_change_goes_on(desk: Desk) -> None:
    await give(desk, micro_usd=5_000_000)
    desk.clock.pass_ms(1_000)
    job = (await desk.upload()).job
    await claim(desk, job)
    await fold_events(desk, ParseDeferred(job.id, job.tenant, 1, "budget_spent", 3_600.0))
    assert await due(desk, job.id) == NOW + 3_601_000
    other = (await desk.upload(2)).job
    await claim(desk, other)
    await give(desk, micro_usd=6_000_000)
    await fold_events(desk, ParseDeferred(other.id, other.tenant, 1, "circuit_open", 30.0))
    assert await due(desk, other.id) == NOW + 31_000


async def test_a_budget_that_is_set_knows_what_was_spent_before(desk: Desk) -> None:
    """Every refusal would sum it up anew: what is refused opens no window."""
    ledger = Ledger(desk.tables)
    await ledger.settle(await ledger.hold(), 30_000)
    await ledger.hold()
    await give(desk, micro_usd=1)
    (row,) = await desk.tables.read(lambda tx: standing(tx, UTC))
    assert (row["opened"], row["spent_micro_usd"], row["reserved_micro_usd"]) == (1, 30_000, 37_500)


@pytest.mark.parametrize(
    ("scope", "index"),
    [
        ("deployment", "cost_ledger_by_moment (booked_ms>? AND booked_ms<?)"),
        ("tenant", "cost_ledger_by_tenant (tenant=? AND booked_ms>? AND booked_ms<?)"),
        ("service", "cost_ledger_by_service (service=? AND booked_ms>? AND booked_ms<?)"),
    ],
)
async def test_a_budget_is_summed_up_from_its_own_lines(desk: Desk, scope: str, index: str) -> None:
    """Else every look at an idle tenant's budget reads a month of everybody's lines."""
    statement = load_statements()[f"money.sums_of_{scope}"]
    values = statement.bind({"start_ms": NOW, "end_ms": NOW + 1, "subject": "acme"})
    rows = await desk.sql(f"EXPLAIN QUERY PLAN {statement.sql}", *values)
    steps = [str(row[3]) for row in rows]
    assert f"SEARCH cost_ledger USING INDEX {index}" in steps


async def test_a_removed_budget_wakes_and_takes_its_windows_with_it(desk: Desk) -> None:
    ledger = Ledger(desk.tables)
    budget = await ledger.limit(micro_usd=37_500)
    await ledger.hold()
    job_id = await wait_for_money(desk)
    await desk.tables.write(lambda tx: remove_budget(tx, DAY, "ann@host"))
    assert await due(desk, job_id) == NOW
    # Set again, it counts what was held before.
    assert await ledger.limit(micro_usd=50_000) == budget
    (found,) = await desk.tables.read(lambda tx: read_standings(tx, UTC))
    assert (found.held.micro_usd, found.left("micro_usd"), found.left("pages")) == (
        37_500,
        12_500,
        None,
    )


async def test_all_spending_is_stopped_and_let_go_on(desk: Desk) -> None:
    job_id = await wait_for_money(desk, "spending_frozen")
    assert await desk.tables.write(lambda tx: freeze(tx, Policy.WAIT, "ann@host"))
    assert not await desk.tables.write(lambda tx: freeze(tx, Policy.WAIT, "ann@host"))
    assert await desk.tables.read(read_frozen) is Policy.WAIT
    assert await due(desk, job_id) == NOW + 3_600_000
    assert await desk.tables.write(lambda tx: unfreeze(tx, "ann@host"))
    assert not await desk.tables.write(lambda tx: unfreeze(tx, "ann@host"))
    assert await desk.tables.read(read_frozen) is None
    assert await due(desk, job_id) == NOW
    rows = await desk.rows("limits.changes", most=10)
    assert [(row["name"], row["from_value"], row["to_value"]) for row in reversed(rows)] == [
        ("spending.frozen", None, "wait"),
        ("spending.frozen", "wait", None),
    ]


async def test_another_policy_of_the_stop_wakes(desk: Desk) -> None:
    await desk.tables.write(lambda tx: freeze(tx, Policy.WAIT, "ann@host"))
    job_id = await wait_for_money(desk, "spending_frozen")
    assert await due(desk, job_id) == NOW + 3_600_000
    await desk.tables.write(lambda tx: freeze(tx, Policy.LOCAL, "ann@host"))
    assert await due(desk, job_id) == NOW


async def test_the_stop_is_no_setting_that_is_refused(desk: Desk) -> None:
    await desk.tables.write(lambda tx: freeze(tx, Policy.LOCAL, "ann@host"))
    found = await desk.tables.read(lambda tx: read_effective(tx, Defaults()))
    assert (found.changed, found.ignored) == ((), ())
