"""An account at a parser elsewhere, as its address speaks of it when it is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccountTaken:
    """The key is taken there.

    `versions` are those of each tier, the newest first, and `latest` what that word means now;
    `ahead_seconds` tells how far our clock is ahead of theirs, None where theirs is not told.
    """

    versions: Mapping[str, Sequence[str]]
    latest: Mapping[str, str]
    ahead_seconds: float | None


@dataclass(frozen=True, slots=True)
class AccountRefused:
    """The key, or its project, is not taken there; `said` is the other side's word for it."""

    status: int
    said: str


Account = AccountTaken | AccountRefused
