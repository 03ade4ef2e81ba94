"""Bills: what attempts elsewhere cost, said once for each thing that is found out.

released    the attempt has ended, and there is no job elsewhere that could be billed
settled     a job elsewhere was billed, or never will be, or nobody will ever know: the estimate
corrected   a job that was settled is billed otherwise, or one is found after its estimate counted
"""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

from schemas.cost_events import Basis, CostCorrected, CostReleased, CostSettled
from schemas.events import CostInput, Event
from schemas.ids import derived_id, uuid7
from schemas.job import Job
from schemas.money import price_of
from schemas.periods import moment_of
from streams.outbox import put_events
from streams.tables.base import Row, Transaction

Rate = Callable[[str, int], int]
"""Gives the micro-dollars for 1,000 credits of a service at a moment, in unix milliseconds."""

_SOURCE = "/parsewire/billing"
_BASES: dict[str, Basis] = {
    "billed": "billed",
    "unbilled": "unbilled",
    "never_told": "estimated",
}


@dataclass(frozen=True, slots=True)
class _Account:
    """Whose money it is: the attempt, its reservation where one was made, and its day."""

    job: Row
    attempt: int
    service: str
    reservation: Row | None
    booked_ms: int

    @property
    def estimate(self) -> int:
        return self.reservation["micro_usd"] if self.reservation is not None else 0

    @property
    def pages(self) -> int:
        return self.reservation["pages"] if self.reservation is not None else 0

    def fields(self) -> dict[str, Any]:
        """Give what every cost event carries."""
        return {
            "job_id": self.job["id"],
            "tenant": self.job["tenant"],
            "attempt": self.attempt,
            "service": self.service,
            "tier": self.reservation and self.reservation["tier"],
            "booked_at": moment_of(self.booked_ms),
        }


@dataclass(frozen=True, slots=True)
class _Bill:
    outcome: str
    credits: float | None
    micro_usd: int


class Billing:
    """Says what becomes of the money that is held; doing so again changes nothing.

    `rate` prices what was never reserved: the reservation's own price goes first. The parsers in
    `unmetered` send no bills: an attempt costs what was held for it, once.
    """

    def __init__(self, rate: Rate, *, unmetered: Collection[str] = ()) -> None:
        self._rate = rate
        self._unmetered = frozenset(unmetered)

    async def settle(
        self,
        tx: Transaction,
        parser: str,
        vendor_job_id: str,
        outcome: str,
        credits_billed: float | None = None,
    ) -> None:
        """Settle a vendor job, or correct what it was settled at; unknown ones are ignored.

        `outcome` is `billed` with its credits, `unbilled`, or `never_told`: then the estimate
        counts as spent.
        """
        found = await _vendor_job(tx, parser, vendor_job_id)
        if found is None:
            return
        line, account = found
        if parser not in self._unmetered:
            micro_usd = self._amount(account, outcome, credits_billed)
        elif await _is_paid(tx, line):
            # The same call under another name: told of, it would count as a second request.
            named = {"parser": parser, "vendor_job_id": vendor_job_id}
            await tx.run("vendor.settle", **named, **asdict(_Bill("unbilled", None, 0)))
            return
        else:
            micro_usd = account.estimate
        await _book(tx, line, account, _Bill(outcome, credits_billed, micro_usd))

    async def price(
        self, tx: Transaction, service: str, job: Job, credits_billed: float | None
    ) -> int | None:
        """Give what the job's attempt costs, in micro-dollars; None while its bill is unknown."""
        account = await _account(tx, job.id, job.attempt, service, tx.now_ms)
        if account is None:
            return None
        if service in self._unmetered:
            return account.estimate
        return None if credits_billed is None else self._amount(account, "billed", credits_billed)

    async def give_up(self, tx: Transaction, job_id: str, attempt: int) -> None:
        """Book the estimate of an attempt that nobody can ask about any more."""
        held = await _held(tx, job_id, attempt)
        if held is None:
            return
        body = CostSettled(
            **held.fields(),
            vendor_job_id=None,
            basis="estimated",
            pages=held.pages,
            micro_usd=held.estimate,
        )
        await _say(tx, held, _given_up_id(job_id, attempt), body)

    def _amount(self, account: _Account, outcome: str, credits_billed: float | None) -> int:
        if credits_billed is None:
            return account.estimate if outcome == "never_told" else 0
        if account.reservation is not None:
            rate = account.reservation["micro_usd_per_kilocredit"]
        else:
            rate = self._rate(account.service, account.booked_ms)
        return price_of(credits_billed, rate)


