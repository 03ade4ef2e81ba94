"""Jobs as their owners see them: each with what it costs, and until when it waits."""

from collections.abc import Sequence

import orjson

from schemas.http import JobBody, JobCost
from schemas.job import Job, State
from services.gateway.answers import job_body
from streams.tables.base import Transaction


async def job_bodies(tx: Transaction, jobs: Sequence[Job]) -> list[JobBody]:
    """Show jobs; whole pages of them take one question about costs and one about waits."""
    if not jobs:
        return []
    waiting = [job.id for job in jobs if job.state is State.RETRY_WAIT]
    costs, waits = await _costs(tx, [job.id for job in jobs]), await _waits(tx, waiting)
    return [job_body(job, costs.get(job.id, JobCost()), waits.get(job.id)) for job in jobs]


async def _costs(tx: Transaction, job_ids: list[str]) -> dict[str, JobCost]:
    rows = await tx.all("money.costs_of_jobs", job_ids=orjson.dumps(job_ids).decode())
    return {
        row["job_id"]: JobCost(
            row["estimated_micro_usd"], row["reserved_micro_usd"], row["billed_micro_usd"]
        )
        for row in rows
    }


async def _waits(tx: Transaction, job_ids: list[str]) -> dict[str, int]:
    if not job_ids:
        return {}
    rows = await tx.all("costs.steps", job_ids=orjson.dumps(job_ids).decode())
    return {row["job_id"]: row["due_ms"] for row in rows}
