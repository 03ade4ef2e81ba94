"""The alerts fold: each alert is kept, said and counted once, in words with figures."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from schemas.alert_events import BudgetThresholdCrossed, SpendRateUnusual
from schemas.cost_events import CostReserved
from schemas.events import Alert, Event
from schemas.topics import USAGE_ALERTS
from streams.alert_text import text_of
from streams.alerts import Alerts
from streams.bus.base import Partition
from streams.dead_letters import DeadLetterLimit
from streams.fold import FoldGround
from streams.tables.base import Row
from tests.harness import NOW, Desk, event_of, open_memory_desk, record_of

DAY = datetime(2027, 1, 15, tzinfo=UTC)
RAISED_MS = 1_800_000_000_000
CAVEAT = " For a while after a crash of the usage windows, this may be more than the ledger says."

EIGHTY = BudgetThresholdCrossed(
    budget="acme-day",
    tenant="acme",
    percent=80,
    measure="micro_usd",
    used=83_500_000,
    limit=100_000_000,
    window_start=DAY,
    window_end=DAY + timedelta(days=1),
)
PAGES = replace(
    EIGHTY, budget="all-month", tenant="", percent=50, measure="pages", used=10_001, limit=20_000
)
REQUESTS = replace(EIGHTY, percent=100, measure="requests", used=60, limit=60)
UNUSUAL = SpendRateUnusual("acme", "llamaparse", DAY, 12_500_000, 2_003_750)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


async def fold(
    desk: Desk, events: Sequence[Event], *, send: bool = True, cluster: str = "one"
) -> None:
    """Give a fold these events, behind those that the cluster gave before."""
    limit = DeadLetterLimit("alerts", "1", desk.tables, desk.recorder)
    ground = FoldGround(
        Alerts(desk.recorder, send=send), desk.tables, cluster, limit, desk.recorder
    )
    partition = Partition(USAGE_ALERTS.name, 0)
    first = (await ground.positions(frozenset({partition})))[partition] or 0
    records = [record_of(event, partition.topic, first + n) for n, event in enumerate(events)]
    await ground.handle({partition: records})


async def kept(desk: Desk) -> list[Row]:
    return sorted(await desk.rows("alerts.latest", most=99), key=lambda row: str(row["id"]))


def raised(desk: Desk, kind: str) -> float | None:
    labels = {"type": kind, "outcome": "raised"}
    return desk.recorder.registry.get_sample_value("parsewire_alerts_total", labels)


SAYS = {
    EIGHTY: "The budget acme-day of tenant acme has reached 80 %: $83.50 of $100.00 are spent or "
    "held, from 2027-01-15 00:00 UTC to 2027-01-16 00:00 UTC.",
    PAGES: "The budget all-month has reached 50 %: 10,001 of 20,000 pages are spent or held, from "
    "2027-01-15 00:00 UTC to 2027-01-16 00:00 UTC.",
    REQUESTS: "The budget acme-day of tenant acme has reached 100 %: 60 of 60 requests are spent "
    "or held, from 2027-01-15 00:00 UTC to 2027-01-16 00:00 UTC.",
    UNUSUAL: "Tenant acme spends unusually much at llamaparse: $12.50 in the hour from 2027-01-15 "
    "00:00 UTC, where its hours before had $2.00375 on average.",
}


@pytest.mark.parametrize(("alert", "says"), SAYS.items())
def test_what_each_alert_says(alert: Alert, says: str) -> None:
    assert text_of(alert) == says + CAVEAT


def test_a_window_of_another_zone_says_so() -> None:
    start = datetime(2027, 1, 15, tzinfo=timezone(timedelta(hours=1)))
    said = text_of(replace(UNUSUAL, window_start=start))
    assert "the hour from 2027-01-15 00:00 UTC+01:00, where" in said


async def test_a_row_holds_what_the_webhook_is_sent(desk: Desk) -> None:
    await fold(desk, [event_of(EIGHTY, "a1")])
    (row,) = await kept(desk)
    assert (row["id"], row["type"], row["tenant"]) == ("a1", "BudgetThresholdCrossed", "acme")
    assert (row["raised_ms"], row["next_try_ms"], row["tries"]) == (RAISED_MS, NOW, 0)
    assert (row["delivered_ms"], row["last_error"]) == (None, None)
    assert orjson.loads(row["body"]) == {
        "type": "BudgetThresholdCrossed",
        "id": "a1",
        "raised_at": "2027-01-15T08:00:00+00:00",
        "text": SAYS[EIGHTY] + CAVEAT,
        "data": {
            "budget": "acme-day",
            "tenant": "acme",
            "percent": 80,
            "measure": "micro_usd",
            "used": 83_500_000,
            "limit": 100_000_000,
            "window_start": "2027-01-15T00:00:00+00:00",
            "window_end": "2027-01-16T00:00:00+00:00",
        },
    }


async def test_without_a_webhook_nothing_is_due(desk: Desk) -> None:
    await fold(desk, [event_of(UNUSUAL, "a1")], send=False)
    assert [(row["id"], row["next_try_ms"]) for row in await kept(desk)] == [("a1", None)]
    assert await desk.rows("alerts.due", most=9) == []


async def test_doubled_and_reordered_alerts_are_kept_said_and_counted_once(desk: Desk) -> None:
    first, second, third = event_of(EIGHTY, "a1"), event_of(UNUSUAL, "a2"), event_of(PAGES, "a3")
    with capture_logs() as logs:
        await fold(desk, [second, first, second])
        await fold(desk, [first, third, second, third])
        await fold(desk, [third, second, first], cluster="another")
    assert [row["id"] for row in await kept(desk)] == ["a1", "a2", "a3"]
    said = [line for line in logs if line["event"] == "alert_raised"]
    assert [line["alert"] for line in said] == ["a2", "a1", "a3"]
    assert said[1] == {
        "event": "alert_raised",
        "log_level": "warning",
        "alert": "a1",
        "type": "BudgetThresholdCrossed",
        "tenant": "acme",
        "text": SAYS[EIGHTY] + CAVEAT,
    }
    assert raised(desk, "BudgetThresholdCrossed") == 2
    assert raised(desk, "SpendRateUnusual") == 1


async def test_a_delivered_alert_is_not_due_again_when_it_comes_again(desk: Desk) -> None:
    await fold(desk, [event_of(EIGHTY, "a1")])
    await desk.tables.write(lambda tx: tx.run("alerts.deliver", id="a1"))
    await fold(desk, [event_of(EIGHTY, "a1")], cluster="another")
    assert await desk.rows("alerts.due", most=9) == []


@pytest.mark.parametrize("event_id", ["a\r\nx-forged: 1", "a b", "ä", "a" * 201])
async def test_an_id_that_is_no_header_is_a_dead_letter(desk: Desk, event_id: str) -> None:
    with capture_logs() as logs:
        await fold(desk, [event_of(EIGHTY, "a1"), event_of(EIGHTY, event_id)])
    assert [row["id"] for row in await kept(desk)] == ["a1"]
    assert [line["alert"] for line in logs if line["event"] == "alert_raised"] == ["a1"]
    assert [row["letters"] for row in await desk.rows("positions.letter_counts")] == [1]


async def test_an_event_of_another_topic_is_a_dead_letter(desk: Desk) -> None:
    cost = CostReserved("j1", "acme", 1, "llamaparse", None, DAY, 1, 1)
    await fold(desk, [event_of(cost), event_of(UNUSUAL, "a1")])
    assert [row["id"] for row in await kept(desk)] == ["a1"]
    assert [row["letters"] for row in await desk.rows("positions.letter_counts")] == [1]
