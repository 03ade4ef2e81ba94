"""Periods: the hours, days and months by which budgets and reports count, in a time zone."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo


class Period(StrEnum):
    """How long a budget's window lasts."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Span:
    """A window: from its start up to its end, in unix milliseconds UTC."""

    start_ms: int
    end_ms: int


def span(period: Period, at_ms: int, zone: tzinfo) -> Span:
    """Give the window that a moment lies in; a day may have 23 or 25 hours."""
    local = datetime.fromtimestamp(at_ms / 1000, zone)
    if period is Period.HOUR:
        # Reckoned in UTC: the hour that a clock shows twice is two hours.
        into = timedelta(minutes=local.minute, seconds=local.second)
        start = local.astimezone(UTC).replace(microsecond=0) - into
        return Span(unix_ms(start), unix_ms(start + timedelta(hours=1)))
    begin = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if period is Period.DAY:
        return Span(unix_ms(begin), unix_ms(begin + timedelta(days=1)))
    first = begin.replace(day=1)
    after = (first + timedelta(days=32)).replace(day=1)
    return Span(unix_ms(first), unix_ms(after))


def moment_of(at_ms: int) -> datetime:
    """Give a moment in unix milliseconds as a time in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def unix_ms(moment: datetime) -> int:
    """Give a time in unix milliseconds: the same number that `moment_of` was given."""
    return round(moment.timestamp() * 1000)


def day_of(at_ms: int, zone: tzinfo) -> str:
    """Name the day of a moment, `2026-11-24`."""
    return datetime.fromtimestamp(at_ms / 1000, zone).date().isoformat()


def read_zone(name: str) -> tzinfo:
    """Find a time zone by its IANA name; raise ValueError for one that is not known here."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # zoneinfo raises KeyError for names it does not know, and OSError for folders.
        raise ValueError(f"no time zone {name!r} is known here (needs tzdata?)") from None
