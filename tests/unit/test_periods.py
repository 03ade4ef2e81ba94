"""Periods: hours, days and months of a time zone, over its changes of the clock."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.periods import Period, Span, day_of, read_zone, span, unix_ms

ZONES = (
    *("UTC", "Europe/Berlin", "America/Havana", "America/Los_Angeles"),
    *("Asia/Kolkata", "Asia/Kathmandu", "Pacific/Apia"),
)

MOMENTS = st.integers(
    unix_ms(datetime(2024, 1, 1, tzinfo=UTC)), unix_ms(datetime(2032, 1, 1, tzinfo=UTC))
)


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


@given(at_ms=MOMENTS, zone=st.sampled_from(ZONES), period=st.sampled_from(list(Period)))
def test_each_moment_lies_in_one_window_and_the_next_begins_where_it_ends(
    at_ms: int, zone: str, period: Period
) -> None:
    where = read_zone(zone)
    found = span(period, at_ms, where)
    assert found.start_ms <= at_ms < found.end_ms
    assert span(period, found.start_ms, where) == span(period, found.end_ms - 1, where) == found
    assert span(period, found.end_ms, where).start_ms == found.end_ms
    assert span(period, found.start_ms - 1, where).end_ms == found.start_ms


@given(at_ms=MOMENTS, zone=st.sampled_from(ZONES))
def test_a_days_name_is_that_of_all_its_moments(at_ms: int, zone: str) -> None:
    where = read_zone(zone)
    found = span(Period.DAY, at_ms, where)
    first, last = day_of(found.start_ms, where), day_of(found.end_ms - 1, where)
    assert first == day_of(at_ms, where) == last
    assert day_of(found.end_ms, where) != last
