"""The books of a deployment beside LlamaCloud's double: all settled, and what they must show."""

from streams.cost_audit import audit_costs
from tests.cloud_desk import CloudDesk

HALF_HOUR_MS = 1_800_000
MOST_HALF_HOURS = 60
MICRO_USD_PER_CREDIT = 1_250


async def settle_all(desk: CloudDesk) -> None:
    """Let the hours pass in which bills come, until no money is held and nothing is said of it."""
    for _ in range(MOST_HALF_HOURS):
        desk.clock.pass_ms(HALF_HOUR_MS)
        for _ in range(10):
            await desk.pass_second()
        ((unsettled, kept_there, held, said),) = await desk.sql(
            "SELECT (SELECT count(*) FROM vendor_jobs WHERE settled_ms IS NULL),"
            " (SELECT count(*) FROM vendor_jobs WHERE kept_there),"
            " (SELECT count(*) FROM reservations WHERE state = 'reserved'),"
            " (SELECT count(*) FROM outbox)"
        )
        if not (unsettled or kept_there or held or said):
            return
    raise AssertionError((unsettled, kept_there, held, said))


async def check_money(desk: CloudDesk, *, most_untold: int) -> None:
    """The ledger is what LlamaCloud says that it billed, and the audit finds nothing."""
    account = desk.cloud.account
    spent = await desk.sql(
        "SELECT vendor_job_id, sum(spent_micro_usd) FROM cost_ledger"
        " WHERE vendor_job_id IS NOT NULL GROUP BY vendor_job_id"
    )
    untold = {
        row[0]
        for row in await desk.sql(
            "SELECT vendor_job_id FROM vendor_jobs WHERE outcome = 'never_told'"
        )
    }
    told = {name: micro_usd for name, micro_usd in spent if name not in untold and micro_usd}
    assert told == {
        name: credits_billed * MICRO_USD_PER_CREDIT
        for name, credits_billed in account.items()
        if name not in untold and credits_billed
    }
    # Those are booked at their estimate, which is never too low.
    assert {micro_usd for name, micro_usd in spent if name in untold} <= {3_750}
    assert len(untold) <= most_untold
    given_up = "SELECT * FROM cost_ledger WHERE kind = 'settled' AND vendor_job_id IS NULL"
    assert await desk.sql(given_up) == []
    assert desk.cloud.jobs == {}
    assert await desk.tables.read(lambda tx: audit_costs(tx, grace_ms=0)) == []
