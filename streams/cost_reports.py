"""Cost reports: sums of the days and of jobs, and what is spent and held at present."""

from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from enum import StrEnum

from schemas.errors import Code, PermanentError
from schemas.money import Policy
from schemas.periods import Period, Span, day_of, span
from streams.budgets import Amounts, read_frozen
from streams.tables.base import Row, Transaction

AFTER_ALL_JOBS = "~"
MOST_JOBS = 10_000
_DAYS = 30


class By(StrEnum):
    """What a report sums by."""

    DAY = "day"
    SERVICE = "service"
    TENANT = "tenant"
    TIER = "tier"
    JOB = "job"


@dataclass(frozen=True, slots=True)
class Days:
    """Days of the deployment's time zone, the first and the last within: `2026-11-24`."""

    since: str
    until: str


@dataclass(frozen=True, slots=True)
class InSpan:
    """What was spent in a day or month that is not over, and what is held of it."""

    span: Span
    spent: Amounts
    held: Amounts


@dataclass(frozen=True, slots=True)
class Present:
    """What holds at a moment; `held` is every open reservation, of whichever day."""

    now_ms: int
    day: InSpan
    month: InSpan
    held: Amounts
    frozen: Policy | None


def read_days(since: str | None, until: str | None, now_ms: int, zone: tzinfo) -> Days:
    """Read two days; where they are not given, the 30 days up to the present one.

    Raise PermanentError(INVALID_REQUEST) for what is no day, and for an end before its beginning.
    """
    last = _day("until", until or day_of(now_ms, zone))
    first = (
        _day("since", since) if since else date.fromordinal(max(1, last.toordinal() - _DAYS + 1))
    )
    if first > last:
        raise PermanentError(Code.INVALID_REQUEST, f"since {first} is after until {last}")
    return Days(first.isoformat(), last.isoformat())


async def read_report(tx: Transaction, by: By, days: Days, tenant: str | None) -> list[Row]:
    """Read the sums of days, or those by service, tenant or tier; None is every tenant."""
    if by is By.JOB:
        return await read_jobs(tx, days, tenant, before=AFTER_ALL_JOBS, most=MOST_JOBS)
    values = {"since": days.since, "until": days.until, "tenant": tenant}
    return await tx.all(f"costs.by_{by}", **values)


async def read_jobs(
    tx: Transaction, days: Days, tenant: str | None, *, before: str, most: int
) -> list[Row]:
    """Read what jobs cost, the newest first, from the one before `before` on."""
    return await tx.all(
        "costs.by_job",
        since=days.since,
        until=days.until,
        tenant=tenant,
        before=before,
        most=most,
    )


async def read_present(tx: Transaction, zone: tzinfo, tenant: str | None) -> Present:
    """Read what holds now, of a tenant or of all."""
    return Present(
        tx.now_ms,
        await _in_span(tx, Period.DAY, zone, tenant),
        await _in_span(tx, Period.MONTH, zone, tenant),
        await _held(tx, 0, tenant),
        await read_frozen(tx),
    )


async def _in_span(tx: Transaction, period: Period, zone: tzinfo, tenant: str | None) -> InSpan:
    window = span(period, tx.now_ms, zone)
    days = {"since": day_of(window.start_ms, zone), "until": day_of(window.end_ms - 1, zone)}
    spent = _amounts(await tx.one("costs.total", tenant=tenant, **days))
    return InSpan(window, spent, await _held(tx, window.start_ms, tenant))


async def _held(tx: Transaction, since_ms: int, tenant: str | None) -> Amounts:
    return _amounts(await tx.one("costs.held", since_ms=since_ms, tenant=tenant))


def _amounts(row: Row | None) -> Amounts:
    return Amounts(0, 0, 0) if row is None else Amounts(**row)


def _day(name: str, text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        raise PermanentError(
            Code.INVALID_REQUEST, f"{name} must be a day such as 2026-11-24"
        ) from None
