"""Races for money: no order of holds, bills and budgets puts a micro-dollar over a hard limit."""

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import UTC
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.events import CostInput, Event
from schemas.money import Policy, Scope
from schemas.periods import Period
from streams.billing import release
from streams.budgets import Budget, Limits, Whose, remove_budget, set_budget
from streams.cost_audit import audit_costs
from streams.costs import Costs
from streams.reservations import BudgetSpentError, Payer, reserve, standing
from streams.tables.base import Transaction
from tests.harness import decode_row, open_desk
from tests.money_desk import BILLING, spend_of
from tests.money_model import UNMETERED, Book, Held, Line

T = TypeVar("T")

TENANTS = ("acme", "other")
SERVICES = ("llamaparse", "callback")
PLACES = (
    Whose(Scope.DEPLOYMENT, "", Period.DAY),
    Whose(Scope.TENANT, "acme", Period.HOUR),
    Whose(Scope.TENANT, "acme", Period.MONTH),
    Whose(Scope.TENANT, "other", Period.DAY),
    Whose(Scope.SERVICE, "llamaparse", Period.MONTH),
)
LIMITS = st.builds(
    Limits,
    micro_usd=st.one_of(st.none(), st.integers(0, 150_000)),
    pages=st.one_of(st.none(), st.integers(0, 9)),
    requests=st.one_of(st.none(), st.integers(0, 6)),
).filter(lambda limits: limits != Limits())
TIMES_MS = (1, 60_000, 3_600_000 - 1, 3_600_000, 86_400_000, 31 * 86_400_000)

ALL_THAT_IS_LEFT, ONE_MORE = -2, -1
SOME_MICRO_USD = st.one_of(st.integers(0, 45_000), st.sampled_from((ALL_THAT_IS_LEFT, ONE_MORE)))

BILLS = st.one_of(
    st.tuples(st.just("billed"), st.integers(0, 40)),
    st.tuples(st.sampled_from(("unbilled", "never_told")), st.none()),
)


