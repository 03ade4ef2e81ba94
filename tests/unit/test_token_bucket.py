"""The token bucket: never more calls than the rate allows, and slower after a refusal."""

from streams.token_bucket import TOKEN, Bucket, Rate, full_bucket

NOW = 1_800_000_000_000


def test_a_full_bucket_gives_its_burst_and_then_owes() -> None:
    rate = Rate(per_minute=20, burst=3)
    bucket, waits = full_bucket(NOW, rate), []
    for _ in range(5):
        bucket = bucket.refilled(NOW, rate).taken()
        waits.append(bucket.wait_ms(rate))
    assert waits == [0, 0, 0, 3000, 6000]


def test_it_fills_at_the_rate_and_no_further_than_the_burst() -> None:
    rate = Rate(per_minute=60, burst=5)
    empty = Bucket(0, NOW)
    assert empty.refilled(NOW + 2500, rate).tokens_micro == 2_500_000
    assert empty.refilled(NOW + 3_600_000, rate).tokens_micro == 5_000_000


def test_a_clock_that_goes_back_gives_nothing() -> None:
    rate = Rate(per_minute=60, burst=5)
    assert Bucket(0, NOW).refilled(NOW - 3_600_000, rate) == Bucket(0, NOW - 3_600_000)


def test_a_smaller_burst_and_rate_hold_at_once() -> None:
    bucket = full_bucket(NOW, Rate(600, 100)).refilled(NOW, Rate(6, 1)).taken()
    assert bucket.tokens_micro == 0
    assert bucket.taken().wait_ms(Rate(6, 1)) == 10_000


def test_a_refusal_drains_and_halves_the_refill_for_a_minute() -> None:
    rate = Rate(per_minute=60, burst=10)
    drained = full_bucket(NOW, rate).drained(NOW)
    assert drained == Bucket(0, NOW, slowed=1, slow_until_ms=NOW + 60_000)
    assert drained.taken().wait_ms(rate) == 2000
    assert drained.refilled(NOW + 4000, rate).tokens_micro == 2 * TOKEN
    later = drained.refilled(NOW + 60_000, rate)
    assert (later.slowed, later.taken().taken().wait_ms(rate)) == (0, 0)


def test_refusals_in_a_row_are_one_and_later_ones_halve_again() -> None:
    rate = Rate(per_minute=60, burst=10)
    bucket = full_bucket(NOW, rate).drained(NOW)
    assert bucket.drained(NOW + 900).slowed == 1
    for at, slowed in ((6_000, 2), (12_000, 3), (18_000, 3)):
        bucket = bucket.drained(NOW + at)
        assert bucket.slowed == slowed
    after = bucket.refilled(NOW + 18_000 + 60_000, rate)
    assert (after.slowed, after.slow_until_ms) == (2, NOW + 138_000)
    assert after.refilled(NOW + 3_600_000, rate).slowed == 0


def test_a_drained_bucket_still_owes_what_waits() -> None:
    owing = Bucket(-2 * TOKEN, NOW)
    assert owing.drained(NOW).tokens_micro == -2 * TOKEN
