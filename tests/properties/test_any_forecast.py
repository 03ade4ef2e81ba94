"""Forecasts at any speed."""

from hypothesis import given
from hypothesis import strategies as st

from streams.durations import bucket_of, quantile


@given(st.floats(0.001, 4_000))
def test_a_quantile_is_at_most_nine_percent_off(seconds: float) -> None:
    found = quantile({bucket_of(seconds): 3}, 0.95)
    assert found is not None
    assert 1 / 1.1 <= found / seconds <= 1.1
