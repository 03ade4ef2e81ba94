"""The verb `costs`: what is spent, by what, and whether every sum is right."""

from dataclasses import asdict
from datetime import datetime, tzinfo
from typing import Annotated

import typer

from schemas.ids import is_tenant
from schemas.money import dollars
from schemas.money_bodies import (
    AmountsBody,
    CostLine,
    CostsBody,
    CostsNowBody,
    ForecastBody,
    ForecastsBody,
)
from schemas.periods import read_zone
from services.cli.job_verbs import Json
from services.cli.table_verbs import with_tables
from services.cli.terminal import FAILED, CommandError, print_json, print_table, say
from services.config import load_settings
from services.cost_csv import costs_csv
from services.cost_report import read_costs, read_forecasts, read_job_costs, read_now
from streams.cost_audit import audit_costs
from streams.cost_reports import AFTER_ALL_JOBS, MOST_JOBS, By, read_days
from streams.tables.base import Transaction

COSTS = typer.Typer(help="Costs: what is spent and held, and whether the sums are right.")

_FIGURES = ("spent", "held", "pages", "requests", "per hour", "at its end", "estimated", "off")

Since = Annotated[str | None, typer.Option(help="The first day, 2026-11-01; else 30 days ago.")]
Until = Annotated[str | None, typer.Option(help="The last day; else the present one.")]
Tenant = Annotated[str | None, typer.Option(help="Of this tenant alone.")]


@COSTS.callback(invoke_without_command=True)
def costs(
    context: typer.Context,
    by: Annotated[By | None, typer.Option(help="What to sum by; else what holds now.")] = None,
    since: Since = None,
    until: Until = None,
    tenant: Tenant = None,
    *,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: Json = False,
) -> None:
    """Show what is spent and held at present, or a report on days."""
    if context.invoked_subcommand is not None:
        return
    if tenant is not None and not is_tenant(tenant):
        raise CommandError(f"{tenant[:80]!r} cannot name a tenant")
    if csv and json:
        raise CommandError("--csv and --json are two answers: give one")
    if by is None:
        if csv or since or until:
            raise CommandError(f"--csv, --since and --until need --by: {', '.join(By)}")
        _show_now(tenant, json=json)
        return
    body = _report(by, since, until, tenant)
    if csv:
        typer.echo(costs_csv(body), nl=False)
    elif json:
        print_json(asdict(body))
    else:
        _print_report(body)
    if body.next is not None:
        say(f"only the {MOST_JOBS} newest jobs are listed: give --since and --until")


@COSTS.command("audit")
def audit(*, json: Json = False) -> None:
    """Check every sum against the ledger; exit code 1 when something is wrong."""
    findings = with_tables(lambda tables: tables.read(audit_costs))
    if json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    elif findings:
        print_table(
            ("check", "of", "finding"),
            ((finding.check, finding.subject, finding.message) for finding in findings),
        )
    if findings:
        raise CommandError(f"{len(findings)} findings: the sums are not right", FAILED)
    say("budgets, days, reservations and bills agree with the ledger")


def in_zone(at: datetime, zone: tzinfo) -> str:
    """Write a time in the zone by which money is counted."""
    return at.astimezone(zone).strftime("%m-%d %H:%M")


def about(micro_usd: int) -> str:
    """Write what nobody knows to the micro-dollar, to the cent."""
    return dollars(round(micro_usd, -4))


def _report(by: By, since: str | None, until: str | None, tenant: str | None) -> CostsBody:
    zone = read_zone(load_settings().time_zone)

    async def read(tx: Transaction) -> CostsBody:
        days = read_days(since, until, tx.now_ms, zone)
        if by is not By.JOB:
            return await read_costs(tx, by, days, zone, tenant)
        return await read_job_costs(tx, days, zone, tenant, before=AFTER_ALL_JOBS, limit=MOST_JOBS)

    return with_tables(lambda tables: tables.read(read))


def _show_now(tenant: str | None, *, json: bool) -> None:
    zone = read_zone(load_settings().time_zone)

    async def read(tx: Transaction) -> tuple[CostsNowBody, ForecastsBody]:
        return await read_now(tx, zone, tenant), await read_forecasts(tx, zone, tenant)

    body, to_come = with_tables(lambda tables: tables.read(read))
    if json:
        print_json({**asdict(body), "forecast": asdict(to_come)})
        return
    typer.echo(f"costs of {_whose(tenant)} ({body.time_zone})")
    print_table(
        ("", "from", "until", "spent", "pages", "requests", "held", "per hour", "at its end"),
        (
            _now_row("today", body.today.spent, body.today.reserved, to_come.today, zone),
            _now_row("month", body.month.spent, body.month.reserved, to_come.month, zone),
        ),
        figures=_FIGURES,
    )
    if body.frozen is not None:
        say(f"all spending is stopped (policy {body.frozen}): `parsewire budgets unfreeze`")


def _now_row(
    name: str, spent: AmountsBody, held: AmountsBody, to_come: ForecastBody, zone: tzinfo
) -> tuple[str, ...]:
    return (
        name,
        in_zone(to_come.window_start, zone),
        in_zone(to_come.window_end, zone),
        dollars(spent.micro_usd),
        f"{spent.pages:,}",
        f"{spent.requests:,}",
        dollars(held.micro_usd),
        about(to_come.per_hour_micro_usd),
        about(to_come.at_end_micro_usd),
    )


def _print_report(body: CostsBody) -> None:
    rows = [_cells(line) for line in body.lines]
    if body.total is not None and len(rows) > 1:
        total = body.total
        rows.append(
            ("total", dollars(total.micro_usd), f"{total.pages:,}", f"{total.requests:,}", "", "")
        )
    days = f"{body.since} to {body.until}"
    typer.echo(f"costs of {_whose(body.tenant)}, {days} ({body.time_zone})")
    print_table(
        (body.by, "spent", "pages", "requests", "estimated", "off"),
        rows,
        figures=_FIGURES,
    )


def _whose(tenant: str | None) -> str:
    return f"tenant {tenant}" if tenant else "all tenants"


def _cells(line: CostLine) -> tuple[str, ...]:
    off = ""
    if line.estimated_micro_usd:
        off = f"{line.settled_micro_usd / line.estimated_micro_usd - 1:+.1%}"
    return (
        line.name or "-",
        dollars(line.spent_micro_usd),
        f"{line.spent_pages:,}",
        f"{line.spent_requests:,}",
        dollars(line.estimated_micro_usd),
        off,
    )
