"""Processes that race for one budget: `python -m tests.money_racers race|fold TABLES [JOB ...]`.

Each opens the tables, says `ready`, begins at the first line that it reads, and prints what it
did as JSON at its end. Time stands still in them, so that no window ends in the middle.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from schemas.money import Spend
from services.embedded_broker import dying_with_parent
from streams.billing import release
from streams.costs import Costs
from streams.metrics import Recorder
from streams.reservations import BudgetSpentError, Payer, reserve
from streams.tables.base import OutboxRow, Tables, Transaction
from streams.tables.sqlite import open_sqlite
from tests.harness import NOW, decode_row
from tests.money_desk import BILLING, KILOCREDIT, spend_of

TENANT = "acme"
ATTEMPTS = 30
"""How often each task tries to hold an odd amount, and an even one after it."""
EVEN_MICRO_USD = 7
MOST_MICRO_USD = 9_001
MICRO_USD_PER_CREDIT = KILOCREDIT // 1_000
ROOT = Path(__file__).parent.parent


class Racing:
    """A process of racers, or the one that reads what they say."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ready(self) -> None:
        assert await self._line() == b"ready\n"

    async def tell(self) -> None:
        """Send a line: begin, or end."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()

    async def done(self) -> Any:
        """Give what it did."""
        done = orjson.loads(await self._line())
        assert await self._process.wait() == 0
        return done

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()


@asynccontextmanager
async def open_racing(what: str, tables: Path, jobs: Sequence[str] = ()) -> AsyncIterator[Racing]:
    """Start a process, and have it ended with the test."""
    process = await asyncio.create_subprocess_exec(
        *dying_with_parent(
            [sys.executable, "-P", "-m", "tests.money_racers", what, str(tables), *jobs]
        ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
        limit=1 << 24,
    )
    racing = Racing(process)
    try:
        yield racing
    finally:
        await racing.stop()


class Racer:
    """A job whose attempts hold money; some of it is given back, some is billed."""

    def __init__(self, tables: Tables, job_id: str) -> None:
        self.job_id = job_id
        self.refused = {"odd": 0, "even": 0}
        self.even = 0
        self.odd: list[tuple[int, int, str, int]] = []
        """Attempt, micro-dollars held, how it ended, and what it was billed at."""
        self._tables = tables
        self._random = random.Random(job_id)

    async def run(self) -> None:
        for number in range(1, ATTEMPTS + 1):
            amount = self._random.randint(1, MOST_MICRO_USD)
            if await self._holds("odd", 2 * number, spend_of(micro_usd=amount)):
                await self._end(2 * number, amount)
            if await self._holds(
                "even", 2 * number + 1, spend_of("callback", micro_usd=EVEN_MICRO_USD)
            ):
                self.even += 1

    async def _holds(self, kind: str, attempt: int, spend: Spend) -> bool:
        payer = Payer(self.job_id, TENANT, attempt, None)
        try:
            await self._tables.write(lambda tx: reserve(tx, payer, spend, UTC))
        except BudgetSpentError:
            self.refused[kind] += 1
            return False
        return True

    async def _end(self, attempt: int, amount: int) -> None:
        chance, bill = self._random.random(), 0
        if chance < 0.3:
            end = "released"
            await self._tables.write(lambda tx: release(tx, self.job_id, attempt, "test"))
        elif chance < 0.6:
            end, billed = "settled", self._random.randint(0, amount // MICRO_USD_PER_CREDIT)
            bill = billed * MICRO_USD_PER_CREDIT
            await self._tables.write(lambda tx: self._settle(tx, attempt, billed))
        else:
            end = "open"
        self.odd.append((attempt, amount, end, bill))

    async def _settle(self, tx: Transaction, attempt: int, billed: int) -> None:
        named = {"parser": "llamaparse", "vendor_job_id": f"{self.job_id}-{attempt}"}
        await tx.run("vendor.book", job_id=self.job_id, attempt=attempt, **named)
        await BILLING.settle(tx, **named, outcome="billed", credits_billed=billed)


async def race(tables: Tables, jobs: Sequence[str]) -> dict[str, Any]:
    """Let every job race, all at once."""
    racers = [Racer(tables, job_id) for job_id in jobs]
    async with asyncio.TaskGroup() as group:
        for racer in racers:
            group.create_task(racer.run())
    return {
        "odd": [(racer.job_id, *entry) for racer in racers for entry in racer.odd],
        "even": sum(racer.even for racer in racers),
        "refused": [racer.refused for racer in racers],
    }


async def fold(tables: Tables, told_to_end: asyncio.Event) -> dict[str, int]:
    """Read what is said of money, as its fold does, until the end and until nothing is left."""
    read = 0
    while True:
        last = told_to_end.is_set()
        some = await tables.write(read_some)
        read += some
        if last and not some:
            return {"read": read}


async def read_some(tx: Transaction) -> int:
    """Let the fold apply what waits in the outbox, and tell how much that was."""
    rows = await tx.all("outbox.take_due", takeover_ms=0, most=200)
    names = OutboxRow.__struct_fields__
    events = [decode_row(OutboxRow(**{name: row[name] for name in names})) for row in rows]
    await Costs(UTC).apply(tx, events)
    return len(events)


async def main() -> None:
    what, path, *jobs = sys.argv[1:]
    # Those that are said count as due at once: the clock of whoever reads them is a minute on.
    at_ms = NOW + 60_000 * (what == "fold")
    opened = open_sqlite(Path(path), Recorder(CollectorRegistry()), clock_ms=lambda: at_ms)
    async with opened as tables:
        print("ready", flush=True)  # noqa: T201 - its output is its purpose
        await asyncio.to_thread(sys.stdin.readline)
        if what == "race":
            done: Any = await race(tables, jobs)
        else:
            told_to_end = asyncio.Event()
            folding = asyncio.create_task(fold(tables, told_to_end))
            await asyncio.to_thread(sys.stdin.readline)
            told_to_end.set()
            done = await folding
        print(orjson.dumps(done).decode(), flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    asyncio.run(main())