async def release(tx: Transaction, job_id: str, attempt: int, reason: str) -> None:
    """Give back what is held for an attempt that has ended without a job elsewhere."""
    held = await _held(tx, job_id, attempt)
    if held is not None:
        body = CostReleased(**held.fields(), reason=reason)
        await _say(tx, held, derived_id("cost", "released", job_id, attempt), body)


async def _book(tx: Transaction, line: Row, account: _Account, bill: _Bill) -> None:
    parser, vendor_job_id = line["parser"], line["vendor_job_id"]
    values = {"parser": parser, "vendor_job_id": vendor_job_id, **asdict(bill)}
    if line["settled_ms"] is None:
        await tx.run("vendor.settle", **values)
        settled = CostSettled(
            **account.fields(),
            vendor_job_id=vendor_job_id,
            basis=_BASES[bill.outcome],
            pages=0 if bill.outcome == "unbilled" else account.pages,
            micro_usd=bill.micro_usd,
            credits=bill.credits,
        )
        await _say(tx, account, derived_id("cost", "settled", parser, vendor_job_id), settled)
        await _take_back(tx, account)
    elif bill.credits is not None and line["credits"] != bill.credits:
        await tx.run("vendor.correct", **values)
        corrected = CostCorrected(
            **account.fields(),
            vendor_job_id=vendor_job_id,
            pages=account.pages if line["outcome"] == "unbilled" else 0,
            micro_usd=bill.micro_usd - (line["micro_usd"] or 0),
            credits=bill.credits,
        )
        await _say(tx, account, uuid7(tx.now_ms), corrected)


async def _take_back(tx: Transaction, account: _Account) -> None:
    """Take back the estimate of an attempt that was given up: its bill has come, and counts."""
    job_id, attempt = account.job["id"], account.attempt
    if await tx.one("money.said", event_id=_given_up_id(job_id, attempt)) is None:
        return
    body = CostCorrected(
        **account.fields(),
        vendor_job_id=None,
        pages=-account.pages,
        micro_usd=-account.estimate,
        credits=0.0,
    )
    await _say(tx, account, derived_id("cost", "taken back", job_id, attempt), body)


def _given_up_id(job_id: str, attempt: int) -> str:
    return derived_id("cost", "given up", job_id, attempt)


async def _is_paid(tx: Transaction, line: Row) -> bool:
    """Tell whether another name of the same attempt's job has cost what was held already."""
    named = (line["parser"], line["attempt"])
    return any(
        (other["parser"], other["attempt"]) == named
        and other["outcome"] in ("billed", "never_told")
        for other in await tx.all("vendor.of_job", job_id=line["job_id"])
        if other["vendor_job_id"] != line["vendor_job_id"]
    )


async def _vendor_job(
    tx: Transaction, parser: str, vendor_job_id: str
) -> tuple[Row, _Account] | None:
    line = await tx.one("vendor.by_id", parser=parser, vendor_job_id=vendor_job_id)
    if line is None:
        return None
    account = await _account(tx, line["job_id"], line["attempt"], parser, line["queued_ms"])
    return None if account is None else (line, account)


async def _held(tx: Transaction, job_id: str, attempt: int) -> _Account | None:
    row = await tx.one("money.reservation", job_id=job_id, attempt=attempt)
    if row is None or row["state"] != "reserved":
        return None
    return await _account(tx, job_id, attempt, row["service"], row["reserved_ms"])


async def _account(
    tx: Transaction, job_id: str, attempt: int, service: str, queued_ms: int
) -> _Account | None:
    job = await tx.one("jobs.by_id", id=job_id)
    if job is None:
        return None
    reservation = await tx.one("money.reservation", job_id=job_id, attempt=attempt)
    booked_ms = queued_ms if reservation is None else reservation["reserved_ms"]
    return _Account(job, attempt, service, reservation, booked_ms)


async def _say(tx: Transaction, account: _Account, event_id: str, body: CostInput) -> None:
    trace = account.job["traceparent"]
    await put_events(tx, [Event(event_id, _SOURCE, moment_of(tx.now_ms), body, trace)])
