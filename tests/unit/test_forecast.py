"""The forecast, and durations in buckets."""

import pytest

from schemas.periods import Span
from streams.durations import bucket_of, quantile
from streams.forecast import Forecast, forecast

HOUR = 3_600_000
DAY = Span(0, 24 * HOUR)


def test_the_recent_rate_goes_on_for_the_time_that_is_left() -> None:
    found = forecast(6_000, DAY, 18 * HOUR, recent_micro_usd=1_000)
    assert found == Forecast(6_000, 1_000, 12_000)


def test_without_a_recent_rate_the_windows_own_mean_goes_on() -> None:
    assert forecast(6_000, DAY, 6 * HOUR) == Forecast(6_000, 1_000, 24_000)


def test_money_does_not_flow_back() -> None:
    assert forecast(500, DAY, 6 * HOUR, recent_micro_usd=-900) == Forecast(500, 0, 500)


@pytest.mark.parametrize("now", [24 * HOUR, 30 * HOUR])
def test_a_window_that_has_ended_is_forecast_as_it_is(now: int) -> None:
    assert forecast(500, DAY, now, recent_micro_usd=900).at_end_micro_usd == 500


def test_at_its_first_moment_a_window_costs_nothing_yet() -> None:
    assert forecast(0, DAY, 0) == Forecast(0, 0, 0)


def test_quantiles_of_many_and_of_none() -> None:
    buckets = {bucket_of(0.1): 90, bucket_of(10): 10}
    median, last = quantile(buckets, 0.5), quantile(buckets, 0.95)
    assert median == pytest.approx(0.1, rel=0.1)
    assert last == pytest.approx(10, rel=0.1)
    assert quantile({}, 0.5) is None


def test_a_bucket_holds_whatever_is_shorter_or_longer_than_all() -> None:
    assert bucket_of(0) == bucket_of(0.001) == 0
    assert bucket_of(1e9) == bucket_of(1e12) == 88
