"""Budgets over real HTTP: what operators set, what tenants see, and the emergency stop."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from schemas.money import Scope
from schemas.periods import Period
from services.keys import Role, create_key
from tests.gateway_desk import Answer, GatewayDesk, open_gateway
from tests.harness import FakeClock
from tests.ledger_desk import Ledger

BUDGETS = "/api/v1/budgets"


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path, clock=FakeClock()) as opened:
        _, token = await create_key(opened.tables, "ops", "ops", Role.OPERATOR)
        opened.tokens["operator"] = token
        yield opened


async def put(desk: GatewayDesk, budget: str, **order: Any) -> Answer:
    return await desk.ask("PUT", f"{BUDGETS}/{budget}", tenant="operator", json=order)


async def listed(desk: GatewayDesk, tenant: str = "operator") -> dict[str, Any]:
    body = (await desk.get(BUDGETS, tenant=tenant)).json
    return {budget["id"]: budget for budget in body["budgets"]}


async def changes(desk: GatewayDesk) -> list[tuple[str, Any]]:
    rows = await desk.tables.read(lambda tx: tx.all("limits.changes", most=50))
    assert all(row["who"].startswith("key ") and row["who"].endswith(" of ops") for row in rows)
    return [(row["name"], row["to_value"]) for row in reversed(rows)]


async def test_an_operator_sets_shows_and_removes_a_budget(desk: GatewayDesk) -> None:
    made = await put(desk, "tenant:acme/month", limit_usd="12.50", limit_pages=900, policy="wait")
    assert made.status == 200
    body = made.json
    assert (body["id"], body["scope"], body["subject"], body["period"]) == (
        *("tenant:acme/month", "tenant", "acme", "month"),
    )
    details = body["details"]
    assert details["limit"] == {
        "micro_usd": 12_500_000,
        "usd": "12.50",
        "pages": 900,
        "requests": None,
    }
    assert (details["hard"], details["policy"]) == (True, "wait")
    nothing = {"micro_usd": 0, "usd": "0.00", "pages": 0, "requests": 0}
    assert (details["spent"], details["reserved"]) == (nothing, nothing)
    assert (await listed(desk))["tenant:acme/month"]["details"]["left"] == details["limit"]
    gone = await desk.ask("DELETE", f"{BUDGETS}/tenant:acme/month", tenant="operator")
    assert (gone.status, gone.content) == (204, b"")
    assert await listed(desk) == {}
    again = await desk.ask("DELETE", f"{BUDGETS}/tenant:acme/month", tenant="operator")
    assert (again.status, again.json["code"]) == (404, "not_found")
    (first, _), (second, to) = await changes(desk)
    assert (first, second, to) == (*["budgets.tenant:acme/month"] * 2, None)


async def test_a_budget_that_is_set_again_is_replaced(desk: GatewayDesk) -> None:
    await put(desk, "deployment/day", limit_usd="1", limit_requests=5)
    body = (await put(desk, "deployment/day", limit_micro_usd=7, hard=False)).json
    assert body["details"]["limit"] == {
        "micro_usd": 7,
        "usd": "0.000007",
        "pages": None,
        "requests": None,
    }
    assert (body["details"]["hard"], body["details"]["policy"]) == (False, "reject")


async def test_what_is_held_and_spent_stands_beside_the_limit(desk: GatewayDesk) -> None:
    ledger = Ledger(desk.tables)
    await put(desk, "service:llamaparse/hour", limit_usd="0.1", limit_requests=2)
    await ledger.settle(await ledger.hold(), 30_000)
    await ledger.hold()
    budget = (await listed(desk))["service:llamaparse/hour"]
    details = budget["details"]
    assert details["spent"] == {"micro_usd": 30_000, "usd": "0.03", "pages": 10, "requests": 1}
    assert details["reserved"] == {
        "micro_usd": 37_500,
        "usd": "0.0375",
        "pages": 10,
        "requests": 1,
    }
    assert details["left"] == {
        "micro_usd": 32_500,
        "usd": "0.0325",
        "pages": None,
        "requests": 0,
    }
    assert budget["is_spent"] is True
    assert details["forecast"]["per_hour_usd"] == "0.03"


async def test_a_tenant_sees_its_own_figures_and_of_others_only_whether_they_are_spent(
    desk: GatewayDesk,
) -> None:
    ledger = Ledger(desk.tables)
    await ledger.limit(micro_usd=75_000)
    await ledger.limit(Scope.SERVICE, "llamaparse", Period.HOUR)
    await ledger.limit(Scope.TENANT, "acme")
    await ledger.limit(Scope.TENANT, "globex")
    await ledger.hold()
    await ledger.hold("globex")
    found = await listed(desk, "acme")
    assert {name: budget["is_spent"] for name, budget in found.items()} == {
        "deployment/day": True,
        "service:llamaparse/hour": False,
        "tenant:acme/day": False,
    }
    assert found["deployment/day"]["details"] is None
    assert found["service:llamaparse/hour"]["details"] is None
    assert found["tenant:acme/day"]["details"]["reserved"]["micro_usd"] == 37_500


async def test_only_operators_change_anything(desk: GatewayDesk) -> None:
    refused = [
        await desk.ask("PUT", f"{BUDGETS}/tenant:acme/day", json={"limit_usd": "1"}),
        await desk.ask("DELETE", f"{BUDGETS}/tenant:acme/day"),
        await desk.post(f"{BUDGETS}/freeze"),
        await desk.post(f"{BUDGETS}/unfreeze"),
    ]
    assert [(answer.status, answer.json["code"]) for answer in refused] == [(403, "forbidden")] * 4
    assert await changes(desk) == []
    for method, path in (("PUT", "/deployment/day"), ("GET", ""), ("POST", "/freeze")):
        assert (await desk.ask(method, BUDGETS + path, tenant=None)).status == 401


@pytest.mark.parametrize(
    ("budget", "order", "says"),
    [
        ("deployment/day", {}, "dollars, pages or requests: give at least one"),
        ("deployment/week", {"limit_pages": 1}, "there is no period 'week'"),
        ("tenant:ACME/day", {"limit_pages": 1}, "cannot name a tenant"),
        ("service:gpt/day", {"limit_pages": 1}, "no service 'gpt' can cost money"),
        ("deployment/day", {"limit_usd": "ten"}, "'ten' is no amount of dollars"),
        ("deployment/day", {"limit_usd": "1.0000001"}, "is no amount of dollars"),
        ("deployment/day", {"limit_usd": 10}, "Expected `str | null`, got `int`"),
        ("deployment/day", {"limit_usd": "1", "limit_micro_usd": 1}, "not both"),
        ("deployment/day", {"limit_pages": -1}, "a limit of pages is a whole number from 0"),
        ("deployment/day", {"limit_pages": 1.5}, "Expected `int | null`, got `float`"),
        ("deployment/day", {"limit_page": 1}, "unknown field `limit_page`"),
        ("deployment/day", {"limit_pages": 1, "policy": "cloud"}, "Invalid enum value 'cloud'"),
    ],
)
async def test_what_cannot_be_is_refused(
    desk: GatewayDesk, budget: str, order: dict[str, Any], says: str
) -> None:
    refused = await put(desk, budget, **order)
    assert (refused.status, refused.json["code"]) == (400, "invalid_request")
    assert says in refused.json["detail"]
    assert await listed(desk) == {}


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "invalid_request"),
        (b"[]", 400, "invalid_request"),
        (b" " * 20_000, 413, "too_large"),
        (b"\xff", 400, "invalid_request"),
    ],
)
async def test_a_body_that_is_none_is_refused(
    desk: GatewayDesk, content: bytes, status: int, code: str
) -> None:
    path = f"{BUDGETS}/deployment/day"
    refused = await desk.ask("PUT", path, tenant="operator", data=content)
    assert (refused.status, refused.json["code"]) == (status, code)


async def test_all_spending_is_stopped_and_let_go_on(desk: GatewayDesk) -> None:
    assert (await desk.post(f"{BUDGETS}/freeze", tenant="operator")).json == {"frozen": "wait"}
    order = orjson.dumps({"policy": "local"})
    again = await desk.post(f"{BUDGETS}/freeze", tenant="operator", data=order)
    assert again.json == {"frozen": "local"}
    assert (await desk.get(BUDGETS)).json["frozen"] == "local"
    assert (await desk.get("/api/v1/costs")).json["frozen"] == "local"
    for _ in range(2):
        thawed = await desk.post(f"{BUDGETS}/unfreeze", tenant="operator")
        assert (thawed.status, thawed.json) == (200, {"frozen": None})
    name = "spending.frozen"
    assert await changes(desk) == [(name, "wait"), (name, "local"), (name, None)]


async def test_the_map_names_the_routes(desk: GatewayDesk) -> None:
    endpoints = (await desk.get("/", tenant=None)).json["endpoints"]
    assert {name for name in endpoints if "/budgets" in name or "/costs" in name} == {
        "GET /api/v1/costs",
        "GET /api/v1/costs/forecast",
        "GET /api/v1/budgets",
        "PUT /api/v1/budgets/{whose}/{period}",
        "DELETE /api/v1/budgets/{whose}/{period}",
        "POST /api/v1/budgets/freeze",
        "POST /api/v1/budgets/unfreeze",
    }


async def test_another_method_is_told_which_there_are(desk: GatewayDesk) -> None:
    refused = await desk.post(f"{BUDGETS}/deployment/day", tenant="operator")
    assert refused.status == 405
    assert set(refused.headers["Allow"].split(",")) == {"PUT", "DELETE"}
