"""Two deployments beside doubles of LlamaCloud, one per mode, and what becomes of a document."""

import hashlib
import sqlite3
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from streams.cost_audit import audit_costs
from tests.cloud_wrongs import (
    GROWS_OLD,
    INTENT_GROWS_OLD,
    RETRY_NOW,
    SETTLE_NOW,
    Ended,
    Seen,
    Wrong,
)
from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.catalogue import ENDS
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.server import open_llama_cloud
from tests.fleet import Client, Fleet, open_fleet
from tests.pdfs import text_pdf
from tests.processes import until

WAIT_SECONDS = 30
MICRO_USD_PER_CREDIT = 1_250
HOURS_MS = 2 * 3_600_000


def finish(side: "Side", _job_id: str, theirs: str) -> None:
    side.cloud.finish(theirs)


def finish_unbilled(side: "Side", job_id: str, theirs: str) -> None:
    """Finish it without its bill, which comes once our job has ended."""
    side.cloud.finish(theirs)
    side.cloud.jobs[theirs].credits = None
    side.late_bills[job_id] = theirs


def cancel(side: "Side", _job_id: str, theirs: str) -> None:
    side.cloud.cancel(theirs)


def lose(side: "Side", job_id: str, theirs: str) -> None:
    """Forget it there, a minute and more after it was created."""
    side.cloud.forget(theirs)
    side.change(GROWS_OLD.format(61_000), job_id)


def get_stuck(side: "Side", job_id: str, _theirs: str) -> None:
    """Let it be pending for longer than a job may take."""
    side.change(GROWS_OLD.format(601_000), job_id)


