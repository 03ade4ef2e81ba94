"""A day of 10,000 jobs, its cost events doubled and reordered: the sums are those of the hand."""

import random
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any

from schemas.cost_events import CostCorrected, CostReleased, CostReserved, CostSettled
from schemas.events import CostInput
from schemas.ids import derived_id
from schemas.money import Spend
from schemas.periods import moment_of
from streams.cost_audit import audit_costs
from streams.costs import Costs
from streams.reservations import Payer, reserve
from tests.harness import NOW, event_of, open_desk
from tests.money_desk import KILOCREDIT, costs_of_day

HOUR_MS = 3_600_000


def events_of_job(number: int) -> tuple[str, Spend, int, list[CostInput]]:
    """Play a job: every 10th released, every 7th corrected by +10 credits, every 100th unbilled."""
    job_id, pages = f"job-{number}", number % 20 + 1
    at_ms = NOW - 8 * HOUR_MS + number * 8_640
    spend = Spend("llamaparse", "agentic", pages, pages * 12_500, KILOCREDIT)
    common: dict[str, Any] = {
        "job_id": job_id,
        "tenant": f"tenant-{number % 3}",
        "attempt": 1,
        "service": "llamaparse",
        "tier": "agentic",
        "booked_at": moment_of(at_ms),
    }
    if number % 10 == 0:
        return job_id, spend, at_ms, [CostReleased(**common, reason="circuit_open")]
    billed = 0 if number % 100 == 1 else pages * 12_500
    named: dict[str, Any] = {"vendor_job_id": f"v-{number}"}
    end = CostSettled(
        **common, **named, basis="billed", pages=pages, micro_usd=billed, credits=billed / 1_250
    )
    if number % 7:
        return job_id, spend, at_ms, [end]
    more = CostCorrected(**common, **named, pages=0, micro_usd=12_500, credits=billed / 1_250 + 10)
    return job_id, spend, at_ms, [end, more]


async def test_a_day_of_ten_thousand_jobs_doubled_and_reordered(tmp_path: Path) -> None:
    """Number n has n % 20 + 1 pages of 10 credits each; 10,000 of them fill 2027-01-15 UTC."""
    chance = random.Random(27)
    played = [events_of_job(number) for number in range(10_000)]

    async with open_desk(tmp_path) as desk:
        for number, (job_id, spend, at_ms, _) in enumerate(played):
            desk.clock.now_ms = at_ms
            who = Payer(job_id, f"tenant-{number % 3}", 1, None)
            await desk.tables.write(partial(reserve, payer=who, spend=spend, zone=UTC))
        desk.said()
        stream = [
            event_of(body, derived_id("day", job_id, n))
            for job_id, _, _, bodies in played
            for n, body in enumerate(bodies)
        ]
        stream += desk.costs
        stream += chance.sample(stream, 5_000)
        chance.shuffle(stream)
        for start in range(0, len(stream), 700):
            part = stream[start : start + 700]
            await desk.tables.write(partial(Costs(UTC).apply, events=part))

        # Pages of all: 500 rounds of 1 + 2 + ... + 20 = 105,000. Released are those that end in 0:
        # each round of 20 loses its 1st and 11th, 1 + 11 pages: 500 x 12 = 6,000. Billed at nothing
        # are 1, 101, ... 9,901: 100 of them with 2 pages each. Corrected are the multiples of 7
        # that do not end in 0: 1,429 - 143 = 1,286.
        (day,) = await costs_of_day(desk)
        assert day["spent_pages"] == 105_000 - 6_000
        assert day["spent_requests"] == 9_000
        assert day["spent_micro_usd"] == (105_000 - 6_000 - 200 + 1_286) * 12_500
        assert day["estimated_micro_usd"] == (105_000 - 6_000) * 12_500
        assert day["settled_micro_usd"] == (105_000 - 6_000 - 200) * 12_500
        tenants = await costs_of_day(desk, "tenant")
        assert [row["name"] for row in tenants] == ["tenant-0", "tenant-1", "tenant-2"]
        assert sum(row["spent_micro_usd"] for row in tenants) == day["spent_micro_usd"]
        (held,) = await desk.rows("costs.held", since_ms=0, tenant=None)
        assert held["requests"] == 0
        assert sum(isinstance(event.body, CostReserved) for event in desk.costs) == 10_000
        assert await desk.tables.read(audit_costs) == []
