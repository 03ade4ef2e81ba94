"""A thousand documents and everything that LlamaCloud may do wrong at once: nothing comes amiss."""

import asyncio
import hashlib
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from schemas.events import BlobRef
from services.keys import create_key
from streams.results import decode
from tests.cloud_books import check_money, settle_all
from tests.cloud_desk import CloudDesk, open_cloud_desk
from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.catalogue import ENDS
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.faults import REFUSALS, WEBHOOK_FAULTS, Fault
from tests.pdfs import text_pdf

JOBS = int(os.environ.get("PARSEWIRE_TEST_JOBS", "1000"))
SEED = int(os.environ.get("PARSEWIRE_TEST_SEED") or random.randrange(10**6))
UPLOADS_AT_ONCE = 16
LONGEST_SECONDS = 4 * 3600
"""Of the tables' time."""

FOR_EVERYBODY = {Fault.UNAUTHORIZED, Fault.FORBIDDEN, Fault.CREDITS_SPENT, Fault.PLAN_LIMIT}
"""What stops all calls until a person acts."""
OF_A_DOCUMENT = {Fault.NOT_FOUND, Fault.TOO_LARGE}
SILENT = (Fault.HANG_BEFORE, Fault.HANG_AFTER)
SPOILT = (Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.SHORT_BODY, Fault.GARBLED)

PROTECTED = "PDF_IS_PROTECTED: the PDF needs a password"
PLANS = (
    (0.01, Plan(error=PROTECTED)),
    (0.03, Plan(error="TIMEOUT: the job took too long")),
    (0.02, Plan(stuck=True)),
)


def spoil(cloud: LlamaCloud) -> None:
    """Let everything go wrong, each thing now and then."""
    for fault in sorted(REFUSALS.keys() - OF_A_DOCUMENT):
        chance = 0.0004 if fault in FOR_EVERYBODY else 0.01
        cloud.inject("*", fault, times=None, probability=chance)
    for fault in SPOILT:
        cloud.inject("*", fault, times=None, probability=0.01)
    for fault in SILENT:
        cloud.inject("*", fault, times=None, probability=0.001)
    cloud.inject("*", Fault.SLOW_BODY, times=None, probability=0.01, seconds=0.1)
    cloud.inject("get", Fault.RESULT_NOT_FOUND, times=None, probability=0.01)
    for fault in sorted(WEBHOOK_FAULTS):
        cloud.inject("webhook", fault, times=None, probability=0.03, seconds=0.5)


class Orders:
    """What was ordered there: how often for each attempt, and which documents are protected."""

    def __init__(self, cloud: LlamaCloud, chance: random.Random) -> None:
        self.made: Counter[tuple[str, int]] = Counter()
        self.protected: set[str] = set()
        for share, plan in PLANS:
            cloud.plan(plan, times=None, suits=self._suits(share, plan, chance))
        cloud.plan(Plan(), times=None, suits=self._note)

    def _suits(self, share: float, plan: Plan, chance: random.Random) -> Any:
        def suits(name: str, content: bytes, options: dict[str, Any]) -> bool:
            if chance.random() >= share:
                return False
            if plan.error == PROTECTED:
                self.protected.add(options["user_metadata"]["job"])
            return self._note(name, content, options)

        return suits

    def _note(self, _name: str, _content: bytes, options: dict[str, Any]) -> bool:
        tags = options["user_metadata"]
        self.made[tags["job"], int(tags["attempt"])] += 1
        return True


