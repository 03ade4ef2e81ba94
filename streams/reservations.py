"""Reservations: money held for an attempt before anything may be spent for it.

A hold raises every budget's window by one guarded statement, or none of them: whoever comes
second is refused, whatever the order in which their transactions run.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

import orjson

from schemas.cost_events import CostReserved
from schemas.errors import Code, ParsewireError
from schemas.events import Event
from schemas.ids import derived_id
from schemas.money import Policy, Spend
from schemas.periods import Period, moment_of, span
from streams.outbox import put_events
from streams.tables.base import Row, Transaction

FROZEN = "spending.frozen"
"""The setting that stops all spending; its value is the policy."""

LEAST = Spend("", None, 1, 1, 0)
"""The least that anything can cost: a budget that cannot hold it is spent."""

_FROZEN_AGAIN_SECONDS = 3_600.0
_SOURCE = "/parsewire/reservations"
_STRICTEST = (Policy.REJECT, Policy.WAIT, Policy.LOCAL)


class BudgetSpentError(ParsewireError):
    """The money cannot be held: a hard budget does not have it, or all spending is stopped.

    `retry_after_seconds` is when the last of the spent windows ends, as far as that is known.
    """

    def __init__(
        self, code: Code, message: str, policy: Policy, *, retry_after_seconds: float
    ) -> None:
        super().__init__(code, message)
        self.policy = policy
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Payer:
    """The attempt that money is held for."""

    job_id: str
    tenant: str
    attempt: int
    traceparent: str | None


async def reserve(tx: Transaction, payer: Payer, spend: Spend, zone: tzinfo) -> None:
    """Hold the money for an attempt, once; raise BudgetSpentError, which undoes the unit.

    Holding it again for the same attempt changes nothing.
    """
    named = {"job_id": payer.job_id, "attempt": payer.attempt}
    if await tx.one("money.reservation", **named) is not None:
        return
    await refuse_frozen(tx)
    windows = await standing(tx, zone, payer.tenant, spend.service)
    await _open(tx, windows)
    keys = orjson.dumps([[row["id"], row["start_ms"]] for row in windows]).decode()
    amounts = {"micro_usd": spend.micro_usd, "pages": spend.pages}
    if windows and await tx.run("money.hold", windows=keys, **amounts) != len(windows):
        after = await standing(tx, zone, payer.tenant, spend.service)
        raise refusal(after, spend, tx.now_ms) or RuntimeError("no budget refused, none was held")
    whose = {"tenant": payer.tenant, "service": spend.service}
    await tx.run("money.hold_beside", windows=keys, **whose, **amounts)
    await tx.run(
        "money.reserve",
        tier=spend.tier,
        micro_usd_per_kilocredit=spend.micro_usd_per_kilocredit,
        **whose,
        **amounts,
        **named,
    )
    await put_events(tx, [_reserved(tx, payer, spend)])


async def check(tx: Transaction, tenant: str, spend: Spend, zone: tzinfo) -> None:
    """Raise BudgetSpentError where `reserve` would at present; reads alone."""
    await refuse_frozen(tx)
    error = refusal(await standing(tx, zone, tenant, spend.service), spend, tx.now_ms)
    if error is not None:
        raise error


async def refuse_frozen(tx: Transaction) -> None:
    """Raise BudgetSpentError(SPENDING_FROZEN) while an operator has stopped all spending."""
    row = await tx.one("limits.setting", name=FROZEN)
    if row is not None:
        raise BudgetSpentError(
            Code.SPENDING_FROZEN,
            "an operator has stopped all spending",
            Policy(row["value"]),
            retry_after_seconds=_FROZEN_AGAIN_SECONDS,
        )


async def standing(
    tx: Transaction, zone: tzinfo, tenant: str | None = None, service: str | None = None
) -> list[Row]:
    """Give the budgets that hold for a tenant and a service, each with its present window.

    None means all of them. What is not opened yet is summed up.
    """
    rows = await _windows(tx, zone, tenant, service)
    return [row if row["opened"] else {**row, **await _sums(tx, row)} for row in rows]


async def open_window(tx: Transaction, zone: tzinfo, budget_id: str) -> None:
    """Open a budget's present window: one that refuses everything is summed up by nobody else."""
    await _open(tx, [row for row in await _windows(tx, zone) if row["id"] == budget_id])


def refusal(windows: Iterable[Row], spend: Spend, now_ms: int) -> BudgetSpentError | None:
    """Say which hard budgets cannot hold the money, the strictest policy of theirs first."""
    spent = [row for row in windows if row["hard"] and _lacks(row, spend)]
    if not spent:
        return None
    policies = {Policy(row["policy"]) for row in spent}
    policy = next(policy for policy in _STRICTEST if policy in policies)
    names = ", ".join(row["id"] for row in spent)
    # A moment into the next window: one that is taken for its last moment is refused again.
    wait_ms = max(row["end_ms"] for row in spent) - now_ms + 1
    return BudgetSpentError(
        Code.BUDGET_SPENT,
        f"not enough is left of the budget: {names}",
        policy,
        retry_after_seconds=wait_ms / 1000,
    )


def _lacks(row: Row, spend: Spend) -> bool:
    asked = {"micro_usd": spend.micro_usd, "pages": spend.pages, "requests": 1}
    return any(
        row[f"limit_{measure}"] is not None
        and row[f"spent_{measure}"] + row[f"reserved_{measure}"] + amount > row[f"limit_{measure}"]
        for measure, amount in asked.items()
    )


async def _windows(
    tx: Transaction, zone: tzinfo, tenant: str | None = None, service: str | None = None
) -> list[Row]:
    """Give the present windows as they stand in the tables; nothing in those not opened yet."""
    values: dict[str, Any] = {}
    for period in Period:
        window = span(period, tx.now_ms, zone)
        values |= {f"{period}_start": window.start_ms, f"{period}_end": window.end_ms}
    return await tx.all("money.standing", tenant=tenant, service=service, **values)


async def _open(tx: Transaction, windows: Iterable[Row]) -> None:
    for row in windows:
        if not row["opened"]:
            place = {name: row[name] for name in ("start_ms", "end_ms", "scope", "subject")}
            sums = await _sums(tx, row)
            await tx.run("money.open_window", budget_id=row["id"], **place, **sums)


async def _sums(tx: Transaction, row: Row) -> dict[str, int]:
    place = {name: row[name] for name in ("start_ms", "end_ms", "subject")}
    found = await tx.one(f"money.sums_of_{row['scope']}", **place)
    return {} if found is None else dict(found)


def _reserved(tx: Transaction, payer: Payer, spend: Spend) -> Event:
    moment = moment_of(tx.now_ms)
    body = CostReserved(
        payer.job_id,
        payer.tenant,
        payer.attempt,
        spend.service,
        spend.tier,
        moment,
        spend.pages,
        spend.micro_usd,
    )
    event_id = derived_id("cost", "reserved", payer.job_id, payer.attempt)
    return Event(event_id, _SOURCE, moment, body, payer.traceparent)
