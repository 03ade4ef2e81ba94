"""The audit of money: budgets, days, reservations and bills held against the ledger."""

from collections.abc import Callable
from dataclasses import dataclass

from schemas.money import dollars
from schemas.periods import moment_of
from streams.tables.base import Row, Transaction

GRACE_MS = 300_000
"""How long an ended attempt's money may be held: the sweep that gives it back comes by then."""

_MOST = 100
_WINDOW = tuple(
    f"{kind}_{measure}"
    for kind in ("spent", "reserved")
    for measure in ("micro_usd", "pages", "requests")
)
_DAY = (*_WINDOW[:3], "estimated_micro_usd", "settled_micro_usd")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: which check found it, where, and what it saw."""

    check: str
    subject: str
    message: str


async def audit_costs(tx: Transaction, *, grace_ms: int = GRACE_MS) -> list[Finding]:
    """Check all money on one snapshot, up to 100 findings a check; none means that all is right."""
    found: list[Finding] = []
    for check, find in _CHECKS.items():
        values = {"before_ms": tx.now_ms - grace_ms, "most": _MOST}
        found += [find(check, row) for row in await tx.all(f"audit.{check}", **values)]
    return found


def _window(check: str, row: Row) -> Finding:
    wrong = ", ".join(
        f"{name} is {row[name]}, and must be {row[f'true_{name}']}"
        for name in _WINDOW
        if row[name] != row[f"true_{name}"]
    )
    begun = moment_of(row["start_ms"])
    return Finding(check, f"{row['budget_id']} from {begun:%Y-%m-%d %H:%M} UTC", wrong)


def _day(check: str, row: Row) -> Finding:
    place = "/".join((row["day"], row["tenant"], row["service"], row["tier"] or "-"))
    wrong = ", ".join(f"{name} by {row[name]:+}" for name in _DAY if row[name])
    return Finding(check, place, f"the day's sums differ from the ledger's: {wrong}")


def _reservation(check: str, row: Row) -> Finding:
    by = f" by a line that is {row['ended_by']}" if row["ended_by"] else ""
    return Finding(
        check,
        _attempt(row),
        f"it is {row['state']} with {dollars(row['micro_usd'])}; the ledger held "
        f"{dollars(row['held_micro_usd'])} in {row['holds']} lines, and gave "
        f"{dollars(row['back_micro_usd'])} back in {row['backs']}{by}",
    )


def _left(check: str, row: Row) -> Finding:
    held = f"{dollars(row['micro_usd'])} at {row['service']}"
    return Finding(
        check, _attempt(row), f"{held} are held, the attempt is over, and nobody will bill for it"
    )


def _bill(check: str, row: Row) -> Finding:
    credited = ""
    if row["micro_usd_per_kilocredit"] is not None and row["credits"] is not None:
        rate = row["micro_usd_per_kilocredit"]
        credited = f", for {row['credits']:g} credits at {rate} micro-dollars for 1,000"
    return Finding(
        check,
        f"{row['parser']} {row['vendor_job_id']}",
        f"it was {row['outcome']} at {dollars(row['micro_usd'])}{credited}; "
        f"the ledger has {dollars(row['booked_micro_usd'])}",
    )


def _unreserved(check: str, row: Row) -> Finding:
    spent = f"{dollars(row['micro_usd'])} at {row['service']}"
    return Finding(check, _attempt(row), f"{spent} were spent, and never held")


def _attempt(row: Row) -> str:
    return f"{row['job_id']} attempt {row['attempt']}"


_CHECKS: dict[str, Callable[[str, Row], Finding]] = {
    "windows": _window,
    "days": _day,
    "reservations": _reservation,
    "left": _left,
    "bills": _bill,
    "unreserved": _unreserved,
}
"""Each check by its query in `sql/audit.sql`."""
