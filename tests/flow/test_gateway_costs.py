"""Costs over real HTTP: reports on days, what holds now, whose money a key shows, CSV."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from schemas.events import ParseDeferred, RetryDue
from schemas.money import Scope
from schemas.periods import Period
from services.keys import Role, create_key
from tests.gateway_desk import GatewayDesk, open_gateway
from tests.harness import FakeClock
from tests.ledger_desk import Ledger

COSTS = "/api/v1/costs"
NOVEMBER = f"{COSTS}?since=2026-11-01&until=2026-11-30"
MORNING = datetime(2026, 11, 3, 9, tzinfo=UTC)
EVENING = datetime(2026, 11, 3, 23, 30, tzinfo=UTC)
NEXT_DAY = datetime(2026, 11, 4, 12, tzinfo=UTC)
JOBS = [f"019a4f00-0000-7000-8000-00000000000{number}" for number in range(5)]


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path, clock=FakeClock()) as opened:
        _, token = await create_key(opened.tables, "ops", "ops", Role.OPERATOR)
        opened.tokens["operator"] = token
        yield opened


async def spend(ledger: Ledger) -> None:
    """Let acme and globex spend on two days, at two tiers and services."""
    await ledger.spend(MORNING, 30_000, job_id=JOBS[1])
    await ledger.spend(EVENING, 1_250_000, tier="agentic", job_id=JOBS[2])
    await ledger.spend(NEXT_DAY, 5_000, tenant="globex", job_id=JOBS[3])
    await ledger.spend(NEXT_DAY, 0, tenant="globex", service="callback", tier=None, job_id=JOBS[4])


def names(body: Any) -> dict[str, tuple[int, int, int]]:
    """Give the micro-dollars, pages and requests of each line."""
    return {
        line["name"]: (line["spent_micro_usd"], line["spent_pages"], line["spent_requests"])
        for line in body["lines"]
    }


async def test_nobody_without_a_key(desk: GatewayDesk) -> None:
    for path in (COSTS, f"{COSTS}/forecast"):
        assert (await desk.get(path, tenant=None)).status == 401


async def test_a_report_by_day_for_its_tenant(desk: GatewayDesk) -> None:
    await spend(Ledger(desk.tables))
    found = await desk.get(f"{NOVEMBER}&by=day")
    assert found.status == 200
    assert found.json == {
        "by": "day",
        "since": "2026-11-01",
        "until": "2026-11-30",
        "time_zone": "UTC",
        "tenant": "acme",
        "lines": [
            {
                "name": "2026-11-03",
                "spent_micro_usd": 1_280_000,
                "spent_usd": "1.28",
                "spent_pages": 20,
                "spent_requests": 2,
                "estimated_micro_usd": 0,
                "estimated_usd": "0.00",
                "settled_micro_usd": 0,
                "settled_usd": "0.00",
            }
        ],
        "total": {"micro_usd": 1_280_000, "usd": "1.28", "pages": 20, "requests": 2},
        "next": None,
    }


@pytest.mark.parametrize(
    ("by", "lines"),
    [
        ("day", {"2026-11-03": (1_280_000, 20, 2), "2026-11-04": (5_000, 20, 2)}),
        ("service", {"callback": (0, 10, 1), "llamaparse": (1_285_000, 30, 3)}),
        ("tenant", {"acme": (1_280_000, 20, 2), "globex": (5_000, 20, 2)}),
        (
            "tier",
            {"": (0, 10, 1), "agentic": (1_250_000, 10, 1), "cost_effective": (35_000, 20, 2)},
        ),
        (
            "job",
            {
                JOBS[4]: (0, 10, 1),
                JOBS[3]: (5_000, 10, 1),
                JOBS[2]: (1_250_000, 10, 1),
                JOBS[1]: (30_000, 10, 1),
            },
        ),
    ],
)
async def test_an_operator_sees_everybodys(
    desk: GatewayDesk, by: str, lines: dict[str, tuple[int, int, int]]
) -> None:
    await spend(Ledger(desk.tables))
    body = (await desk.get(f"{NOVEMBER}&by={by}", tenant="operator")).json
    assert names(body) == lines
    assert list(names(body)) == list(lines)
    assert body["tenant"] is None
    total = None if by == "job" else body["total"]["micro_usd"]
    assert total == (None if by == "job" else 1_285_000)


async def test_an_operator_may_ask_for_one_tenant_and_a_tenant_for_no_other(
    desk: GatewayDesk,
) -> None:
    await spend(Ledger(desk.tables))
    body = (await desk.get(f"{NOVEMBER}&by=tenant&tenant=globex", tenant="operator")).json
    assert names(body) == {"globex": (5_000, 20, 2)}
    assert names((await desk.get(f"{NOVEMBER}&by=tenant&tenant=acme")).json) == {
        "acme": (1_280_000, 20, 2)
    }
    for path in (f"{NOVEMBER}&by=tenant", COSTS + "?", f"{COSTS}/forecast?"):
        refused = await desk.get(f"{path}&tenant=globex")
        assert (refused.status, refused.json["code"]) == (403, "forbidden")


async def test_days_are_those_of_the_deployments_zone(tmp_path: Path) -> None:
    zone = ZoneInfo("Europe/Berlin")
    async with open_gateway(tmp_path, zone=zone) as desk:
        ledger = Ledger(desk.tables, zone)
        await spend(ledger)
        # In Berlin the evening's bill is of the fourth.
        assert names((await desk.get(f"{NOVEMBER}&by=day")).json) == {
            "2026-11-03": (30_000, 10, 1),
            "2026-11-04": (1_250_000, 10, 1),
        }
        body = (await desk.get(f"{COSTS}?by=day&since=2026-11-04&until=2026-11-04")).json
        assert (body["total"]["usd"], body["time_zone"]) == ("1.25", "Europe/Berlin")


async def test_jobs_come_in_pages_the_newest_first(desk: GatewayDesk) -> None:
    await spend(Ledger(desk.tables))
    first = (await desk.get(f"{NOVEMBER}&by=job&limit=3", tenant="operator")).json
    assert [line["name"] for line in first["lines"]] == [JOBS[4], JOBS[3], JOBS[2]]
    second = (
        await desk.get(f"{NOVEMBER}&by=job&limit=3&before={first['next']}", tenant="operator")
    ).json
    assert [line["name"] for line in second["lines"]] == [JOBS[1]]
    assert second["next"] is None


async def test_a_report_as_csv(desk: GatewayDesk) -> None:
    await spend(Ledger(desk.tables))
    found = await desk.get(f"{NOVEMBER}&by=tenant&format=csv", tenant="operator")
    assert found.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert found.headers["Content-Disposition"] == (
        'attachment; filename="parsewire-costs-by-tenant-2026-11-01-to-2026-11-30.csv"'
    )
    assert list(csv.reader(io.StringIO(found.content.decode()))) == [
        [
            *("tenant", "spent_micro_usd", "spent_usd", "spent_pages", "spent_requests"),
            *("estimated_micro_usd", "estimated_usd", "settled_micro_usd", "settled_usd"),
        ],
        ["acme", "1280000", "1.28", "20", "2", "0", "0.00", "0", "0.00"],
        ["globex", "5000", "0.005", "20", "2", "0", "0.00", "0", "0.00"],
    ]


async def test_a_page_of_jobs_as_csv_says_where_the_next_begins(desk: GatewayDesk) -> None:
    await spend(Ledger(desk.tables))
    found = await desk.get(f"{NOVEMBER}&by=job&limit=2&format=csv", tenant="operator")
    assert found.headers["X-Next-Before"] == JOBS[3]
    assert len(found.content.decode().splitlines()) == 3


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("by=week", "there is no by 'week'; there are: day, service, tenant, tier, job"),
        ("by=day&since=tomorrow", "since must be a day such as 2026-11-24"),
        ("by=day&until=2026-02-30", "until must be a day such as 2026-11-24"),
        ("by=day&since=2026-11-05&until=2026-11-04", "since 2026-11-05 is after until 2026-11-04"),
        ("by=day&format=xml", "there is no format 'xml'; there are: json, csv"),
        ("format=csv", "format needs by, one of: day, service, tenant, tier, job"),
        ("since=2026-11-05", "since needs by, one of: day, service, tenant, tier, job"),
        ("by=day&limit=5", "before and limit are for by=job"),
        ("by=job&limit=0", "limit must be a whole number from 1 to 10000"),
        ("by=job&before=x", "before must be the id that a page gave as next"),
        ("by=day&unitl=2026-11-24", "there is no parameter 'unitl'"),
    ],
)
async def test_what_cannot_be_asked_is_refused(desk: GatewayDesk, query: str, says: str) -> None:
    refused = await desk.get(f"{COSTS}?{query}")
    assert (refused.status, refused.json["code"]) == (400, "invalid_request")
    assert says in refused.json["detail"]


async def test_what_holds_now(desk: GatewayDesk) -> None:
    ledger = Ledger(desk.tables)
    await ledger.settle(await ledger.hold(), 30_000)
    await ledger.hold()
    await ledger.hold("globex")
    body = (await desk.get(COSTS)).json
    spent = {"micro_usd": 30_000, "usd": "0.03", "pages": 10, "requests": 1}
    held = {"micro_usd": 37_500, "usd": "0.0375", "pages": 10, "requests": 1}
    assert (body["tenant"], body["time_zone"], body["frozen"]) == ("acme", "UTC", None)
    assert (body["today"]["spent"], body["today"]["reserved"]) == (spent, held)
    assert (body["month"]["spent"], body["month"]["reserved"]) == (spent, held)
    assert body["reserved"] == held
    everybody = (await desk.get(COSTS, tenant="operator")).json
    assert (everybody["today"]["spent"], everybody["tenant"]) == (spent, None)
    assert everybody["reserved"] == {
        "micro_usd": 75_000,
        "usd": "0.075",
        "pages": 20,
        "requests": 2,
    }
    assert body["at"] == "2027-01-15T08:00:00Z"
    assert body["today"]["window_start"] == "2027-01-15T00:00:00Z"
    assert body["today"]["window_end"] == "2027-01-16T00:00:00Z"
    assert body["month"]["window_start"] == "2027-01-01T00:00:00Z"
    assert body["month"]["window_end"] == "2027-02-01T00:00:00Z"


async def test_what_is_to_come(desk: GatewayDesk) -> None:
    ledger = Ledger(desk.tables)
    await ledger.limit(Scope.TENANT, "acme", micro_usd=255_000)
    await ledger.limit(Scope.TENANT, "globex")
    await ledger.limit(period=Period.MONTH, micro_usd=0, hard=False)
    await ledger.limit(Scope.SERVICE, "llamaparse", micro_usd=None, pages=500)
    await ledger.settle(await ledger.hold(), 30_000)
    await ledger.settle(await ledger.hold("globex"), 12_000)
    body = (await desk.get(f"{COSTS}/forecast")).json
    # It is 08:00: sixteen hours of the day are left, and as many and sixteen days of the month.
    today = {
        "window_start": "2027-01-15T00:00:00Z",
        "window_end": "2027-01-16T00:00:00Z",
        "spent_micro_usd": 30_000,
        "spent_usd": "0.03",
        "per_hour_micro_usd": 30_000,
        "per_hour_usd": "0.03",
        "at_end_micro_usd": 510_000,
        "at_end_usd": "0.51",
    }
    assert body["today"] == today
    assert body["month"]["at_end_micro_usd"] == 30_000 + 30_000 * (16 + 16 * 24)
    # A tenant sees its own budgets alone.
    assert body["budgets"] == [
        {
            "id": "tenant:acme/day",
            "limit_micro_usd": 255_000,
            "limit_usd": "0.255",
            "share": 2.0,
            "forecast": today,
        }
    ]
    everybody = (await desk.get(f"{COSTS}/forecast", tenant="operator")).json
    assert everybody["today"]["per_hour_micro_usd"] == 42_000
    assert [(found["id"], found["share"]) for found in everybody["budgets"]] == [
        ("deployment/month", None),
        ("tenant:acme/day", 2.0),
        ("tenant:globex/day", 0.204),
    ]


async def test_every_job_says_what_it_costs(desk: GatewayDesk) -> None:
    ledger = Ledger(desk.tables)
    job_id = (await desk.upload()).json["job_id"]
    first = await ledger.hold(job_id=job_id)
    await ledger.settle(first, 30_000)
    await ledger.hold(job_id=job_id, attempt=2)
    free = (await desk.upload(b"other text")).json["job_id"]
    cost = {"estimated_micro_usd": 75_000, "reserved_micro_usd": 37_500, "billed_micro_usd": 30_000}
    nothing = dict.fromkeys(cost, 0)
    assert (await desk.get(f"/api/v1/jobs/{job_id}")).json["cost"] == cost
    listed = (await desk.get("/api/v1/jobs")).json["jobs"]
    assert {job["job_id"]: job["cost"] for job in listed} == {job_id: cost, free: nothing}


async def test_a_job_that_waits_says_until_when(desk: GatewayDesk) -> None:
    job_id = (await desk.upload()).json["job_id"]
    assert (await desk.get(f"/api/v1/jobs/{job_id}")).json["waits_until"] is None
    await desk.happen(ParseDeferred(job_id, "acme", 1, "budget_spent", 3_600.0))
    job = (await desk.get(f"/api/v1/jobs/{job_id}")).json
    assert (job["state"], job["error"]["code"]) == ("retry_wait", "budget_spent")
    assert job["waits_until"] == "2027-01-15T09:00:00Z"
    (listed,) = (await desk.get("/api/v1/jobs")).json["jobs"]
    assert listed["waits_until"] == job["waits_until"]
    await desk.happen(RetryDue(job_id, "acme", 1))
    assert (await desk.get(f"/api/v1/jobs/{job_id}")).json["waits_until"] is None
