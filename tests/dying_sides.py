"""Deployments whose worker kills itself at a point, and what is found once another has gone on."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any, NamedTuple

from schemas.money import Scope
from schemas.periods import Period
from streams.budgets import Budget, Limits, Whose, set_budget
from streams.cost_audit import audit_costs
from streams.reservations import standing
from tests.cloud_sides import Side, finish, finish_unbilled
from tests.cloud_wrongs import INTENT_GROWS_OLD, RETRY_NOW, SETTLE_NOW
from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.catalogue import ENDS
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.faults import Fault
from tests.doubles.llamacloud.server import open_llama_cloud
from tests.fleet import open_fleet
from tests.pdfs import text_pdf
from tests.processes import MAIN, FleetProcess, until

WITHIN_SECONDS = 45
KILLED = -9
BUDGET = Budget(Whose(Scope.DEPLOYMENT, "", Period.MONTH), Limits(micro_usd=10_000_000))


class Line(NamedTuple):
    """A line of a job's ledger."""

    attempt: int
    kind: str
    reserved_micro_usd: int
    spent_micro_usd: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the document that met the death: its way, its orders there, its money."""

    way: str
    orders: tuple[int, ...]
    """The attempts for which a job was made there."""
    lines: tuple[Line, ...]


class DyingSide:
    """A deployment with a gateway and one worker at a time, beside a double that keeps account."""

    def __init__(self, side: Side, settings: dict[str, object]) -> None:
        self._side = side
        self._settings = settings
        self._lives = 0
        self._orders: list[tuple[str, int]] = []
        self._contents: dict[str, bytes] = {}
        side.cloud.plan(Plan(), times=None, suits=self._note)

    @property
    def cloud(self) -> LlamaCloud:
        return self._side.cloud

    async def survive(self, point: str, *, refused: bool, late_bill: bool) -> Outcome:
        """Let a worker die there with a document, and another go on; give what became of it."""
        if refused:
            self.cloud.inject("create", Fault.RATE_LIMITED)
        dying = await self._start("tests.doubles.dying_worker", point)
        job_id = await self._upload(pages=1)

        async def dead() -> bool:
            await self._move(job_id, late_bill=late_bill)
            return not dying.alive()

        try:
            await until(dead, f"the worker dies {point}", within_seconds=WITHIN_SECONDS)
            assert await dying.wait(1) == KILLED
        finally:
            await dying.stop()
        return await self._recover(job_id, late_bill=late_bill)

    async def _recover(self, job_id: str, *, late_bill: bool) -> Outcome:
        self._side.change(INTENT_GROWS_OLD, job_id)
        worker = await self._start(MAIN, "worker")
        try:
            another = await self._upload(pages=2)

            async def over() -> bool:
                for each in (job_id, another):
                    await self._move(each, late_bill=late_bill)
                return self._is_over()

            await until(over, "jobs and money are over", within_seconds=WITHIN_SECONDS)
        finally:
            await worker.stop()
        straight = (Line(1, "reserved", 7_500, 0), Line(1, "settled", -7_500, 7_500))
        found = await self._outcome(another)
        assert found == Outcome("uploaded parse_queued complete", (1,), straight)
        await self._check_books()
        return await self._outcome(job_id)

    async def _start(self, module: str, verb: str) -> FleetProcess:
        self._lives += 1
        name = f"worker-{self._lives}"
        folder = self._side.fleet.folder
        worker = FleetProcess(verb, name, folder, self._settings, module=module)
        await worker.start()
        return worker

    async def _upload(self, *, pages: int) -> str:
        content = text_pdf([[f"page {n}"] for n in range(pages)], uuid.uuid4().hex)
        answer = await self._side.client.upload(content, "a.pdf")
        assert answer.status == 202
        job_id = str(answer.json["job_id"])
        self._contents[job_id] = content
        return job_id

    async def _move(self, job_id: str, *, late_bill: bool) -> None:
        """Do what time and LlamaCloud would do for the job."""
        ((state, theirs),) = self._side.fleet.sql(
            f"SELECT state, vendor_job_id FROM jobs WHERE id = '{job_id}'"
        )
        there = self.cloud.jobs.get(theirs or "")
        if state == "retry_wait":
            self._side.change(RETRY_NOW, job_id)
        elif state == "parse_queued" and there is not None and there.status not in ENDS:
            step = finish_unbilled if late_bill else finish
            step(self._side, job_id, theirs)
        elif state == "complete":
            if job_id in self._side.late_bills:
                self.cloud.bill(self._side.late_bills.pop(job_id))
            self._side.change(SETTLE_NOW, job_id)

    def _is_over(self) -> bool:
        ((unfinished, held, unsettled, unsaid, timers),) = self._side.fleet.sql(
            "SELECT (SELECT count(*) FROM jobs WHERE state != 'complete'),"
            " (SELECT count(*) FROM reservations WHERE state = 'reserved'),"
            " (SELECT count(*) FROM vendor_jobs WHERE settled_ms IS NULL),"
            " (SELECT count(*) FROM outbox), (SELECT count(*) FROM timers)"
        )
        return not (unfinished or held or unsettled or unsaid or timers)

    async def _outcome(self, job_id: str) -> Outcome:
        lines = self._side.fleet.sql(
            "SELECT attempt, kind, reserved_micro_usd, spent_micro_usd FROM cost_ledger"
            f" WHERE job_id = '{job_id}' ORDER BY attempt, kind"
        )
        orders = sorted(attempt for job, attempt in self._orders if job == job_id)
        way = await self._side._way(job_id)
        job = await self._side.client.job(job_id)
        await self._side._check_result(job, self._contents[job_id], "a.pdf")
        return Outcome(way, tuple(orders), tuple(Line(*line) for line in lines))

    async def _check_books(self) -> None:
        """Hold ledger, budget, audit and LlamaCloud's own account against each other."""
        sql, tables = self._side.fleet.sql, self._side.fleet.tables
        billed = sum(int(credits_billed) * 1_250 for credits_billed in self.cloud.account.values())
        assert sql("SELECT sum(spent_micro_usd), sum(spent_requests) FROM cost_ledger") == [
            (billed, len(self.cloud.account))
        ]
        (window,) = await tables.read(lambda tx: standing(tx, UTC))
        names = ("spent_micro_usd", "reserved_micro_usd", "reserved_pages", "reserved_requests")
        assert tuple(window[name] for name in names) == (billed, 0, 0, 0)
        assert await tables.read(lambda tx: audit_costs(tx, grace_ms=0)) == []
        assert sql("SELECT * FROM dead_letters") == []
        assert self.cloud.jobs == {}, "something is left there, for nobody"

    def _note(self, _name: str, _content: bytes, options: dict[str, Any]) -> bool:
        tags = options["user_metadata"]
        self._orders.append((tags["job"], int(tags["attempt"])))
        return True


@asynccontextmanager
async def open_dying_side(folder: Path, servers: str) -> AsyncIterator[DyingSide]:
    """Run a gateway beside a double whose jobs wait until they are moved, with a hard budget."""
    behaviour = Behaviour(hold=True, webhook_backoff_seconds=(0.1,))
    async with open_llama_cloud(behaviour) as cloud:
        opened = open_fleet(
            folder,
            servers,
            f"test-{uuid.uuid4().hex[:12]}.",
            workers=0,
            mode="real",
            llamaparse_api_key=cloud.api_key,
            llamaparse_url=cloud.url,
            llamaparse_requests_per_minute=60_000,
            llamaparse_burst=1_000,
            llamaparse_call_seconds=1,
            llamaparse_poll_seconds=1,
        )
        async with opened as fleet:
            await fleet.tables.write(lambda tx: set_budget(tx, BUDGET, "test", UTC))
            side = Side("real", cloud, fleet, await fleet.client())
            yield DyingSide(side, fleet._settings | {"webhook_url": fleet.url})
