"""Durations in fixed logarithmic buckets: counts that add up, and quantiles told from them.

A bucket ends a quarter of an octave above its start, so a quantile is at most 9 % off, however
many processes and restarts it was counted over.
"""

import math
from collections.abc import Mapping

_LEAST_SECONDS = 0.001
_A_DOUBLING = 4
"""Buckets from a duration to twice of it."""

_MOST_BUCKETS = 88
"""The last one begins at 70 minutes and holds all that is longer."""


def bucket_of(seconds: float) -> int:
    """Number the bucket of a duration; 0 holds all up to a millisecond."""
    if seconds <= _LEAST_SECONDS:
        return 0
    return min(_MOST_BUCKETS, math.ceil(math.log2(seconds / _LEAST_SECONDS) * _A_DOUBLING))


def quantile(buckets: Mapping[int, int], share: float) -> float | None:
    """Give the duration that `share` of them do not pass, in seconds; None of nothing."""
    rank = math.ceil(sum(buckets.values()) * share)
    for bucket in sorted(buckets):
        rank -= buckets[bucket]
        if rank <= 0:
            return _middle(bucket)
    return None


def _middle(bucket: int) -> float:
    """Give the geometric middle of a bucket, which is off by as much above as below."""
    if bucket == 0:
        return _LEAST_SECONDS
    return float(_LEAST_SECONDS * 2 ** ((bucket - 0.5) / _A_DOUBLING))
