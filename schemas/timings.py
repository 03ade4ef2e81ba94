"""Timings: how long the moves of a job wait, and the moment and chance by which they do."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timings:
    """How long the moves wait, in milliseconds."""

    offer_again_ms: int = 30_000
    lease_ms: int = 15_000
    poll_ms: int = 30_000
    retry_base_ms: int = 2_000
    retry_cap_ms: int = 300_000
    erase_ms: int = 0
    settle_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class Clock:
    """The moment of a move and its chance: unix milliseconds UTC, and a number from 0 up to 1."""

    now_ms: int
    chance: Callable[[], float]
    timings: Timings = Timings()

    def backoff_ms(self, failures: int) -> int:
        """Wait exponentially longer with full jitter: up to base, twice base, ... up to the cap."""
        ceiling = min(self.timings.retry_cap_ms, self.timings.retry_base_ms << min(failures, 20))
        return int(self.chance() * ceiling)
