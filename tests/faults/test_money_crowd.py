"""Sixty-four racers in eight processes for small budgets: never a micro-dollar over."""

import asyncio
import functools
import itertools
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, closing
from datetime import UTC
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson
import pytest

from schemas.money import Policy, Scope, Spend
from schemas.periods import Period
from streams.billing import release
from streams.budgets import Budget, Limits, Whose, set_budget
from streams.cost_audit import audit_costs
from streams.reservations import BudgetSpentError, Payer, reserve, standing
from streams.tables.base import Transaction
from tests.harness import Desk, open_desk
from tests.money_racers import ATTEMPTS, EVEN_MICRO_USD, TENANT, open_racing, read_some

pytestmark = [pytest.mark.processes]

PROCESSES = 8
TASKS = 8
EVEN_HOLDS = 1_500
ODD_MICRO_USD = 2_500_001
ODD = Whose(Scope.SERVICE, "llamaparse", Period.DAY), Limits(micro_usd=ODD_MICRO_USD)
EVEN = (
    Whose(Scope.SERVICE, "callback", Period.MONTH),
    Limits(micro_usd=EVEN_MICRO_USD * EVEN_HOLDS + 6),
)
WIDE = Whose(Scope.DEPLOYMENT, "", Period.DAY), Limits(pages=1_000_000)
WITHIN_SECONDS = 60


class Odd(NamedTuple):
    """An attempt that held an odd amount, as its racer tells of it."""

    job_id: str
    attempt: int
    held: int
    end: str
    bill: int


class Watcher:
    """Looks at every window all the time, through a connection of its own."""

    def __init__(self, tables: Path) -> None:
        self.looks = 0
        self.most: Counter[str] = Counter()
        self.over: list[tuple[Any, ...]] = []
        self._tables = tables
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        address = f"file:{self._tables}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            while not self._ended.wait(0.0005):
                self._look(connection)

    def _look(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute(
            "SELECT id, spent_micro_usd + reserved_micro_usd, limit_micro_usd"
            " FROM budget_windows JOIN budgets ON id = budget_id"
        )
        self.looks += 1
        for name, committed, limit in rows:
            self.most[name] = max(self.most[name], committed)
            if limit is not None and committed > limit:
                self.over.append((name, committed, limit))


async def left_is(desk: Desk, payers: Iterator[Payer], service: str, micro_usd: int) -> None:
    """See that so much can be held yet, and not a micro-dollar more."""

    async def hold(amount: int) -> None:
        payer = next(payers)
        spend = Spend(service, None, 0, amount, 0)
        await desk.tables.write(lambda tx: reserve(tx, payer, spend, UTC))

    with pytest.raises(BudgetSpentError):
        await hold(micro_usd + 1)
    await hold(micro_usd)
    with pytest.raises(BudgetSpentError):
        await hold(1)


async def run_race(tables: Path, jobs: Sequence[str]) -> tuple[list[Any], int, Watcher]:
    """Let all of them run against each other; give what each did, and what was read meanwhile."""
    async with asyncio.timeout(WITHIN_SECONDS), AsyncExitStack() as stack:
        folding = await stack.enter_async_context(open_racing("fold", tables))
        racing = [
            await stack.enter_async_context(open_racing("race", tables, jobs[n::PROCESSES]))
            for n in range(PROCESSES)
        ]
        for each in (folding, *racing):
            await each.ready()
        watcher = stack.enter_context(Watcher(tables))
        for each in (folding, *racing):
            await each.tell()
        done = [await each.done() for each in racing]
        await folding.tell()
        read = (await folding.done())["read"]
    return done, read, watcher


async def prepare(desk: Desk) -> list[str]:
    """Set the budgets, put in the jobs that hold money, and give their ids."""
    for whose, limits in (ODD, EVEN, WIDE):
        budget = Budget(whose, limits, policy=Policy.REJECT)
        await desk.tables.write(functools.partial(set_budget, budget=budget, who="test", zone=UTC))
    uploads = [await desk.upload(number) for number in range(PROCESSES * TASKS)]
    ids = orjson.dumps([row.event_id for row in desk.announced]).decode()
    await desk.tables.write(lambda tx: tx.run("outbox.remove_sent", ids=ids))
    return [upload.job.id for upload in uploads]


async def windows(desk: Desk) -> dict[str, tuple[int, int, int]]:
    """Give of each budget the micro-dollars held and spent, and the requests of both."""
    return {
        row["id"]: (
            row["reserved_micro_usd"],
            row["spent_micro_usd"],
            row["reserved_requests"] + row["spent_requests"],
        )
        for row in await desk.tables.read(lambda tx: standing(tx, UTC))
    }


async def test_nobody_gets_what_is_not_there(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        jobs = await prepare(desk)
        done, read, watcher = await run_race(tmp_path / "tables.db", jobs)
        assert watcher.over == []
        assert watcher.looks > 100
        odd = [Odd(*entry) for each in done for entry in each["odd"]]
        check_tries(done, odd, read)
        still = [entry for entry in odd if entry.end == "open"]
        held, spent = sum(entry.held for entry in still), sum(entry.bill for entry in odd)
        settled = sum(entry.end == "settled" for entry in odd)
        evens = (EVEN_MICRO_USD * EVEN_HOLDS, 0, EVEN_HOLDS)
        assert await windows(desk) == {
            "deployment/day": (held + evens[0], spent, len(still) + settled + EVEN_HOLDS),
            "service:callback/month": evens,
            "service:llamaparse/day": (held, spent, len(still) + settled),
        }
        # Who holds twice for one attempt holds once: each of these is an attempt of its own.
        payers = (Payer(jobs[0], TENANT, attempt, None) for attempt in itertools.count(10_000))
        await left_is(desk, payers, "llamaparse", ODD_MICRO_USD - held - spent)
        await left_is(desk, payers, "callback", 6)
        await give_back_the_rest(desk)
        assert {name: found[:2] for name, found in (await windows(desk)).items()} == {
            "deployment/day": (0, spent),
            "service:callback/month": (0, 0),
            "service:llamaparse/day": (0, spent),
        }
        desk.clock.pass_ms(1)
        assert await desk.tables.read(lambda tx: audit_costs(tx, grace_ms=0)) == []


def check_tries(done: Sequence[Any], odd: Sequence[Odd], read: int) -> None:
    """Hold what was held and refused against what was tried, and what was told of it."""
    tries, refused = PROCESSES * TASKS * ATTEMPTS, Counter[str]()
    for each in done:
        for racer in each["refused"]:
            refused.update(racer)
    assert sum(each["even"] for each in done) == EVEN_HOLDS
    assert refused["even"] == tries - EVEN_HOLDS
    assert refused["odd"] == tries - len(odd)
    assert refused["odd"] > 0, "it was never tight"
    assert read == EVEN_HOLDS + len(odd) + sum(entry.end != "open" for entry in odd)


async def give_back_the_rest(desk: Desk) -> None:
    """Release whatever is held, and have it read."""
    await read_the_rest(desk)
    rows = await desk.rows("money.left_reservations", before_ms=desk.clock.now_ms, most=10_000)

    async def unit(tx: Transaction) -> None:
        for row in rows:
            await release(tx, row["job_id"], row["attempt"], "test")

    await desk.tables.write(unit)
    await read_the_rest(desk)


async def read_the_rest(desk: Desk) -> None:
    desk.clock.pass_ms(60_000)
    while await desk.tables.write(read_some):
        pass
