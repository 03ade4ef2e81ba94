"""Budgets: what may be spent an hour, a day or a month; set, removed, and all spending frozen."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

import orjson

from schemas.errors import Code, PermanentError
from schemas.ids import is_tenant
from schemas.money import MICRO, Policy, Scope
from schemas.periods import Period
from streams.reservations import FROZEN, open_window
from streams.tables.base import Row, Transaction

MEASURES = ("micro_usd", "pages", "requests")
"""What a budget can limit; its columns are named by these."""

_MOST = {"micro_usd": 1_000_000_000 * MICRO, "pages": 10**12, "requests": 10**12}


@dataclass(frozen=True, slots=True)
class Amounts:
    """What is spent or held, in each measure."""

    micro_usd: int
    pages: int
    requests: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a budget allows in one window; None does not limit."""

    micro_usd: int | None = None
    pages: int | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Whose:
    """The place of a budget: whose spending it limits, and how long its window lasts."""

    scope: Scope
    subject: str
    """The tenant or the service; empty for the deployment."""
    period: Period

    @property
    def id(self) -> str:
        """Name the budget: `deployment/day`, `tenant:acme/month`, `service:llamaparse/hour`."""
        subject = f":{self.subject}" if self.subject else ""
        return f"{self.scope}{subject}/{self.period}"


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget as an operator sets it; a soft one (`hard` false) only tells."""

    whose: Whose
    limits: Limits
    hard: bool = True
    policy: Policy = Policy.REJECT


def read_whose(whose: str, period: str, services: Collection[str]) -> Whose:
    """Read `deployment`, `tenant:NAME` or `service:NAME`, and a period.

    Raise PermanentError(INVALID_REQUEST) for what cannot be; `services` are those that can cost.
    """
    scope, colon, subject = whose.partition(":")
    if period not in Period.__members__.values():
        raise _invalid(f"there is no period {period[:40]!r}; there are: {', '.join(Period)}")
    if scope not in Scope.__members__.values() or bool(colon) is (scope == Scope.DEPLOYMENT):
        raise _invalid("a budget is of `deployment`, `tenant:NAME` or `service:NAME`")
    if scope == Scope.TENANT and not is_tenant(subject):
        raise _invalid(f"{subject[:80]!r} cannot name a tenant")
    if scope == Scope.SERVICE and subject not in services:
        known = ", ".join(sorted(services))
        raise _invalid(f"no service {subject[:80]!r} can cost money; those that can: {known}")
    return Whose(Scope(scope), subject, Period(period))


async def set_budget(tx: Transaction, budget: Budget, who: str, zone: tzinfo) -> bool:
    """Set a budget, and tell whether that changed anything; jobs that it frees are woken.

    Its present window, in a time zone, is opened with what was held and spent before.

    Raise PermanentError(INVALID_REQUEST) for limits that cannot be.
    """
    _check(budget.limits)
    whose = budget.whose
    limits = {f"limit_{name}": getattr(budget.limits, name) for name in MEASURES}
    after = {**limits, "hard": int(budget.hard), "policy": budget.policy.value}
    row = await tx.one("money.budget", id=whose.id)
    before = None if row is None else _settings(row)
    if before == after:
        return False
    place = {"scope": whose.scope.value, "subject": whose.subject, "period": whose.period.value}
    await tx.run("money.set_budget", id=whose.id, **place, **after)
    await open_window(tx, zone, whose.id)
    await _note(tx, whose.id, before, after, who)
    if before is not None and _frees(before, after):
        await tx.run("money.wake_waiting")
    return True


async def remove_budget(tx: Transaction, whose: Whose, who: str) -> bool:
    """Remove a budget with its windows, and tell whether it was there; waiting jobs are woken."""
    row = await tx.one("money.budget", id=whose.id)
    if row is None:
        return False
    await tx.run("money.remove_budget", id=whose.id)
    await tx.run("money.remove_windows", budget_id=whose.id)
    await _note(tx, whose.id, _settings(row), None, who)
    await tx.run("money.wake_waiting")
    return True


async def freeze(tx: Transaction, policy: Policy, who: str) -> bool:
    """Stop all spending, and tell whether that changed anything; what was begun ends."""
    before = await read_frozen(tx)
    if before is policy:
        return False
    await tx.run("limits.set", name=FROZEN, value=policy.value)
    await _change(tx, FROZEN, before, policy.value, who)
    if before is not None:
        await tx.run("money.wake_waiting")
    return True


async def unfreeze(tx: Transaction, who: str) -> bool:
    """Let spending go on, and tell whether it was stopped; waiting jobs are woken."""
    before = await read_frozen(tx)
    if before is None:
        return False
    await tx.run("limits.unset", name=FROZEN)
    await _change(tx, FROZEN, before, None, who)
    await tx.run("money.wake_waiting")
    return True


async def read_frozen(tx: Transaction) -> Policy | None:
    """Give the policy under which all spending is stopped, None where it is not."""
    row = await tx.one("limits.setting", name=FROZEN)
    return None if row is None else Policy(row["value"])


def _check(limits: Limits) -> None:
    given = {name: getattr(limits, name) for name in MEASURES}
    if all(limit is None for limit in given.values()):
        raise _invalid("a budget limits dollars, pages or requests: give at least one")
    for name, limit in given.items():
        if limit is not None and not 0 <= limit <= _MOST[name]:
            raise _invalid(f"a limit of {name} is a whole number from 0 to {_MOST[name]}")


def _frees(before: Row, after: Row) -> bool:
    """Tell whether a job that the budget refused may be served now, or otherwise than before."""
    limits = ((before[f"limit_{name}"], after[f"limit_{name}"]) for name in MEASURES)
    raised = any(old is not None and (new is None or new > old) for old, new in limits)
    return raised or after["hard"] < before["hard"] or after["policy"] != before["policy"]


def _settings(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in (*(f"limit_{m}" for m in MEASURES), "hard", "policy")}


async def _note(
    tx: Transaction, budget: str, before: Row | None, after: Row | None, who: str
) -> None:
    await _change(tx, f"budgets.{budget}", _text(before), _text(after), who)


async def _change(
    tx: Transaction, name: str, before: str | None, after: str | None, who: str
) -> None:
    await tx.run("limits.note_change", name=name, from_value=before, to_value=after, who=who)


def _text(values: Row | None) -> str | None:
    if values is None:
        return None
    given = {name: value for name, value in values.items() if value is not None}
    return orjson.dumps(given).decode()


def _invalid(message: str) -> PermanentError:
    return PermanentError(Code.INVALID_REQUEST, message)