async def upload_all(desk: CloudDesk) -> dict[str, tuple[str, bytes]]:
    """Upload the documents, in both modes by turns; give each job's mode and bytes."""
    _, token = await create_key(desk.tables, "acme", "test")
    found: dict[str, tuple[str, bytes]] = {}
    slots = asyncio.Semaphore(UPLOADS_AT_ONCE)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/pdf"}

    async def upload(number: int) -> None:
        mode = ("real", "hybrid")[number % 2]
        content = text_pdf([[f"text of {number}"]], f"document-{number}-of-{SEED}")
        path = f"{desk.url}/api/v1/upload?mode={mode}"
        async with slots, session.post(path, data=content, headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            found[(await answer.json())["job_id"]] = mode, content

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for number in range(JOBS):
            group.create_task(upload(number))
    return found


async def unfinished(desk: CloudDesk) -> int:
    ((count,),) = await desk.sql(
        "SELECT count(*) FROM jobs WHERE state NOT IN ('complete', 'failed_parse')"
    )
    return int(count)


async def at_rest(desk: CloudDesk) -> bool:
    """Tell whether nothing runs for nobody, nothing is on its way, and no intent is open."""
    ((events, intents),) = await desk.sql(
        "SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM attempts"
        " WHERE intent_ms IS NOT NULL AND ended_ms IS NULL)"
    )
    return not (desk.running_there() or desk.cloud.courier.tasks or events or intents)


async def test_a_thousand_documents_survive_everything(tmp_path: Path) -> None:
    print(f"PARSEWIRE_TEST_SEED={SEED}")  # noqa: T201 - who sees it fail wants to see it again
    behaviour = Behaviour(
        queue_seconds=0.02,
        run_seconds=0.05,
        billing_seconds=0.2,
        webhook_backoff_seconds=(0.05,),
        seed=SEED,
    )
    async with open_cloud_desk(tmp_path, behaviour) as desk:
        orders = Orders(desk.cloud, random.Random(SEED))
        spoil(desk.cloud)
        uploading = asyncio.create_task(upload_all(desk))
        while not uploading.done() or await unfinished(desk):
            await desk.pass_second()
            assert desk.seconds < LONGEST_SECONDS, await states(desk)
        desk.cloud.heal()
        desk.cloud.courier.release()
        while not await at_rest(desk):
            await desk.pass_second()
            assert desk.seconds < LONGEST_SECONDS
        jobs = uploading.result()
        assert len(jobs) == JOBS
        await check_ends(desk, jobs, orders)
        await check_results(desk, jobs)
        await check_books(desk, orders)
        await settle_all(desk)
        await check_money(desk, most_untold=JOBS // 100)
        await tell(desk)


async def states(desk: CloudDesk) -> list[tuple[Any, ...]]:
    return await desk.sql("SELECT state, error_code, count(*) FROM jobs GROUP BY 1, 2")


async def check_ends(desk: CloudDesk, jobs: dict[str, tuple[str, bytes]], orders: Orders) -> None:
    """None is lost, doubled or stuck, and none failed whose document could be read."""
    rows = await desk.sql("SELECT id, state, error_code, tries FROM jobs")
    assert {row[0] for row in rows} == jobs.keys()
    assert len(rows) == JOBS
    failed = {row[0]: row for row in rows if row[1] == "failed_parse"}
    for job_id, _, code, tries in failed.values():
        if code == "document_encrypted":
            assert job_id in orders.protected
        else:
            # Five times in a row is rare, and may be; nobody stands in for it in this mode.
            assert (jobs[job_id][0], tries) == ("real", 5), code
    applied = await desk.sql(
        "SELECT job_id, count(*) FROM job_events"
        " WHERE type LIKE '%ParseSucceeded' AND to_state = 'complete' GROUP BY job_id"
    )
    assert dict(applied) == dict.fromkeys(jobs.keys() - failed.keys(), 1)
    assert await desk.sql("SELECT * FROM timers WHERE kind = 'step'") == []
    assert await desk.sql("SELECT * FROM processor_stops") == []


async def check_results(desk: CloudDesk, jobs: dict[str, tuple[str, bytes]]) -> None:
    """Every text is that of its own document, and says truly who read it."""
    rows = await desk.sql(
        "SELECT id, parser, pages, result_blob, result_sha256, result_bytes, name FROM jobs"
        " WHERE state = 'complete'"
    )
    for job_id, parser, pages, key, sha256, size, _ in rows:
        mode, content = jobs[job_id]
        parsed = decode(await desk.blobs.read(BlobRef(key, sha256, size)))
        (page,) = parsed.pages
        assert (parsed.parser, pages, page.number) == (parser, 1, 1)
        if parser == "llamaparse":
            assert page.text == f"Page 1 of {hashlib.sha256(content).hexdigest()}"
        else:
            assert (parser, mode) == ("liteparse", "hybrid")
            unique = next(word for word in page.text.split() if word.startswith("document-"))
            assert unique.encode() in content


async def check_books(desk: CloudDesk, orders: Orders) -> None:
    """Every job there is known here, was ordered once, and is settled or will be."""
    made = [call.job_id for call in desk.cloud.calls_of("create") if call.job_id]
    booked = await desk.sql("SELECT vendor_job_id, job_id, attempt FROM vendor_jobs")
    assert sorted(row[0] for row in booked) == sorted(made)
    assert Counter((row[1], row[2]) for row in booked) == orders.made
    assert set(orders.made.values()) == {1}
    assert (
        await desk.sql(
            "SELECT * FROM vendor_jobs WHERE (settled_ms IS NULL OR kept_there)"
            " AND job_id NOT IN (SELECT job_id FROM timers WHERE kind = 'settle')"
        )
        == []
    )
    assert all(job.status in ENDS for job in desk.cloud.jobs.values())


async def tell(desk: CloudDesk) -> None:
    """Say what happened: who runs it by hand wants to know that all of it did."""
    faults = Counter(call.fault for call in desk.cloud.calls if call.fault)
    hooks = Counter(told.fault for told in desk.cloud.deliveries if told.fault)
    parsers = await desk.sql("SELECT parser, count(*) FROM jobs GROUP BY 1")
    assert dict(parsers)["llamaparse"] >= JOBS // 3, "too few went there to prove anything"
    bills = await desk.sql("SELECT outcome, count(*) FROM vendor_jobs GROUP BY 1")
    attempts = await desk.sql("SELECT attempt, count(*) FROM jobs GROUP BY 1")
    print(  # noqa: T201 - as above
        f"{JOBS} jobs, {len(desk.cloud.calls)} calls, {desk.seconds} s of the tables' time,"
        f" circuits {dict(desk.opened)}\n{dict(faults)}\n{dict(hooks)}\n"
        f"{parsers} {bills} {attempts} {await states(desk)}"
    )
