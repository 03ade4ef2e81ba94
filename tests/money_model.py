"""A second book-keeper: what budgets hold and have spent, reckoned without the tables."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MEASURES = ("micro_usd", "pages", "requests")

MICRO_USD_PER_CREDIT = 1_250

UNMETERED = ("callback",)
"""Services that send no bills: a call costs what was held for it."""


@dataclass(slots=True)
class Held:
    """What was held for an attempt, and what has become of it."""

    job_id: str
    attempt: int
    tenant: str
    service: str
    at_ms: int
    pages: int
    micro_usd: int
    open: bool = True
    given_back: bool = False
    given_up: bool = False
    credits: int | None = None
    outcome: str | None = None
    booked_micro_usd: int = 0

    @property
    def vendor_job_id(self) -> str:
        """Name the job elsewhere that this attempt would make."""
        return f"{self.job_id}-{self.attempt}"

    def amounts(self) -> tuple[int, int, int]:
        """Give micro-dollars, pages and requests."""
        return self.micro_usd, self.pages, 1


@dataclass(frozen=True, slots=True)
class Line:
    """What an event must do once it is read: end a reservation, or spend, or both."""

    held: Held
    ends: bool = False
    spent: tuple[int, int, int] = (0, 0, 0)


@dataclass(slots=True)
class Book:
    """All that was held and spent."""

    holds: list[Held] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def give_up(self, held: Held) -> list[Line]:
        """Tell what must be said when the estimate counts, since nobody can be asked."""
        if held.given_up or not held.open:
            return []
        held.given_up = True
        return [Line(held, ends=True, spent=held.amounts())]

    def settle(self, held: Held, outcome: str, credits_billed: int | None) -> list[Line]:
        """Tell what a settling of the attempt's job elsewhere must say."""
        amount = held.micro_usd if outcome == "never_told" else 0
        if credits_billed is not None:
            amount = credits_billed * MICRO_USD_PER_CREDIT
        if held.service in UNMETERED:
            amount = held.micro_usd
        if held.outcome is None:
            pages = 0 if outcome == "unbilled" else held.pages
            lines = [Line(held, ends=True, spent=(amount, pages, 1))]
            if held.given_up:
                lines.append(Line(held, spent=(-held.micro_usd, -held.pages, -1)))
        elif credits_billed is not None and credits_billed != held.credits:
            pages = held.pages if held.outcome == "unbilled" else 0
            lines = [Line(held, spent=(amount - held.booked_micro_usd, pages, 0))]
        else:
            return []
        held.outcome, held.credits, held.booked_micro_usd = outcome, credits_billed, amount
        return lines

    def read(self, line: Line) -> None:
        """Do what an event does, the first time that it is read."""
        self.lines.append(line)
        if line.ends:
            line.held.open = False

    def window(self, row: Any) -> dict[str, int]:
        """Give what the window of a budget must show."""
        held = [each.amounts() for each in self.holds if each.open and _counts(each, row)]
        spent = [line.spent for line in self.lines if _counts(line.held, row)]
        return _sums("reserved", held) | _sums("spent", spent)

    def left(self, rows: Iterable[Any]) -> int:
        """Give the most micro-dollars that all hard budgets have left; 0 without any."""
        lefts = []
        for row in rows:
            if row["hard"] and row["limit_micro_usd"] is not None:
                sums = self.window(row)
                committed = sums["reserved_micro_usd"] + sums["spent_micro_usd"]
                lefts.append(row["limit_micro_usd"] - committed)
        return max(0, min(lefts, default=0))

    def lacks(self, row: Any, amounts: tuple[int, int, int]) -> bool:
        """Tell whether a hard budget has no room for so much."""
        sums = self.window(row)
        return bool(row["hard"]) and any(
            row[f"limit_{name}"] is not None
            and sums[f"reserved_{name}"] + sums[f"spent_{name}"] + amount > row[f"limit_{name}"]
            for name, amount in zip(MEASURES, amounts, strict=True)
        )


def _counts(held: Held, row: Any) -> bool:
    subject = {"deployment": "", "tenant": held.tenant, "service": held.service}[row["scope"]]
    return row["subject"] == subject and held.at_ms in range(row["start_ms"], row["end_ms"])


def _sums(kind: str, found: Iterable[tuple[int, int, int]]) -> dict[str, int]:
    columns = list(zip(*found, strict=True)) or [(), (), ()]
    return {f"{kind}_{name}": sum(col) for name, col in zip(MEASURES, columns, strict=True)}
