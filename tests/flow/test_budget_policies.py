"""A spent budget over HTTP: each policy, the freeze, and money that agrees with the bills."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.keys import Role
from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.server import open_llama_cloud
from tests.fleet import API, Client, Fleet
from tests.flow.test_llamaparse_way import WAIT_SECONDS, open_cloud_fleet
from tests.pdfs import text_pdf
from tests.processes import until

pytestmark = [pytest.mark.processes, pytest.mark.kafka]

TWO_PAGES = 7_500
"""Micro-dollars of two pages at three credits each."""


def document(name: str) -> bytes:
    """Make a PDF of two pages that no other job has."""
    return text_pdf([["one"], ["two"]], name)


async def budget(operator: Client, whose: str, period: str = "day", **order: Any) -> None:
    path = f"{API}/budgets/{whose}/{period}"
    answer = await operator.ask("PUT", path, json=order)
    assert answer.status == 200, answer.content


async def upload(client: Client, name: str) -> str:
    answer = await client.upload(document(name), f"{name}.pdf")
    assert answer.status == 202, answer.content
    return str(answer.json["job_id"])


async def settled(fleet: Fleet) -> None:
    """Wait until every bill is asked for, written and folded, and have the money checked."""

    async def calm() -> bool:
        return not fleet.sql(
            "SELECT 1 FROM timers UNION SELECT 1 FROM outbox"
            " UNION SELECT 1 FROM reservations WHERE state = 'reserved'"
        )

    await until(calm, "every bill is in the ledger", within_seconds=WAIT_SECONDS)
    # It ends badly where it finds anything.
    await fleet.cli("costs", "audit")


async def test_reject_refuses_what_the_budget_cannot_pay(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_llama_cloud(Behaviour()) as cloud,
        open_cloud_fleet(tmp_path, kafka_bootstrap, topic_prefix, cloud) as fleet,
    ):
        operator, client = await fleet.client(role=Role.OPERATOR), await fleet.client()
        await budget(operator, "tenant:acme", limit_usd="0.01", policy="reject")
        job = await client.reaches(
            await upload(client, "first"), "complete", within_seconds=WAIT_SECONDS
        )
        assert job["parser"] == "llamaparse"
        await settled(fleet)
        # $0.0025 are left: not nothing, but not enough for two pages.
        job = await client.reaches(
            await upload(client, "second"), "failed_parse", within_seconds=WAIT_SECONDS
        )
        assert job["error"]["code"] == "budget_spent"
        assert job["cost"] == {
            "estimated_micro_usd": 0,
            "reserved_micro_usd": 0,
            "billed_micro_usd": 0,
        }

        await budget(operator, "tenant:acme", limit_micro_usd=TWO_PAGES, policy="reject")
        refused = await client.upload(document("third"), "third.pdf")
        assert (refused.status, refused.json["code"]) == (402, "budget_spent")
        now = datetime.now(UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        left = math.ceil((midnight - now).total_seconds())
        assert left <= int(refused.headers["Retry-After"]) <= left + 30
        again = await client.upload(document("first"), "first.pdf")
        assert (again.status, again.json["duplicate"]) == (200, True)
        text = await client.upload(b"Words cost nothing.", "words.txt")
        assert text.status == 202
        other = await (await fleet.client("other")).upload(document("fourth"), "fourth.pdf")
        assert other.status == 202
        assert len(fleet.sql("SELECT 1 FROM jobs")) == 4
        assert len(cloud.calls_of("create")) <= 2
        await fleet.calm(within_seconds=WAIT_SECONDS)


async def test_wait_puts_the_document_off_until_there_is_money(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_llama_cloud(Behaviour()) as cloud,
        open_cloud_fleet(tmp_path, kafka_bootstrap, topic_prefix, cloud) as fleet,
    ):
        operator, client = await fleet.client(role=Role.OPERATOR), await fleet.client()
        await budget(operator, "deployment", "month", limit_pages=1, policy="wait")
        job_id = await upload(client, "patient")
        job = await client.reaches(job_id, "retry_wait", within_seconds=WAIT_SECONDS)
        assert job["error"]["code"] == "budget_spent"
        until_then = datetime.fromisoformat(job["waits_until"])
        assert (until_then.day, until_then.hour, until_then.minute) == (1, 0, 0)
        assert timedelta(0) < until_then - datetime.now(UTC) <= timedelta(days=31)
        assert cloud.calls_of("upload_file") == []

        await budget(operator, "deployment", "month", limit_pages=2, policy="wait")
        job = await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        assert (job["parser"], job["attempt"], job["waits_until"]) == ("llamaparse", 2, None)
        await settled(fleet)
        assert (await client.job(job_id))["cost"] == {
            "estimated_micro_usd": TWO_PAGES,
            "reserved_micro_usd": 0,
            "billed_micro_usd": TWO_PAGES,
        }


async def test_local_serves_here_and_a_freeze_stops_all_spending(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_llama_cloud(Behaviour()) as cloud,
        open_cloud_fleet(tmp_path, kafka_bootstrap, topic_prefix, cloud, mode="hybrid") as fleet,
    ):
        operator, client = await fleet.client(role=Role.OPERATOR), await fleet.client()
        await budget(operator, "service:llamaparse", "hour", limit_requests=1, policy="local")
        parsers = []
        for name in ("first", "second"):
            job_id = await upload(client, name)
            job = await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
            parsers.append(job["parser"])
        assert parsers == ["llamaparse", "liteparse"]
        await budget(operator, "service:llamaparse", "hour", limit_requests=9, policy="local")
        await fleet.cli("budgets", "freeze", "--policy", "local")
        job_id = await upload(client, "third")
        job = await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        assert job["parser"] == "liteparse"
        await fleet.cli("budgets", "freeze", "--policy", "reject")
        refused = await client.upload(document("fourth"), "fourth.pdf")
        assert (refused.status, refused.json["code"]) == (402, "spending_frozen")
        await fleet.cli("budgets", "unfreeze")
        job_id = await upload(client, "fourth")
        job = await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        assert job["parser"] == "llamaparse"
        await settled(fleet)
        assert len(cloud.calls_of("create")) == 2
        report = (await operator.ask("GET", f"{API}/costs?by=service")).json
        assert [(line["name"], line["spent_micro_usd"]) for line in report["lines"]] == [
            ("llamaparse", 2 * TWO_PAGES)
        ]
