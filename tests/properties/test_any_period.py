"""Periods of any moment and zone."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from schemas.periods import Period, day_of, read_zone, span, unix_ms

ZONES = (
    *("UTC", "Europe/Berlin", "America/Havana", "America/Los_Angeles"),
    *("Asia/Kolkata", "Asia/Kathmandu", "Pacific/Apia"),
)


MOMENTS = st.integers(
    unix_ms(datetime(2024, 1, 1, tzinfo=UTC)), unix_ms(datetime(2032, 1, 1, tzinfo=UTC))
)


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
