"""The verbs about money: what they show, set and refuse."""

import asyncio
import csv
import io
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from schemas.http import JobBody, JobCost, Links
from services.cli.budget_verbs import BUDGETS
from services.cli.cost_verbs import COSTS
from services.cli.job_verbs import print_job
from services.config import load_settings
from services.cost_csv import safe_cell
from services.wiring import open_tables
from streams.metrics import Recorder
from streams.tables.base import Tables
from tests.harness import lay_tables
from tests.ledger_desk import Ledger

NOVEMBER = ("--since", "2026-11-01", "--until", "2026-11-30")


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_tables(tmp_path / "data")
    monkeypatch.setenv("PARSEWIRE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def with_ledger(work: Callable[[Ledger], Awaitable[Any]]) -> None:
    async def working() -> None:
        async with open_tables(load_settings(), Recorder(CollectorRegistry())) as tables:
            await work(Ledger(tables))

    asyncio.run(working())


def with_tables(work: Callable[[Tables], Awaitable[Any]]) -> Any:
    async def working() -> Any:
        async with open_tables(load_settings(), Recorder(CollectorRegistry())) as tables:
            return await work(tables)

    return asyncio.run(working())


def run(app: typer.Typer, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def shown(app: typer.Typer, *arguments: str) -> Any:
    result = run(app, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(app: typer.Typer, *arguments: str) -> str:
    result = run(app, *arguments)
    assert result.exit_code == 1
    return str(result.exception)


async def spend(ledger: Ledger) -> None:
    await ledger.spend(datetime(2026, 11, 3, 9, tzinfo=UTC), 30_000)
    await ledger.spend(datetime(2026, 11, 4, 9, tzinfo=UTC), 1_250_000, tenant="globex")


class TestCosts:
    def test_reports(self) -> None:
        with_ledger(spend)
        lines = shown(COSTS, "--by", "day", *NOVEMBER)["lines"]
        assert [(line["name"], line["spent_usd"]) for line in lines] == [
            ("2026-11-03", "0.03"),
            ("2026-11-04", "1.25"),
        ]
        (line,) = shown(COSTS, "--by", "tenant", "--tenant", "globex", *NOVEMBER)["lines"]
        assert (line["name"], line["spent_micro_usd"]) == ("globex", 1_250_000)
        assert len(shown(COSTS, "--by", "job", *NOVEMBER)["lines"]) == 2

    def test_a_table_for_people(self) -> None:
        with_ledger(spend)
        lines = [
            line.split() for line in run(COSTS, "--by", "tenant", *NOVEMBER).stdout.split("\n")
        ]
        assert [
            "costs",
            "of",
            "all",
            "tenants,",
            "2026-11-01",
            "to",
            "2026-11-30",
            "(UTC)",
        ] in lines
        assert ["tenant", "spent", "pages", "requests", "estimated", "off"] in lines
        assert ["acme", "$0.03", "10", "1", "$0.00"] in lines
        assert ["total", "$1.28", "20", "2"] in lines

    def test_csv(self) -> None:
        with_ledger(spend)
        result = run(COSTS, "--by", "service", "--csv", *NOVEMBER)
        heading, row = csv.reader(io.StringIO(result.stdout))
        assert heading[:3] == ["service", "spent_micro_usd", "spent_usd"]
        assert row[:5] == ["llamaparse", "1280000", "1.28", "20", "2"]

    def test_csv_of_a_name_that_is_a_formula(self) -> None:
        morning = datetime(2026, 11, 3, 9, tzinfo=UTC)
        with_ledger(lambda ledger: ledger.spend(morning, 5_000, tier="=1+1"))
        result = run(COSTS, "--by", "tier", "--csv", *NOVEMBER)
        _, row = csv.reader(io.StringIO(result.stdout))
        assert row[:2] == ["'=1+1", "5000"]

    @pytest.mark.parametrize(
        ("text", "cell"),
        [
            ("acme", "acme"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("a=1", "a=1"),
            ("", ""),
        ],
    )
    def test_no_cell_is_a_formula(self, text: str, cell: str) -> None:
        assert safe_cell(text) == cell

    def test_what_holds_now(self) -> None:
        async def work(ledger: Ledger) -> None:
            await ledger.settle(await ledger.hold(), 30_000)
            await ledger.hold("globex")

        with_ledger(work)
        body = shown(COSTS)
        assert (body["today"]["spent"]["usd"], body["reserved"]["usd"]) == ("0.03", "0.0375")
        assert body["forecast"]["today"]["per_hour_usd"] == "0.03"
        assert shown(COSTS, "--tenant", "globex")["today"]["spent"]["usd"] == "0.00"
        assert "$0.0375" in run(COSTS).stdout

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--csv",), "need --by: day, service, tenant, tier, job"),
            (("--since", "2026-11-01"), "need --by"),
            (("--by", "day", "--since", "x"), "since must be a day such as 2026-11-24"),
            (("--tenant", "Acme"), "'Acme' cannot name a tenant"),
            (("--by", "job", "--csv", "--json"), "give one"),
        ],
    )
    def test_what_cannot_be_is_refused(self, arguments: tuple[str, ...], says: str) -> None:
        assert says in refused(COSTS, *arguments)

    def test_the_audit(self) -> None:
        with_ledger(spend)
        result = run(COSTS, "audit")
        assert (result.exit_code, result.stdout) == (0, "")
        assert "agree with the ledger" in result.stderr
        assert shown(COSTS, "audit") == {"findings": []}

    def test_the_audit_fails_where_something_is_wrong(self) -> None:
        with_ledger(spend)
        values = {"day": "2026-11-03", "tenant": "acme", "service": "llamaparse", "tier": "x"}
        sums = dict.fromkeys(
            (
                *("spent_micro_usd", "spent_pages", "spent_requests"),
                *("estimated_micro_usd", "settled_micro_usd"),
            ),
            1,
        )
        with_tables(
            lambda tables: tables.write(lambda tx: tx.run("money.add_to_day", **values, **sums))
        )
        result = run(COSTS, "audit", "--json")
        assert result.exit_code == 1
        (finding,) = json.loads(result.stdout)["findings"]
        assert (finding["check"], finding["subject"]) == ("days", "2026-11-03/acme/llamaparse/x")
        assert "1 findings" in refused(COSTS, "audit")
        assert "2026-11-03/acme/llamaparse/x" in run(COSTS, "audit").stdout


class TestBudgets:
    def test_one_is_set_shown_and_removed(self) -> None:
        body = shown(
            BUDGETS,
            *("set", "tenant", "--tenant", "acme", "--period", "month", "--usd", "12.50"),
            *("--pages", "900", "--policy", "wait", "--soft"),
        )
        (budget,) = body["budgets"]
        details = budget["details"]
        assert (budget["id"], details["hard"], details["policy"]) == (
            *("tenant:acme/month", False, "wait"),
        )
        assert details["limit"] == {
            "micro_usd": 12_500_000,
            "usd": "12.50",
            "pages": 900,
            "requests": None,
        }
        lines = [line.split() for line in run(BUDGETS).stdout.split("\n")]
        money = ["tenant:acme/month", "$12.50", "$0.00", "$0.00", "$12.50", "$0.00"]
        assert [*money, "soft"] in [line[:7] for line in lines]
        assert ["tenant:acme/month", "900", "pages"] in [line[:3] for line in lines]
        removal = ("remove", "tenant", "--tenant", "acme", "--period", "month")
        assert run(BUDGETS, *removal).exit_code == 0
        assert shown(BUDGETS)["budgets"] == []
        assert "no budget tenant:acme/month" in refused(BUDGETS, *removal)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("set", "tenant", "--usd", "1"), "the scope tenant and --tenant go together"),
            (
                ("set", "deployment", "--service", "llamaparse", "--usd", "1"),
                "the scope service and --service go together",
            ),
            (("set", "service", "--service", "gpt", "--usd", "1"), "no service 'gpt' can cost"),
            (("set", "deployment", "--usd", "ten"), "--usd: 'ten' is no amount of dollars"),
            (("set", "deployment"), "give at least one"),
            (("set", "deployment", "--pages", "-1"), "a whole number from 0"),
            (("unfreeze",), "spending is not stopped"),
        ],
    )
    def test_what_cannot_be_is_refused(self, arguments: tuple[str, ...], says: str) -> None:
        assert says in refused(BUDGETS, *arguments)
        assert shown(BUDGETS)["budgets"] == []

    def test_all_spending_is_stopped_and_let_go_on(self) -> None:
        assert run(BUDGETS, "freeze", "--policy", "local").exit_code == 0
        assert shown(BUDGETS)["frozen"] == "local"
        assert "all spending is stopped (policy local)" in run(BUDGETS).stderr
        assert "all spending is stopped" in run(COSTS).stderr
        assert run(BUDGETS, "unfreeze").exit_code == 0
        assert shown(BUDGETS)["frozen"] is None

    def test_alerts_are_listed_the_newest_first(self) -> None:
        def body(text: str) -> str:
            return json.dumps({"text": text})

        async def work(tables: Tables) -> None:
            for number, tenant in enumerate(("acme", "globex")):
                await tables.write(
                    lambda tx, number=number, tenant=tenant: tx.run(  # type: ignore[misc]  # defaults
                        "alerts.raise",
                        id=f"a{number}",
                        type="BudgetThresholdCrossed",
                        tenant=tenant,
                        body=body(f"{tenant} spent much"),
                        raised_ms=1_800_000_000_000 + number,
                        next_try_ms=None,
                    )
                )

        with_tables(work)
        first, second = shown(BUDGETS, "alerts")["alerts"]
        assert first == {
            "raised_at": "2027-01-15T08:00:00.001Z",
            "type": "BudgetThresholdCrossed",
            "tenant": "globex",
            "delivered_at": None,
            "tries": 0,
            "last_error": None,
            "body": {"text": "globex spent much"},
        }
        assert second["tenant"] == "acme"
        assert "acme spent much" in run(BUDGETS, "alerts").stdout
        assert run(BUDGETS, "alerts", "--limit", "9" * 20).exit_code == 2


def job_with(cost: JobCost, waits_until: datetime | None = None) -> JobBody:
    moment = datetime(2026, 11, 3, 9, tzinfo=UTC)
    return JobBody(
        job_id="j",
        document_id="d",
        state="retry_wait",
        attempt=2,
        generation=1,
        name="a.pdf",
        media_type="application/pdf",
        size_bytes=10,
        sha256="0" * 64,
        options={},
        parser=None,
        parser_version=None,
        pages=None,
        warnings=(),
        error=None,
        created_at=moment,
        updated_at=moment,
        links=Links("", "", "", "", ""),
        cost=cost,
        waits_until=waits_until,
    )


def test_a_job_says_what_it_costs_and_until_when_it_waits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    until = datetime(2026, 12, 1, tzinfo=UTC)
    print_job(job_with(JobCost(75_000, 37_500, 30_000), until))
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["cost", "$0.03 billed, $0.0375 held; estimated at $0.075"] in lines
    assert ["waits", "until  2026-12-01 00:00:00.000Z"] in lines
    print_job(job_with(JobCost()))
    assert "cost" not in capsys.readouterr().out
