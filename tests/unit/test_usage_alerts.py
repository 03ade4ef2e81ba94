"""Usage alerts: thresholds and unusual hours, each once, under ids that follow from them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.alert_events import BudgetThresholdCrossed, SpendRateUnusual
from schemas.codec import decode
from schemas.errors import Code, TransientError
from schemas.events import Alert
from schemas.periods import unix_ms
from streams.bus.base import Outgoing
from streams.tables.base import Row, Tables
from streams.usage import Place, Usage
from streams.usage_alarm import UsageAlarm
from streams.usage_alerts import raised
from tests.cost_stories import Payer

NOON = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)
HOUR = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = datetime(2026, 11, 24, tzinfo=UTC)
NEXT_DAY = DAY + timedelta(days=1)
DOLLAR = 1_000_000


class Counter:
    """Counts cost events one after the other."""

    def __init__(self) -> None:
        self.usage = Usage(UTC, lambda: unix_ms(NOON))
        self._offset = 0

    def spend(self, micro_usd: int, at: datetime = NOON, **payer: Any) -> None:
        self._offset += 1
        event = Payer(f"job-{self._offset}", at, **payer).settled(micro_usd, pages=2)
        self.usage.apply(event, Place("costs.events", 0, self._offset))

    def hold(self, micro_usd: int) -> None:
        self._offset += 1
        event = Payer(f"job-{self._offset}", NOON).reserved(micro_usd, pages=2)
        self.usage.apply(event, Place("costs.events", 0, self._offset))

    def alerts(self, *budgets: Row) -> list[Alert]:
        """Give what is raised, and note that it was said."""
        found = raised(self.usage, list(budgets))
        for one in found:
            self.usage.note_said(one.event.id, one.until_ms)
        bodies = [one.event.body for one in found]
        return [b for b in bodies if isinstance(b, BudgetThresholdCrossed | SpendRateUnusual)]


def budget(start: datetime = DAY, **changes: Any) -> Mapping[str, Any]:
    row: dict[str, Any] = {"id": "all", "scope": "deployment", "subject": "", "period": "day"}
    for measure in ("micro_usd", "pages", "requests"):
        row |= {f"limit_{measure}": None, f"spent_{measure}": 0, f"reserved_{measure}": 0}
    return row | {"start_ms": unix_ms(start)} | changes


def crossed(percent: int, used: int, limit: int, measure: Any = "micro_usd") -> Alert:
    return BudgetThresholdCrossed("all", "", percent, measure, used, limit, DAY, NEXT_DAY)


def test_each_threshold_is_said_once() -> None:
    counter, limited = Counter(), budget(limit_micro_usd=100)
    counter.spend(49)
    assert counter.alerts(limited) == []
    counter.hold(1)
    assert counter.alerts(limited) == [crossed(50, 50, 100)]
    assert counter.alerts(limited) == []
    counter.spend(60)
    assert counter.alerts(limited) == [crossed(80, 110, 100), crossed(100, 110, 100)]
    assert counter.alerts(limited) == []


def test_another_limit_has_thresholds_of_its_own() -> None:
    counter = Counter()
    counter.spend(100)
    assert len(counter.alerts(budget(limit_micro_usd=100))) == 3
    assert counter.alerts(budget(limit_micro_usd=400)) == []
    counter.spend(100)
    assert counter.alerts(budget(limit_micro_usd=400)) == [crossed(50, 200, 400)]
    counter.spend(120)
    assert counter.alerts(budget(limit_micro_usd=400)) == [crossed(80, 320, 400)]
    assert counter.alerts(budget(limit_micro_usd=100)) == []


def test_pages_and_requests_have_thresholds_too() -> None:
    counter = Counter()
    counter.spend(1)
    counter.spend(1)
    found = counter.alerts(budget(limit_pages=8, limit_requests=4))
    assert found == [crossed(50, 4, 8, "pages"), crossed(50, 2, 4, "requests")]


def test_a_limit_of_nothing_is_passed_by_anything() -> None:
    counter, limited = Counter(), budget(limit_micro_usd=0)
    assert counter.alerts(limited) == []
    counter.spend(1)
    assert [
        a.percent for a in counter.alerts(limited) if isinstance(a, BudgetThresholdCrossed)
    ] == [*(50, 80, 100)]


def test_a_tenants_budget_counts_its_own_and_names_it() -> None:
    counter = Counter()
    limited = budget(id="acme", scope="tenant", subject="acme", limit_micro_usd=100)
    counter.spend(90, tenant="other")
    assert counter.alerts(limited) == []
    counter.spend(50)
    (alert,) = counter.alerts(limited)
    assert (alert.tenant, alert.percent) == ("acme", 50)  # type: ignore[union-attr]  # asserted


def test_a_services_budget_counts_that_service() -> None:
    counter = Counter()
    limited = budget(id="s", scope="service", subject="callback", limit_micro_usd=100)
    counter.spend(90)
    assert counter.alerts(limited) == []
    counter.spend(60, service="callback")
    assert len(counter.alerts(limited)) == 1


def test_an_hours_budget_counts_its_hour_and_a_months_its_days() -> None:
    counter = Counter()
    counter.spend(90, NOON - timedelta(hours=1))
    counter.spend(30, NOON - timedelta(days=3))
    assert counter.alerts(budget(HOUR, period="hour", limit_micro_usd=100)) == []
    (alert,) = counter.alerts(
        budget(datetime(2026, 11, 1, tzinfo=UTC), period="month", limit_micro_usd=240)
    )
    assert isinstance(alert, BudgetThresholdCrossed)
    assert (alert.used, alert.window_start.day, alert.window_end.month) == (120, 1, 12)


def test_what_the_tables_know_counts_where_a_log_was_lost() -> None:
    counter = Counter()
    limited = budget(limit_micro_usd=100, spent_micro_usd=40, reserved_micro_usd=12)
    assert counter.alerts(limited) == [crossed(50, 52, 100)]
    # What was read of the window before says nothing of this one.
    stale = budget(DAY - timedelta(days=1), limit_micro_usd=100, spent_micro_usd=99)
    assert Counter().alerts(stale) == []


def hours_of(counter: Counter, hours: int, micro_usd: int) -> None:
    for back in range(1, hours + 1):
        counter.spend(micro_usd, NOON - timedelta(hours=back))


def test_an_hour_of_four_times_the_usual_is_unusual_once() -> None:
    counter = Counter()
    hours_of(counter, 6, DOLLAR // 2)
    counter.spend(2 * DOLLAR - 1)
    assert counter.alerts() == []
    counter.spend(1)
    unusual = SpendRateUnusual("acme", "llamaparse", HOUR, 2 * DOLLAR, DOLLAR // 2)
    assert counter.alerts() == [unusual]
    assert counter.alerts() == []


def test_nothing_is_unusual_without_a_history_or_below_a_dollar() -> None:
    short, small, idle = Counter(), Counter(), Counter()
    hours_of(idle, 5, DOLLAR // 2)
    idle.spend(0, NOON - timedelta(hours=6))
    idle.spend(50 * DOLLAR)
    assert idle.alerts() == []
    hours_of(short, 5, DOLLAR // 2)
    short.spend(50 * DOLLAR)
    hours_of(small, 6, 10)
    small.spend(DOLLAR - 1)
    assert short.alerts() == small.alerts() == []


class ToldTables:
    """Gives the budgets that it was told, whatever is asked."""

    def __init__(self, *budgets: Row) -> None:
        self.budgets = list(budgets)

    async def read(self, _unit: Any) -> list[Row]:
        return self.budgets


class Sent:
    """Takes records, or is away."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.away = False

    async def send(self, record: Outgoing) -> None:
        if self.away:
            raise TransientError(Code.BUS_UNAVAILABLE, "away")
        self.records.append(record)


async def test_the_alarm_sends_first_and_remembers_afterwards() -> None:
    counter, sent = Counter(), Sent()
    counter.spend(60)
    kept: list[int] = []

    async def keep() -> None:
        kept.append(len(counter.usage.take_changes()))

    told: Any = ToldTables(budget(limit_micro_usd=100))
    tables: Tables = told
    alarm = UsageAlarm(counter.usage, tables, sent, keep)
    sent.away = True
    try:
        await alarm.look()
    except TransientError:
        sent.away = False
    await alarm.look()
    await alarm.look()
    (record,) = sent.records
    assert (record.topic, record.key) == ("usage.alerts", b"")
    assert decode(record.value, record.headers).body == crossed(50, 60, 100)
    # Three windows, an attempt, and the mark of the alert.
    assert kept == [5]
