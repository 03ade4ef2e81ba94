"""The double itself: its jobs, files and calls, and the hands by which a test moves them."""

import asyncio
import functools
import secrets
from collections.abc import Callable
from typing import Any

from tests.doubles.llamacloud.behaviour import Behaviour, Call, Delivery
from tests.doubles.llamacloud.catalogue import Status
from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.faults import OPERATIONS, Deck, Fault, Injection, Meter
from tests.doubles.llamacloud.jobs import Hook, Job, JobStore
from tests.doubles.llamacloud.storage import PlanCard, Plans, Presigned, StoredFile, Suits
from tests.doubles.llamacloud.webhooks import Courier


class LlamaCloud:
    """A LlamaCloud of one project, in memory.

    Tests read `url`, `api_key`, `calls`, `deliveries`, `jobs` and `files`, inject faults by
    `inject`, and wait by `until`.
    """

    def __init__(self, behaviour: Behaviour, clock: Callable[[], float]) -> None:
        self.behaviour = behaviour
        self.clock = clock
        self.url = ""
        self.api_key = behaviour.api_key
        self.project_id = behaviour.project_id
        self.deck = Deck(behaviour.seed)
        self.meter = Meter(behaviour.quotas, clock)
        self.courier = Courier(behaviour, self.deck, clock=clock, changed=self.notify)
        self.store = JobStore(behaviour.project_id, clock)
        self.files: dict[str, StoredFile] = {}
        self.account: dict[str, float] = {}
        """The credits of every job that was billed, its deletion notwithstanding."""
        self.hooks: dict[str, dict[str, Any]] = {}
        self.presigned: dict[str, Presigned] = {}
        self.calls: list[Call] = []
        self.crashes: list[Exception] = []
        self.closing = asyncio.Event()
        self.plans = Plans()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @property
    def jobs(self) -> dict[str, Job]:
        """All jobs by id, in the order of their creation."""
        return self.store.jobs

    @property
    def deliveries(self) -> list[Delivery]:
        """All tries to deliver a webhook, and with attempt 0 those that were lost."""
        return self.courier.deliveries

    def calls_of(self, *operations: str) -> list[Call]:
        """Give the calls of some operations, in order."""
        return [call for call in self.calls if call.operation in operations]

    def inject(
        self,
        operation: str,
        fault: Fault,
        *,
        times: int | None = 1,
        probability: float = 1.0,
        seconds: float = 3600.0,
        status: int | None = None,
        where: Callable[[Any], bool] | None = None,
    ) -> Injection:
        """Make the next calls of an operation (`*`: any, `webhook`) fail; None times: for ever.

        `seconds` is for what is slow, late or hangs, `status` replaces a refusal's status, and
        `where` chooses by Call or, for webhooks, by Job.
        """
        if operation not in OPERATIONS:
            raise ValueError(f"{operation!r} is none of {sorted(OPERATIONS)}")
        card = Injection(operation, fault, times, probability, seconds, status, where)
        return self.deck.add(card)

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self.deck.clear()

    def plan(
        self,
        plan: Plan,
        *,
        times: int | None = 1,
        suits: Suits | None = None,
    ) -> None:
        """Say what becomes of the next jobs, or of the next that suit; None times: of all."""
        self.plans.add(PlanCard(plan, times, suits))

    def start(self, job_id: str) -> None:
        """Bring a PENDING job to RUNNING."""
        job = self.jobs[job_id]
        if job.status is Status.PENDING and self.store.move(job, Status.RUNNING):
            self.courier.tell(job, "parse.running")
            self.notify()

    def finish(self, job_id: str) -> None:
        """End a job as its plan and its document say: COMPLETED or FAILED."""
        job = self.jobs[job_id]
        self._end(job, *job.outcome())

    def fail(self, job_id: str, message: str) -> None:
        """End a job as FAILED with this message."""
        self._end(self.jobs[job_id], Status.FAILED, message)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job, unless it has ended; tell whether it was."""
        return self._end(self.jobs[job_id], Status.CANCELLED, None)

    def bill(self, job_id: str) -> None:
        """Record what a COMPLETED job costs."""
        job = self.jobs[job_id]
        if job.status is Status.COMPLETED and job.credits is None:
            job.credits = self.account[job_id] = job.price()
            self.notify()

    def forget(self, job_id: str) -> None:
        """Lose a job: from now on nobody has ever heard of it."""
        del self.jobs[job_id]

    def expire_urls(self) -> None:
        """Let every presigned URL expire."""
        for token, kept in self.presigned.items():
            self.presigned[token] = Presigned(kept.content, kept.content_type, 0.0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that calls, jobs or deliveries bring about."""
        while not condition():
            await self._changed.wait()

    async def settled(self) -> None:
        """Wait until no webhook is under way; those held or late count as under way."""
        await self.until(lambda: not self.courier.tasks)

    def submit(
        self, name: str, content: bytes, options: dict[str, Any], hook: Hook | None
    ) -> tuple[Job, dict[str, Any]]:
        """Create a job and set it going; give it and what the answer to its submission shows."""
        plan = functools.partial(self.plans.take, name, content, options)
        job = self.store.create(name, content, options, plan=plan, hook=hook)
        shown = job.view()
        if job.status is Status.COMPLETED:
            self.account[job.id] = job.price()
            self.courier.tell(job, job.end_event())
        else:
            self.courier.tell(job, "parse.pending")
            if not self.behaviour.hold:
                self.spawn(self._run(job))
        self.notify()
        return job, shown

    async def end_early(self, job: Job) -> None:
        """End a job at once, and deliver its webhook before its submission is answered."""
        if job.plan.stuck or not self.store.move(job, *job.outcome()):
            return
        self._bill_later(job)
        task = self.courier.tell(job, job.end_event(), on_time=True)
        if task is not None:
            await asyncio.wait({task})

    def presign(self, content: bytes, content_type: str, seconds: float | None = None) -> str:
        """Give a URL of these bytes that expires, in the manner of S3."""
        lasts = self.behaviour.presigned_seconds if seconds is None else seconds
        token = secrets.token_hex(16)
        self.presigned[token] = Presigned(content, content_type, self.clock() + lasts)
        query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires={int(lasts)}&X-Amz-Signature="
        return f"{self.url}/s3/{token}?{query}{secrets.token_hex(32)}"

    def notify(self) -> None:
        """Wake whoever waits by `until`."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def spawn(self, work: Any) -> None:
        """Do something in the background, until the double closes."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop everything that is under way."""
        self.closing.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.courier.close()

    async def _run(self, job: Job) -> None:
        if job.plan.stuck:
            return
        await asyncio.sleep(self.behaviour.queue_seconds)
        if job.id in self.jobs:
            self.start(job.id)
        await asyncio.sleep(self.behaviour.run_seconds)
        if job.id in self.jobs:
            self.finish(job.id)

    def _end(self, job: Job, status: Status, message: str | None) -> bool:
        if not self.store.move(job, status, message):
            return False
        self._bill_later(job)
        self.courier.tell(job, job.end_event())
        self.notify()
        return True

    def _bill_later(self, job: Job) -> None:
        wait = self.behaviour.billing_seconds
        if wait is None:
            return
        if wait == 0:
            self.bill(job.id)
        else:
            self.spawn(self._bill_after(job, wait))

    async def _bill_after(self, job: Job, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if job.id in self.jobs:
            self.bill(job.id)
