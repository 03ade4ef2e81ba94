"""A token bucket: how many calls may start, and when the next one may."""

import math
from dataclasses import dataclass, replace

TOKEN = 1_000_000
"""Micro-tokens of one call."""

SLOWED_MS = 60_000
"""How long each halving of the refill lasts."""

_MOST_SLOWED = 3
_SAME_REFUSAL_MS = 5_000
"""Refusals this close together are one: the calls under way are refused in a row."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What an account allows: calls in a minute on average, and at once."""

    per_minute: float
    burst: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens at a moment of the table's clock; below 0 they are owed to calls that wait."""

    tokens_micro: int
    refilled_ms: int
    slowed: int = 0
    """How often the refill is halved."""
    slow_until_ms: int = 0

    def refilled(self, now_ms: int, rate: Rate) -> "Bucket":
        """Add what has flowed in since; a clock that went back adds nothing."""
        elapsed_ms = max(0, now_ms - self.refilled_ms)
        flowed = elapsed_ms * self._micro_per_minute(rate) // 60_000
        tokens = min(rate.burst * TOKEN, self.tokens_micro + flowed)
        slowed, until_ms = self.slowed, self.slow_until_ms
        if slowed and now_ms >= until_ms:
            steps = 1 + (now_ms - until_ms) // SLOWED_MS
            slowed, until_ms = max(0, slowed - steps), until_ms + steps * SLOWED_MS
        return Bucket(tokens, now_ms, slowed, until_ms if slowed else 0)

    def taken(self, tokens: int = 1) -> "Bucket":
        """Take tokens, or owe them."""
        return replace(self, tokens_micro=self.tokens_micro - tokens * TOKEN)

    def wait_ms(self, rate: Rate) -> int:
        """Tell when what is owed has flowed in; 0 where nothing is."""
        return math.ceil(max(0, -self.tokens_micro) * 60_000 / self._micro_per_minute(rate))

    def drained(self, now_ms: int) -> "Bucket":
        """Take every token away, and halve the refill: the other side refused a call."""
        tokens = min(0, self.tokens_micro)
        if self.slowed and now_ms - (self.slow_until_ms - SLOWED_MS) < _SAME_REFUSAL_MS:
            return replace(self, tokens_micro=tokens)
        slowed = min(_MOST_SLOWED, self.slowed + 1)
        return Bucket(tokens, self.refilled_ms, slowed, now_ms + SLOWED_MS)

    def _micro_per_minute(self, rate: Rate) -> int:
        return max(1, int(rate.per_minute * TOKEN) >> self.slowed)


def full_bucket(now_ms: int, rate: Rate) -> Bucket:
    """Make the bucket of an account that nobody has called yet."""
    return Bucket(rate.burst * TOKEN, now_ms)