class MoneyRaces(RuleBasedStateMachine):
    """Attempts of two tenants at two services; what is said of money is read late, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.book = Book()
        self.jobs: dict[str, str] = {}
        self.said: dict[str, tuple[Event, Line]] = {}
        self.unread: list[str] = []

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def write(self, unit: Any) -> Any:
        return self.run(self.desk.tables.write(unit))

    @initialize()
    def begin(self) -> None:
        async def opened() -> None:
            folder = self.stack.enter_context(tempfile.TemporaryDirectory())
            self.desk = await self.stack.enter_async_context(open_desk(Path(folder)))
            for number, tenant in enumerate(TENANTS, 1):
                self.jobs[tenant] = (await self.desk.upload(number, tenant=tenant)).job.id
            self.desk.announced.clear()

        self.run(opened())

    def note(self, *lines: Line) -> None:
        """Take what was announced: an event for each line, which must do what that says."""
        events = [decode_row(row) for row in self.desk.announced]
        self.desk.announced.clear()
        fresh = [event for event in events if event.id not in self.said]
        assert len(fresh) == len(lines), (fresh, lines)
        for event, line in zip(fresh, lines, strict=True):
            assert isinstance(event.body, CostInput)
            self.said[event.id] = event, line
            self.unread.append(event.id)

    @rule(
        tenant=st.sampled_from(TENANTS),
        service=st.sampled_from(SERVICES),
        spends=st.lists(st.tuples(st.integers(0, 4), SOME_MICRO_USD), min_size=1, max_size=7),
    )
    def hold(self, tenant: str, service: str, spends: list[tuple[int, int]]) -> None:
        """Hold money for new attempts: all budgets have it, or nothing is held."""
        for pages, micro_usd in spends:
            self.hold_one(tenant, service, pages, micro_usd)

    def hold_one(self, tenant: str, service: str, pages: int, micro_usd: int) -> None:
        at_ms, attempt = self.desk.clock.now_ms, len(self.book.holds) + 1
        rows = self.run(self.desk.tables.read(lambda tx: standing(tx, UTC, tenant, service)))
        if micro_usd < 0:
            micro_usd = self.book.left(rows) + (micro_usd == ONE_MORE)
        held = Held(self.jobs[tenant], attempt, tenant, service, at_ms, pages, micro_usd)
        fits = not any(self.book.lacks(row, held.amounts()) for row in rows)
        assert self.reserve(held) == fits, (held, rows)
        if fits:
            self.book.holds.append(held)
        self.note(*[Line(held)] * fits)

    def reserve(self, held: Held) -> bool:
        payer = Payer(held.job_id, held.tenant, held.attempt, None)
        spend = spend_of(held.service, pages=held.pages, micro_usd=held.micro_usd)
        try:
            self.write(lambda tx: reserve(tx, payer, spend, UTC))
        except BudgetSpentError:
            return False
        return True

    def any_held(self, data: st.DataObject) -> Held:
        return data.draw(st.sampled_from(self.book.holds))

    @precondition(lambda self: self.book.holds)
    @rule(data=st.data())
    def hold_again(self, data: st.DataObject) -> None:
        """Hold for an attempt that holds already: it is so, whatever the budgets have."""
        assert self.reserve(self.any_held(data))
        self.note()

    @precondition(lambda self: self.book.holds)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        self.release(self.any_held(data))

    def release(self, held: Held) -> None:
        first = held.open and not held.given_back
        held.given_back |= held.open
        self.write(lambda tx: release(tx, held.job_id, held.attempt, "test"))
        self.note(*[Line(held, ends=True)] * first)

    @precondition(lambda self: self.book.holds)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """Let the estimate count, as long as no job elsewhere is known."""
        held = self.any_held(data)
        if held.outcome is None:
            self.write(lambda tx: BILLING.give_up(tx, held.job_id, held.attempt))
            self.note(*self.book.give_up(held))

    @precondition(lambda self: self.book.holds)
    @rule(data=st.data(), bill=BILLS)
    def bill(self, data: st.DataObject, bill: tuple[str, int | None]) -> None:
        """Settle the job elsewhere, or bill it otherwise than before."""
        held, (outcome, credits_billed) = self.any_held(data), bill
        if held.service in UNMETERED and outcome != "never_told":
            outcome, credits_billed = "billed", 0
        named = {"parser": held.service, "vendor_job_id": held.vendor_job_id}

        async def unit(tx: Transaction) -> None:
            await tx.run("vendor.book", job_id=held.job_id, attempt=held.attempt, **named)
            await BILLING.settle(tx, **named, outcome=outcome, credits_billed=credits_billed)

        self.write(unit)
        self.note(*self.book.settle(held, outcome, credits_billed))

    @precondition(lambda self: self.unread)
    @rule(data=st.data(), most=st.integers(1, 8))
    def read_some(self, data: st.DataObject, most: int) -> None:
        """Read what was said of money: in any order, some of it twice or long after."""
        ids = data.draw(st.lists(st.sampled_from(list(self.said)), min_size=1, max_size=most))
        self.read([*ids, data.draw(st.sampled_from(self.unread))])

    def read(self, ids: list[str]) -> None:
        events = [self.said[event_id][0] for event_id in ids]
        self.write(lambda tx: Costs(UTC).apply(tx, events))
        for event_id in ids:
            if event_id in self.unread:
                self.unread.remove(event_id)
                self.book.read(self.said[event_id][1])

    @rule(whose=st.sampled_from(PLACES), limits=LIMITS, hard=st.integers(0, 3))
    def change_budget(self, whose: Whose, limits: Limits, hard: int) -> None:
        """Set a budget, mostly a hard one, over what has been spent too."""
        budget = Budget(whose, limits, hard=hard > 0, policy=Policy.WAIT)
        self.write(lambda tx: set_budget(tx, budget, "test", UTC))

    @rule(whose=st.sampled_from(PLACES))
    def drop_budget(self, whose: Whose) -> None:
        self.write(lambda tx: remove_budget(tx, whose, "test"))

    @rule(milliseconds=st.sampled_from(TIMES_MS))
    def wait(self, milliseconds: int) -> None:
        self.desk.clock.pass_ms(milliseconds)

    @invariant()
    def windows_are_the_books(self) -> None:
        if self.jobs:
            self.run(self.desk.tables.read(self.check))

    async def check(self, tx: Transaction) -> None:
        connection: Any = tx
        opened = connection._connection.execute(
            "SELECT windows.* FROM budget_windows AS windows JOIN budgets ON id = budget_id"
        )
        names = [column[0] for column in opened.description]
        windows = [dict(zip(names, row, strict=True)) for row in opened]
        for row in [*windows, *await standing(tx, UTC)]:
            must_be = self.book.window(row)
            assert {name: row[name] for name in must_be} == must_be, row
        found = await audit_costs(tx)
        # No attempt is behind these holds: only the machine's end gives all of them back.
        assert [finding for finding in found if finding.check != "left"] == []

    def teardown(self) -> None:
        try:
            self.close_the_books()
        finally:
            self.run(self.stack.aclose())
            self.runner.close()

    def close_the_books(self) -> None:
        """Give everything back, and let all that was said be read, twice."""
        for held in self.book.holds:
            self.release(held)
        if self.said:
            self.read([*self.said, *reversed(self.said)])
        assert not any(held.open for held in self.book.holds)
        self.desk.clock.pass_ms(1)
        found = self.run(self.desk.tables.read(lambda tx: audit_costs(tx, grace_ms=0)))
        assert found == []
        self.windows_are_the_books()


TestMoneyRaces = MoneyRaces.TestCase
TestMoneyRaces.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
