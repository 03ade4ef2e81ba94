"""Money: whole micro-dollars, what a call may cost, and what a spent budget means."""

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

MICRO = 1_000_000
"""Micro-dollars in a dollar."""

_USD = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?", re.ASCII)


class Policy(StrEnum):
    """What becomes of a document when a budget is spent."""

    REJECT = "reject"
    """It is refused: 402 at the upload, else the job fails with `budget_spent`."""
    WAIT = "wait"
    """It waits for the budget's next window."""
    LOCAL = "local"
    """The parser of this machine serves where it can; else it waits."""


class Scope(StrEnum):
    """Whose spending a budget limits."""

    DEPLOYMENT = "deployment"
    TENANT = "tenant"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Spend:
    """What one call of a service may cost at most; its price is kept for the bill."""

    service: str
    tier: str | None
    pages: int
    micro_usd: int
    micro_usd_per_kilocredit: int


def price_of(billed_credits: float, micro_usd_per_kilocredit: int) -> int:
    """Give what so many credits cost, in micro-dollars, halves rounded to even."""
    return round(Fraction(billed_credits) * micro_usd_per_kilocredit / 1000)


def usd(micro_usd: int) -> str:
    """Write an amount as a decimal number of dollars: `1.25`, `0.00375`; cents at least."""
    return dollars(micro_usd).replace("$", "")


def read_usd(text: str) -> int:
    """Read a decimal number of dollars, to the micro-dollar; raise ValueError for any other."""
    found = _USD.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no amount of dollars: write it as 12 or 12.50")
    whole, places = found.groups()
    return int(whole) * MICRO + int((places or "").ljust(6, "0"))


def dollars(micro_usd: int) -> str:
    """Write an amount as people read it: `$1.25`, `$0.00375`; cents at least."""
    sign, rest = ("-", -micro_usd) if micro_usd < 0 else ("", micro_usd)
    whole, micro = divmod(rest, MICRO)
    places = f"{micro:06d}"
    return f"{sign}${whole}.{places[:2]}{places[2:].rstrip('0')}"
