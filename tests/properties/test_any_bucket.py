"""Buckets of any rate: no window of time has more calls than burst and rate."""

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.token_bucket import Rate, full_bucket

NOW = 1_800_000_000_000


@settings(max_examples=300, deadline=None)
@given(
    per_minute=st.floats(0.5, 5000),
    burst=st.integers(1, 50),
    gaps=st.lists(st.integers(0, 20_000), min_size=1, max_size=120),
    longest_ms=st.sampled_from([0, 1000, 5000]),
)
def test_no_window_has_more_calls_than_burst_and_rate(
    per_minute: float, burst: int, gaps: list[int], longest_ms: int
) -> None:
    rate = Rate(per_minute, burst)
    bucket, now, starts = full_bucket(NOW, rate), NOW, []
    for gap in gaps:
        now += gap
        taken = bucket.refilled(now, rate).taken()
        wait_ms = taken.wait_ms(rate)
        if wait_ms <= longest_ms:
            bucket = taken
            starts.append(now + wait_ms)
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            # Each start is rounded up to a millisecond, so that two may be one closer.
            allowed = burst + per_minute * (starts[last] - begin + 1) / 60_000
            assert last - first + 1 <= allowed + 1e-3
