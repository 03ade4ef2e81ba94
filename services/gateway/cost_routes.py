"""Costs over HTTP: at present, by day, service, tenant, tier or job, and what is to come.

A tenant's key shows its own money; an operator's everybody's, or one tenant's.
"""

from collections.abc import Collection

from aiohttp import web

from schemas.errors import Code
from schemas.ids import is_tenant, is_uuid
from schemas.money_bodies import CostsBody
from services.cost_csv import costs_csv
from services.cost_report import read_costs, read_forecasts, read_job_costs, read_now
from services.gateway.answers import answer
from services.gateway.parts import PARTS
from services.gateway.problems import RefusedError
from services.keys import Key, Role
from streams.cost_reports import AFTER_ALL_JOBS, MOST_JOBS, By, read_days
from streams.tables.base import Transaction

_PAGE = 200
_FORMATS = ("json", "csv")
_REPORT = ("by", "since", "until", "tenant", "format", "before", "limit")


async def show_costs(request: web.Request, key: Key) -> web.Response:
    """Show what is spent and held at present; with `by`, a report on days."""
    check_parameters(request, _REPORT)
    tenant = tenant_of(request, key)
    parts = request.app[PARTS]
    wanted = request.query.get("by")
    form = _one_of("format", request.query.get("format", "json"), _FORMATS)
    if wanted is None:
        stray = [name for name in request.query if name != "tenant"]
        if stray and not (stray == ["format"] and form == "json"):
            raise _invalid(f"{stray[0]} needs by, one of: {', '.join(By)}")
        return answer(await parts.tables.read(lambda tx: read_now(tx, parts.zone, tenant)))
    by = By(_one_of("by", wanted, list(By)))
    since, until = request.query.get("since"), request.query.get("until")
    before, limit = _page(request, by)

    async def report(tx: Transaction) -> CostsBody:
        days = read_days(since, until, tx.now_ms, parts.zone)
        if by is not By.JOB:
            return await read_costs(tx, by, days, parts.zone, tenant)
        return await read_job_costs(tx, days, parts.zone, tenant, before=before, limit=limit)

    body = await parts.tables.read(report)
    return answer(body) if form == "json" else _csv(body)


async def show_forecast(request: web.Request, key: Key) -> web.Response:
    """Show what today, this month and each budget will have cost at the present rate."""
    check_parameters(request, ("tenant",))
    tenant = tenant_of(request, key)
    parts = request.app[PARTS]
    return answer(await parts.tables.read(lambda tx: read_forecasts(tx, parts.zone, tenant)))


def tenant_of(request: web.Request, key: Key) -> str | None:
    """Tell whose money the key shows: an operator's everybody's (None), unless one is named."""
    named = request.query.get("tenant")
    if key.role is Role.OPERATOR:
        if named is not None and not is_tenant(named):
            raise _invalid(f"{named[:80]!r} cannot name a tenant")
        return named
    if named not in (None, key.tenant):
        raise RefusedError(Code.FORBIDDEN, "another tenant's costs are for operators")
    return key.tenant


def check_parameters(request: web.Request, known: Collection[str]) -> None:
    """Raise RefusedError for a parameter that there is not: a slip must not widen a report."""
    for name in request.query:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise _invalid(f"there is no parameter {name[:40]!r}; known are: {listed}")


def _page(request: web.Request, by: By) -> tuple[str, int]:
    if by is not By.JOB and not request.query.keys().isdisjoint(("before", "limit")):
        raise _invalid("before and limit are for by=job")
    before = request.query.get("before", AFTER_ALL_JOBS)
    if before != AFTER_ALL_JOBS and not is_uuid(before):
        raise _invalid("before must be the id that a page gave as next")
    text = request.query.get("limit", str(_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MOST_JOBS):
        raise _invalid(f"limit must be a whole number from 1 to {MOST_JOBS}")
    return before, int(text)


def _csv(body: CostsBody) -> web.Response:
    name = f"parsewire-costs-by-{body.by}-{body.since}-to-{body.until}.csv"
    headers = {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
    }
    if body.next is not None:
        headers["X-Next-Before"] = body.next
    return web.Response(text=costs_csv(body), headers=headers)


def _one_of(name: str, value: str, known: Collection[str]) -> str:
    if value not in known:
        raise _invalid(f"there is no {name} {value[:40]!r}; there are: {', '.join(known)}")
    return value


def _invalid(message: str) -> RefusedError:
    return RefusedError(Code.INVALID_REQUEST, message)