class Side:
    """A deployment in one mode."""

    def __init__(self, mode: str, cloud: LlamaCloud, fleet: Fleet, client: Client) -> None:
        self.mode = mode
        self.cloud = cloud
        self.fleet = fleet
        self.client = client
        self.late_bills: dict[str, str] = {}

    def change(self, statement: str, job_id: str) -> None:
        """Change a row, as time would."""
        path = self.fleet.folder / "tables.db"
        with closing(sqlite3.connect(path, timeout=10)) as tables, tables:
            tables.execute(statement, (job_id,))

    async def suffer(self, name: str, wrong: Wrong) -> Seen:
        """Bring a document through what goes wrong, to its end and to that of its bills."""
        content = text_pdf([[f"{name} on page {n}"] for n in range(wrong.pages)], uuid.uuid4().hex)
        former = (await self._bring(content, Wrong()))[0] if wrong.twice else None
        calls, deliveries = len(self.cloud.calls), len(self.cloud.deliveries)
        parked = self._parked()
        for operation, fault, more in wrong.faults:
            self.cloud.inject(operation, fault, **more)
        if wrong.plan is not None:
            self.cloud.plan(wrong.plan)
        job_id, circuit = await self._bring(content, wrong)
        self.cloud.courier.release()
        await self.cloud.settled()
        circuit = circuit or await self._mend_circuit()
        for each in filter(None, (former, job_id)):
            await self._settle(each)
        await self.fleet.outbox_empty(within_seconds=WAIT_SECONDS)
        job = await self.client.job(job_id)
        await self._check_result(job, content, name)
        assert self.cloud.jobs == {}, "something is left there, for nobody"
        self.cloud.heal()
        creates = [c for c in self.cloud.calls[calls:] if c.operation == "create"]
        bills = self.fleet.sql(
            "SELECT outcome || coalesce(' ' || CAST(credits AS INTEGER), '') FROM vendor_jobs"
            f" WHERE job_id = '{job_id}' ORDER BY attempt"
        )
        ended = Ended(
            await self._way(job_id),
            job["parser"],
            len(creates),
            tuple(row[0] for row in bills),
            circuit,
            self._money(job_id),
        )
        await self.check_books()
        answers = [delivery.status for delivery in self.cloud.deliveries[deliveries:]]
        return Seen(ended, answers, self._parked() - parked, job["warnings"])

    async def _bring(self, content: bytes, wrong: Wrong) -> tuple[str, str | None]:
        answer = await self.client.upload(content, "a.pdf", force=True)
        job_id = str(answer.json["job_id"])
        circuits: list[str] = []
        moved: set[str] = set()

        async def over() -> bool:
            ((state, theirs),) = self.fleet.sql(
                f"SELECT state, vendor_job_id FROM jobs WHERE id = '{job_id}'"
            )
            if state == "retry_wait":
                circuits.extend(filter(None, [await self._mend_circuit()]))
                self.change(RETRY_NOW, job_id)
            if state == "parse_queued" and theirs in self.cloud.jobs and theirs not in moved:
                step = finish if moved or wrong.there is None else wrong.there
                moved.add(theirs)
                if self.cloud.jobs[theirs].status not in ENDS:
                    step(self, job_id, theirs)
            if wrong.grows_old and state in ("uploaded", "parsing"):
                self.change(INTENT_GROWS_OLD, job_id)
            return state in ("complete", "failed_parse")

        await until(over, f"{self.mode}: the job ends", within_seconds=WAIT_SECONDS)
        return job_id, circuits[0] if circuits else None

    async def _mend_circuit(self) -> str | None:
        """Close a circuit that waits for a person, and tell why it was open."""
        rows = self.fleet.sql("SELECT reason FROM circuits WHERE state = 'open'")
        if not rows:
            return None
        assert self.fleet.sql("SELECT until_ms FROM circuits") == [(None,)]
        await self.fleet.cli("services", "close-circuit")

        async def known() -> bool:
            line = 'parsewire_circuit_state{service="llamaparse"}'
            return await self.fleet.metric(self.fleet.workers[0], line) == 0

        await until(known, "the worker knows that it is closed", within_seconds=WAIT_SECONDS)
        return str(rows[0][0])

    async def _settle(self, job_id: str) -> None:
        """Let the hours pass in which bills come."""
        late = self.late_bills.pop(job_id, None)
        if late is not None:
            open_bills = "SELECT count(*) FROM vendor_jobs WHERE outcome IS NULL"
            assert self.fleet.sql(open_bills) == [(1,)]
            self.cloud.bill(late)
        self.change(GROWS_OLD.format(HOURS_MS), job_id)

        async def settled() -> bool:
            self.change(SETTLE_NOW, job_id)
            return not self.fleet.sql(f"SELECT 1 FROM timers WHERE job_id = '{job_id}'")

        await until(settled, "every bill is settled", within_seconds=WAIT_SECONDS)

    def _money(self, job_id: str) -> tuple[str, ...]:
        rows = self.fleet.sql(
            "SELECT attempt, state, (SELECT sum(spent_micro_usd) FROM cost_ledger AS lines"
            " WHERE lines.job_id = held.job_id AND lines.attempt = held.attempt)"
            f" FROM reservations AS held WHERE job_id = '{job_id}' ORDER BY attempt"
        )
        return tuple(f"{attempt} {state} {spent}" for attempt, state, spent in rows)

    async def check_books(self) -> None:
        """Hold the ledger against LlamaCloud's own account of what it billed, and audit it."""
        billed = sum(self.cloud.account.values())
        told = "SELECT sum(spent_micro_usd) FROM cost_ledger WHERE basis IS NOT 'estimated'"
        assert self.fleet.sql(told) == [(billed * MICRO_USD_PER_CREDIT,)]
        assert self.fleet.sql("SELECT * FROM reservations WHERE state = 'reserved'") == []
        found = await self.fleet.tables.read(lambda tx: audit_costs(tx, grace_ms=0))
        assert found == []

    async def _way(self, job_id: str) -> str:
        """Write a history's moves; whether work was said to have begun depends on its length."""
        lines = [line for line in await self.client.history(job_id) if line["to_state"]]
        succeeded = Counter(line["type"] for line in lines)["ParseSucceeded"]
        assert succeeded in (0, 2), "a result was applied twice"
        return " ".join(
            line["to_state"] + (f"({line['code']})" if line["code"] else "")
            for line in lines
            if line["to_state"] not in ("parsing", "parsed")
        )

    async def _check_result(self, job: Any, content: bytes, name: str) -> None:
        if job["state"] != "complete":
            return
        text = (await self.client.result(job["job_id"])).content.decode()
        told = {
            "llamaparse": f"Page 1 of {hashlib.sha256(content).hexdigest()}",
            "liteparse": f"{name} on page 0",
        }
        assert told[job["parser"]] in text

    def _parked(self) -> int:
        return int(self.fleet.sql("SELECT count(*) FROM dead_letters")[0][0])


@asynccontextmanager
async def open_side(folder: Path, servers: str, mode: str) -> AsyncIterator[Side]:
    """Run a deployment in a mode beside a double whose jobs wait until they are moved."""
    behaviour = Behaviour(hold=True, webhook_backoff_seconds=(0.1,))
    async with open_llama_cloud(behaviour) as cloud:
        opened = open_fleet(
            folder,
            servers,
            f"test-{uuid.uuid4().hex[:12]}.",
            workers=0,
            mode=mode,
            llamaparse_api_key=cloud.api_key,
            llamaparse_url=cloud.url,
            llamaparse_requests_per_minute=60_000,
            llamaparse_burst=1_000,
            llamaparse_call_seconds=1,
            llamaparse_poll_seconds=1,
            llamaparse_job_seconds=600,
        )
        async with opened as fleet:
            await fleet.add_worker(webhook_url=fleet.url)
            yield Side(mode, cloud, fleet, await fleet.client())
