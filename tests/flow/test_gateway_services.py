"""Services over real HTTP: what a tenant's key shows, and what an operator's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from schemas.errors import Code
from services.keys import Role, create_key
from streams.gate import SharedGate
from streams.metrics import Recorder
from streams.settings import Defaults, change_setting
from streams.token_bucket import Rate
from tests.gateway_desk import GatewayDesk, open_gateway

SERVICES = "/api/v1/services"
DEFAULTS = Defaults(
    mode="hybrid", rates={"llamaparse": Rate(20.0, 10)}, local_parsers=("liteparse", "text")
)


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path, defaults=DEFAULTS) as opened:
        _, token = await create_key(opened.tables, "acme", "ops", Role.OPERATOR)
        opened.tokens["operator"] = token
        yield opened


async def fail(desk: GatewayDesk, code: Code) -> None:
    recorder: Recorder = desk.tables._recorder
    gate = SharedGate(desk.tables, "llamaparse", lambda: Rate(20.0, 10), recorder)
    await gate.enter("submit")
    await gate.note("submit", code)


async def test_nobody_without_a_key(desk: GatewayDesk) -> None:
    assert (await desk.get(SERVICES, tenant=None)).status == 401


async def test_a_tenant_sees_mode_and_health_alone(desk: GatewayDesk) -> None:
    await fail(desk, Code.VENDOR_UNAUTHORIZED)
    found = await desk.get(SERVICES)
    assert found.status == 200
    assert found.json == {
        "mode": "hybrid",
        "services": [
            {"name": "liteparse", "kind": "local", "health": "ok", "details": None},
            {"name": "text", "kind": "local", "health": "ok", "details": None},
            {"name": "llamaparse", "kind": "remote", "health": "down", "details": None},
        ],
        "changed": None,
        "ignored": None,
    }


async def test_an_operator_sees_circuit_rate_and_errors(desk: GatewayDesk) -> None:
    await fail(desk, Code.VENDOR_UNAUTHORIZED)
    body = (await desk.get(SERVICES, tenant="operator")).json
    details = body["services"][2]["details"]
    assert details["circuit"].pop("since").endswith("Z")
    assert details["circuit"] == {
        "state": "open",
        "until": None,
        "reason": "vendor_unauthorized",
        "failures_in_a_row": 1,
    }
    assert 9 <= details["rate"].pop("left") <= 10
    assert details["rate"] == {"requests_per_minute": 20.0, "burst": 10, "slowed": 0}
    assert details["last_success_at"] is None
    assert details["last_failure_at"].endswith("Z")
    (error,) = details["errors"]
    assert (error["operation"], error["code"]) == ("submit", "vendor_unauthorized")
    assert (body["changed"], body["ignored"]) == ([], [])


async def test_a_change_is_seen_at_once(desk: GatewayDesk) -> None:
    for name, value in (("mode", "local"), ("llamaparse.burst", "3")):
        await desk.tables.write(
            lambda tx, name=name, value=value: change_setting(  # type: ignore[misc]  # defaults
                tx, DEFAULTS, name, value, "ann@host"
            )
        )
    body = (await desk.get(SERVICES, tenant="operator")).json
    assert body["mode"] == "local"
    assert body["services"][2]["details"]["rate"]["burst"] == 3
    assert body["changed"] == ["llamaparse.burst", "mode"]


async def test_an_operators_key_still_has_its_tenants_jobs_alone(desk: GatewayDesk) -> None:
    job_id = (await desk.upload(tenant="globex")).json["job_id"]
    assert (await desk.get(f"/api/v1/jobs/{job_id}", tenant="operator")).status == 404
