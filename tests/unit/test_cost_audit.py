"""The audit of money: silent where every sum is right, and a finding for each row that is not."""

from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio

from schemas.cost_events import CostCorrected
from schemas.events import ParseQueued
from schemas.money import Scope
from schemas.periods import Period, moment_of
from streams.billing import release
from streams.cost_audit import Finding, audit_costs
from streams.outbox import put_events
from streams.reservations import Payer
from tests.harness import NOW, Desk, claim, event_of, open_memory_desk, queue
from tests.ledger_desk import Ledger
from tests.money_desk import BILLING

MINUTE_MS = 60_000
DIFFER = "the day's sums differ from the ledger's"
RATE = "at 1250000 micro-dollars for 1,000"
ALL_OF_GLOBEX = (
    "spent_micro_usd by -50000, spent_pages by -10, spent_requests by -1, "
    "estimated_micro_usd by -37500, settled_micro_usd by -50000"
)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as desk:
        yield desk


async def found(desk: Desk) -> list[Finding]:
    return await desk.tables.read(audit_costs)


async def corrupt(desk: Desk, statement: str) -> None:
    """Change rows behind everybody's back."""
    assert await desk.sql(f"{statement} RETURNING 1")


async def tell(desk: Desk) -> dict[str, Payer]:
    """Let five attempts be billed more and less, given back, free, and still be under way."""
    ledger = Ledger(desk.tables)
    await ledger.limit()
    await ledger.limit(Scope.TENANT, "acme", Period.MONTH)
    await ledger.limit(Scope.SERVICE, "llamaparse", Period.HOUR)
    cheap, dear, back = await ledger.hold(), await ledger.hold("globex"), await ledger.hold()
    await ledger.settle(cheap, 30_000)
    await ledger.settle(dear, 50_000)
    await ledger.release(back)
    billed = await bill(desk, ledger, 30.0)
    return {"cheap": cheap, "dear": dear, "back": back, "billed": billed, "open": await begin(desk)}


async def begin(desk: Desk) -> Payer:
    """Hold money for an attempt that a worker is at."""
    job = (await desk.upload(100)).job
    await claim(desk, job, intends="llamaparse")
    return await Ledger(desk.tables).hold(job_id=job.id)


async def bill(desk: Desk, ledger: Ledger, credits_billed: float) -> Payer:
    """Hold money for a job elsewhere, and let its bill come."""
    job = await queue(desk)
    payer = await ledger.hold(job_id=job.id)
    await desk.tables.write(
        lambda tx: BILLING.settle(tx, "llamaparse", "v1", "billed", credits_billed)
    )
    await ledger.fold_said()
    return payer


async def test_what_is_right_has_no_findings(desk: Desk) -> None:
    assert await found(desk) == []
    await tell(desk)
    assert await found(desk) == []
    desk.clock.pass_ms(40 * 24 * 60 * MINUTE_MS)
    assert await found(desk) == []


async def test_a_corrected_bill_is_right(desk: Desk) -> None:
    ledger = Ledger(desk.tables)
    await ledger.limit()
    await bill(desk, ledger, 30.0)
    await desk.tables.write(lambda tx: BILLING.settle(tx, "llamaparse", "v1", "billed", 40.0))
    # What the outbox still holds is on its way, and no fault.
    assert await found(desk) == []
    await ledger.fold_said()
    assert await found(desk) == []
    (row,) = await ledger.rows("costs.total", since="2027-01-15", until="2027-01-15", tenant=None)
    assert row["micro_usd"] == 50_000


