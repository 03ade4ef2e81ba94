"""Cost events: what a call may cost at most, what it was billed at, and what was given back."""

from dataclasses import dataclass
from typing import Literal

from schemas.fields import Aware, Count, Credits, Positive

Basis = Literal["billed", "unbilled", "estimated"]
"""Where a settled amount is from: the vendor's bill, a job that bills nothing, or our estimate."""


@dataclass(frozen=True, slots=True)
class CostEvent:
    """What every cost event carries; amounts are whole micro-dollars.

    `booked_at` is the moment of the reservation by the table's clock: the day and the budget
    windows of all that follows from it.
    """

    job_id: str
    tenant: str
    attempt: Positive
    service: str
    tier: str | None
    booked_at: Aware


@dataclass(frozen=True, slots=True)
class CostReserved(CostEvent):
    """Money is held for an attempt: it may cost so much at most, by our estimate."""

    pages: Count
    micro_usd: Count


@dataclass(frozen=True, slots=True)
class CostSettled(CostEvent):
    """A job elsewhere was billed, or never will be: the attempt's reservation ends."""

    vendor_job_id: str | None
    basis: Basis
    pages: Count
    micro_usd: Count
    credits: Credits | None = None


@dataclass(frozen=True, slots=True)
class CostReleased(CostEvent):
    """The attempt has ended, and nobody can bill for it: its reservation is given back."""

    reason: str


@dataclass(frozen=True, slots=True)
class CostCorrected(CostEvent):
    """The vendor changed its bill afterwards, by so much.

    Without a job elsewhere, an estimate that had counted is taken back, and its request with it:
    the bill has come.
    """

    vendor_job_id: str | None
    pages: int
    micro_usd: int
    credits: float
    """The new bill's, whole."""


def spent_by(body: CostEvent) -> tuple[int, int, int]:
    """Give the micro-dollars, pages and requests that an event adds to what is spent."""
    match body:
        case CostSettled():
            return body.micro_usd, body.pages, 1
        case CostCorrected():
            return body.micro_usd, body.pages, -1 if body.vendor_job_id is None else 0
        case _:
            return 0, 0, 0
