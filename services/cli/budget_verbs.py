"""The verb `budgets`: what may be spent, what is left of it, and the emergency stop."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from schemas.money import Policy, Scope, dollars, read_usd
from schemas.money_bodies import BudgetBody, BudgetsBody
from schemas.periods import Period, read_zone
from services.budget_report import read_budgets
from services.cli.cost_verbs import about
from services.cli.job_verbs import Json
from services.cli.person import who
from services.cli.table_verbs import with_tables
from services.cli.terminal import CommandError, moment, print_json, print_table, say
from services.config import load_settings
from services.money_settings import SERVICES
from streams.budgets import (
    MEASURES,
    Budget,
    Limits,
    Whose,
    freeze,
    read_whose,
    remove_budget,
    set_budget,
    unfreeze,
)

BUDGETS = typer.Typer(help="Budgets: what may be spent, and the emergency stop.")

_FIGURES = ("limit", "spent", "held", "left", "forecast")

ScopeName = Annotated[Scope, typer.Argument(metavar="SCOPE", help="deployment, tenant or service")]
Tenant = Annotated[str, typer.Option(help="The tenant, with the scope tenant.")]
Service = Annotated[str, typer.Option(help="The service, with the scope service.")]
PeriodName = Annotated[Period, typer.Option("--period", help="How long a window lasts.")]


@BUDGETS.callback(invoke_without_command=True)
def show_budgets(context: typer.Context, *, json: Json = False) -> None:
    """List the budgets with what is spent, held and left of them."""
    if context.invoked_subcommand is None:
        _show(json=json)


@BUDGETS.command("set")
def set_one(
    scope: ScopeName,
    tenant: Tenant = "",
    service: Service = "",
    period: PeriodName = Period.DAY,
    usd: Annotated[str | None, typer.Option(help="At most so many dollars: 10 or 12.50.")] = None,
    pages: Annotated[int | None, typer.Option(help="At most so many pages.")] = None,
    requests: Annotated[int | None, typer.Option(help="At most so many calls.")] = None,
    policy: Annotated[
        Policy, typer.Option(help="What becomes of a document when it is spent.")
    ] = Policy.REJECT,
    *,
    soft: Annotated[bool, typer.Option("--soft", help="Only tell, never refuse.")] = False,
    json: Json = False,
) -> None:
    """Set a budget: what it limited before is replaced."""
    whose = _whose(scope, tenant, service, period)
    limits = Limits(None if usd is None else _micro_usd(usd), pages, requests)
    budget = Budget(whose, limits, not soft, policy)
    zone = read_zone(load_settings().time_zone)
    changed = with_tables(
        lambda tables: tables.write(lambda tx: set_budget(tx, budget, who(), zone))
    )
    say(f"{whose.id} is set" if changed else "it was so already")
    _show(json=json)


@BUDGETS.command("remove")
def remove(
    scope: ScopeName,
    tenant: Tenant = "",
    service: Service = "",
    period: PeriodName = Period.DAY,
) -> None:
    """Remove a budget."""
    whose = _whose(scope, tenant, service, period)
    if not with_tables(lambda tables: tables.write(lambda tx: remove_budget(tx, whose, who()))):
        raise CommandError(f"no budget {whose.id}: see `parsewire budgets`")
    say(f"{whose.id} is removed")


@BUDGETS.command("freeze")
def stop_spending(
    policy: Annotated[
        Policy, typer.Option(help="What becomes of documents meanwhile.")
    ] = Policy.WAIT,
) -> None:
    """Stop all spending at once, in every process; what was begun ends."""
    changed = with_tables(lambda tables: tables.write(lambda tx: freeze(tx, policy, who())))
    say(f"all spending is stopped, policy {policy}" if changed else "it was so already")


@BUDGETS.command("unfreeze")
def go_on() -> None:
    """Let spending go on; documents that waited are looked at now."""
    if not with_tables(lambda tables: tables.write(lambda tx: unfreeze(tx, who()))):
        raise CommandError("spending is not stopped")
    say("spending goes on")


@BUDGETS.command("alerts")
def show_alerts(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    *,
    json: Json = False,
) -> None:
    """List the alerts that were raised, the newest first, and whether they were delivered."""
    rows = with_tables(lambda tables: tables.read(lambda tx: tx.all("alerts.latest", most=limit)))
    alerts = [
        {
            "raised_at": moment(row["raised_ms"]),
            "type": row["type"],
            "tenant": row["tenant"],
            "delivered_at": moment(row["delivered_ms"]),
            "tries": row["tries"],
            "last_error": row["last_error"],
            "body": orjson.loads(row["body"]),
        }
        for row in rows
    ]
    if json:
        print_json({"alerts": alerts})
        return
    print_table(
        ("raised", "tenant", "delivered", "tries", "last error", "what"),
        (
            (
                *(alert["raised_at"], alert["tenant"], alert["delivered_at"], alert["tries"]),
                *(alert["last_error"], alert["body"]["text"]),
            )
            for alert in alerts
        ),
    )


def _show(*, json: bool) -> None:
    zone = read_zone(load_settings().time_zone)
    body: BudgetsBody = with_tables(
        lambda tables: tables.read(lambda tx: read_budgets(tx, zone, None))
    )
    if json:
        print_json(asdict(body))
        return
    typer.echo(f"budgets ({body.time_zone})")
    print_table(
        ("budget", "limit", "spent", "held", "left", "forecast", "policy"),
        (line for budget in body.budgets for line in _lines(budget)),
        figures=_FIGURES,
    )
    if body.frozen is not None:
        say(f"all spending is stopped (policy {body.frozen}): `parsewire budgets unfreeze`")


def _lines(budget: BudgetBody) -> Iterator[tuple[str, ...]]:
    """Give a line for each measure that the budget limits."""
    details = budget.details
    if details is None:
        return
    policy = details.policy if details.hard else "soft"
    for measure in MEASURES:
        limit = getattr(details.limit, measure)
        if limit is None:
            continue
        figures = (
            limit,
            *(getattr(details.spent, measure), getattr(details.reserved, measure)),
            getattr(details.left, measure),
        )
        money = measure == "micro_usd"
        shown = [dollars(figure) if money else f"{figure:,}" for figure in figures]
        if not money:
            shown[0] += f" {measure}"
        to_come = about(details.forecast.at_end_micro_usd) if money else ""
        yield (budget.id, *shown, to_come, policy)


def _whose(scope: Scope, tenant: str, service: str, period: Period) -> Whose:
    given = {Scope.TENANT: tenant, Scope.SERVICE: service}
    for other, name in given.items():
        if bool(name) is not (other is scope):
            raise CommandError(f"the scope {other} and --{other} go together")
    subject = given.get(scope, "")
    return read_whose(f"{scope}:{subject}" if subject else scope, period, SERVICES)


def _micro_usd(text: str) -> int:
    try:
        return read_usd(text)
    except ValueError as error:
        raise CommandError(f"--usd: {error}") from None