@pytest.mark.parametrize(
    ("statement", "check", "subject", "says"),
    [
        (
            "UPDATE budget_windows SET spent_micro_usd = 1 WHERE budget_id = 'deployment/day'",
            "windows",
            "deployment/day from 2027-01-15 00:00 UTC",
            "spent_micro_usd is 1, and must be 117500",
        ),
        (
            "UPDATE budget_windows SET reserved_requests = 7 WHERE budget_id = 'tenant:acme/month'",
            "windows",
            "tenant:acme/month from 2027-01-01 00:00 UTC",
            "reserved_requests is 7, and must be 1",
        ),
        (
            "UPDATE budget_windows SET spent_micro_usd = 2 WHERE budget_id = 'tenant:acme/month'",
            "windows",
            "tenant:acme/month from 2027-01-01 00:00 UTC",
            "spent_micro_usd is 2, and must be 67500",
        ),
        (
            "UPDATE budget_windows SET spent_pages = 3 WHERE scope = 'service'",
            "windows",
            "service:llamaparse/hour from 2027-01-15 08:00 UTC",
            "spent_pages is 3, and must be 30",
        ),
        (
            "UPDATE cost_days SET spent_pages = spent_pages + 3 WHERE tenant = 'globex'",
            "days",
            "2027-01-15/globex/llamaparse/cost_effective",
            f"{DIFFER}: spent_pages by +3",
        ),
        (
            "UPDATE cost_days SET estimated_micro_usd = 0 WHERE tenant = 'globex'",
            "days",
            "2027-01-15/globex/llamaparse/cost_effective",
            f"{DIFFER}: estimated_micro_usd by -37500",
        ),
        (
            "UPDATE cost_days SET settled_micro_usd = 7 WHERE tenant = 'globex'",
            "days",
            "2027-01-15/globex/llamaparse/cost_effective",
            f"{DIFFER}: settled_micro_usd by -49993",
        ),
        (
            "DELETE FROM cost_days WHERE tenant = 'globex'",
            "days",
            "2027-01-15/globex/llamaparse/cost_effective",
            f"{DIFFER}: {ALL_OF_GLOBEX}",
        ),
    ],
)
async def test_wrong_sums_are_found(
    desk: Desk, statement: str, check: str, subject: str, says: str
) -> None:
    await tell(desk)
    await corrupt(desk, statement)
    assert await found(desk) == [Finding(check, subject, says)]


async def test_an_end_that_the_ledger_does_not_have_is_found(desk: Desk) -> None:
    payers = await tell(desk)
    await corrupt(desk, "DELETE FROM cost_ledger WHERE kind = 'released'")
    (finding,) = await found(desk)
    assert finding == Finding(
        "reservations",
        f"{payers['back'].job_id} attempt 1",
        "it is released with $0.0375; the ledger held $0.0375 in 1 lines, and gave $0.00 back in 0",
    )


async def test_an_end_of_another_kind_or_twice_is_found(desk: Desk) -> None:
    payers = await tell(desk)
    await corrupt(
        desk,
        f"UPDATE reservations SET state = 'released' WHERE job_id = '{payers['cheap'].job_id}'",
    )
    checks = {(finding.check, finding.subject.partition(" ")[0]) for finding in await found(desk)}
    assert ("reservations", payers["cheap"].job_id) in checks
    await corrupt(
        desk,
        "UPDATE cost_ledger SET reserved_micro_usd = -37500 WHERE kind = 'reserved'"
        f" AND job_id = '{payers['dear'].job_id}'",
    )
    checks = {(finding.check, finding.subject.partition(" ")[0]) for finding in await found(desk)}
    assert ("reservations", payers["dear"].job_id) in checks


async def test_a_reservation_opened_again_is_found(desk: Desk) -> None:
    payers = await tell(desk)
    await corrupt(
        desk,
        "UPDATE reservations SET state = 'reserved', ended_ms = NULL WHERE state = 'released'",
    )
    found_now = {finding.check for finding in await found(desk)}
    assert found_now == {"windows", "reservations"}
    desk.clock.pass_ms(6 * MINUTE_MS)
    left = [finding for finding in await found(desk) if finding.check == "left"]
    assert left == [
        Finding(
            "left",
            f"{payers['back'].job_id} attempt 1",
            "$0.0375 at llamaparse are held, the attempt is over, and nobody will bill for it",
        )
    ]


