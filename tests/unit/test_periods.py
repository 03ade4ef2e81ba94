"""Periods: hours, days and months of a time zone, over its changes of the clock."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from schemas.periods import Period, Span, span, unix_ms


def ms(text: str) -> int:
    return unix_ms(datetime.fromisoformat(f"{text}+00:00"))


@pytest.mark.parametrize(
    ("zone", "period", "at", "start", "end"),
    [
        ("UTC", "month", "2028-02-29T23:59", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("UTC", "month", "2027-12-31T12:00", "2027-12-01T00:00", "2028-01-01T00:00"),
        ("Europe/Berlin", "day", "2027-03-28T12:00", "2027-03-27T23:00", "2027-03-28T22:00"),
        ("Europe/Berlin", "day", "2027-10-31T12:00", "2027-10-30T22:00", "2027-10-31T23:00"),
        ("Europe/Berlin", "month", "2027-03-28T12:00", "2027-02-28T23:00", "2027-03-31T22:00"),
        ("Europe/Berlin", "month", "2027-10-01T12:00", "2027-09-30T22:00", "2027-10-31T23:00"),
        # The clock shows 02:30 twice.
        ("Europe/Berlin", "hour", "2027-10-31T00:30", "2027-10-31T00:00", "2027-10-31T01:00"),
        ("Europe/Berlin", "hour", "2027-10-31T01:30", "2027-10-31T01:00", "2027-10-31T02:00"),
        # The day has no midnight; and one that has two.
        ("America/Havana", "day", "2027-03-14T12:00", "2027-03-14T05:00", "2027-03-15T04:00"),
        ("America/Havana", "day", "2027-11-07T12:00", "2027-11-07T04:00", "2027-11-08T05:00"),
        ("Asia/Kolkata", "hour", "2027-01-15T08:00", "2027-01-15T07:30", "2027-01-15T08:30"),
    ],
)
def test_a_window_over_a_change_of_the_clock(
    zone: str, period: str, at: str, start: str, end: str
) -> None:
    assert span(Period(period), ms(at), ZoneInfo(zone)) == Span(ms(start), ms(end))