async def test_money_of_an_attempt_that_is_over_is_found_unless_its_end_is_on_its_way(
    desk: Desk,
) -> None:
    ledger = Ledger(desk.tables)
    payer = await begin(desk)
    job_id = payer.job_id
    desk.clock.pass_ms(60 * MINUTE_MS)
    assert await found(desk) == []
    mine = {"job_id": job_id, "attempt": 1, "stage": "parse", "owner": "w"}
    await desk.tables.write(lambda tx: tx.run("attempts.end", **mine))
    assert await found(desk) == []
    desk.clock.pass_ms(6 * MINUTE_MS)
    assert [finding.check for finding in await found(desk)] == ["left"]
    queued = event_of(ParseQueued(job_id, "acme", 1, "llamaparse", "v1"))
    await desk.tables.write(lambda tx: put_events(tx, [queued]))
    assert await found(desk) == []
    seen = orjson.dumps([queued.id]).decode()
    await desk.tables.write(lambda tx: tx.run("outbox.remove_seen", ids=seen))
    assert [finding.check for finding in await found(desk)] == ["left"]
    await desk.tables.write(lambda tx: release(tx, job_id, 1, "served_here"))
    assert await found(desk) == []
    await ledger.fold_said()


async def test_a_job_elsewhere_that_may_still_be_billed_is_no_fault(desk: Desk) -> None:
    job = await queue(desk)
    await Ledger(desk.tables).hold(job_id=job.id)
    desk.clock.pass_ms(60 * MINUTE_MS)
    assert await found(desk) == []
    await corrupt(desk, "DELETE FROM vendor_jobs")
    (finding,) = await found(desk)
    assert (finding.check, finding.subject) == ("left", f"{job.id} attempt 1")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "UPDATE vendor_jobs SET micro_usd = 37501",
            f"it was billed at $0.037501, for 30 credits {RATE}; the ledger has $0.0375",
        ),
        (
            "UPDATE vendor_jobs SET credits = 31",
            f"it was billed at $0.0375, for 31 credits {RATE}; the ledger has $0.0375",
        ),
        (
            "UPDATE vendor_jobs SET credits = 30.001",
            f"it was billed at $0.0375, for 30.001 credits {RATE}; the ledger has $0.0375",
        ),
    ],
)
async def test_a_bill_that_the_ledger_does_not_have_is_found(
    desk: Desk, statement: str, says: str
) -> None:
    await tell(desk)
    await corrupt(desk, statement)
    assert await found(desk) == [Finding("bills", "llamaparse v1", says)]


async def test_money_spent_that_was_never_held_is_found(desk: Desk) -> None:
    ledger = Ledger(desk.tables)
    # What was billed before money was held at all is no fault.
    await ledger.spend(moment_of(NOW - MINUTE_MS), 5_000)
    await ledger.hold()
    assert await found(desk) == []
    await ledger.spend(moment_of(NOW + MINUTE_MS), 8_000)
    (finding,) = await found(desk)
    assert (finding.check, finding.message) == (
        "unreserved",
        "$0.008 at llamaparse were spent, and never held",
    )


async def test_events_in_the_outbox_are_on_their_way(desk: Desk) -> None:
    payers = await tell(desk)
    payer = payers["cheap"]
    await corrupt(
        desk,
        f"DELETE FROM cost_ledger WHERE kind = 'reserved' AND job_id = '{payer.job_id}'",
    )
    assert [finding.check for finding in await found(desk)] == ["reservations"]
    coming = CostCorrected(
        payer.job_id, "acme", 1, "llamaparse", None, moment_of(NOW), "v9", 0, 0, 0.0
    )
    await desk.tables.write(lambda tx: put_events(tx, [event_of(coming)]))
    assert await found(desk) == []
