"""The supervisor over real, tiny processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from services.child import Deaths, Member, Patience, Process, WrongConfigurationError
from services.supervisor import OutsideBroker, Supervisor

WAIT = "import signal; signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); "
DEAF += "signal.pause()"

QUICK = Patience(
    ask_seconds=0.01,
    unanswered=3,
    unanswered_at_start=3,
    again_seconds=0.01,
    again_cap_seconds=0.01,
    drain_seconds=5,
    replace_seconds=5,
)


@dataclass
class Starts:
    """Starts `python -c` children, and tells of each."""

    code: str = WAIT
    said: bool = False
    """Whether the code prints a line once it is ready for signals."""
    answer: Callable[[], bool] = lambda: True
    servers: list[str] = field(default_factory=list)
    processes: asyncio.Queue[asyncio.subprocess.Process] = field(default_factory=asyncio.Queue)

    async def start(self, bootstrap_servers: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", self.code, stdout=asyncio.subprocess.PIPE
        )
        if self.said:
            assert process.stdout is not None
            await process.stdout.readline()
        self.servers.append(bootstrap_servers)
        self.processes.put_nowait(process)
        return process

    async def answers(self) -> bool:
        return self.answer()

    def member(self, name: str = "child") -> Member:
        return Member(name, self.start, self.answers)

    async def next(self) -> asyncio.subprocess.Process:
        async with asyncio.timeout(10):
            return await self.processes.get()


class FakeBroker:
    """A broker that dies on command."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.pid = 1
        self.dead = asyncio.Event()
        self.alive = True
        self.stopped = asyncio.Event()

    async def wait(self) -> int:
        await self.dead.wait()
        return 1

    async def answers(self) -> bool:
        return self.alive

    async def stop(self) -> None:
        self.stopped.set()


async def outside() -> OutsideBroker:
    return OutsideBroker("kafka:9092")


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(supervisor.run())
    try:
        yield task
    finally:
        task.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait({task})


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(10):
        return await process.wait()


async def test_starts_a_dead_child_again() -> None:
    starts = Starts()
    async with running(Supervisor([starts.member()], outside, QUICK)):
        for _ in range(3):
            (await starts.next()).kill()
        last = await starts.next()
        assert last.returncode is None
    assert last.returncode == -signal.SIGTERM
    assert starts.servers == ["kafka:9092"] * 4


async def test_ends_children_before_their_broker() -> None:
    starts = Starts()
    codes_at_stop: list[int | None] = []

    class Watched(FakeBroker):
        async def stop(self) -> None:
            codes_at_stop.append(process.returncode)

    async def start_broker() -> FakeBroker:
        return Watched("first:1")

    async with running(Supervisor([starts.member()], start_broker, QUICK)):
        process = await starts.next()
    assert codes_at_stop == [-signal.SIGTERM]


async def test_kills_a_child_that_does_not_end_in_time() -> None:
    starts = Starts(code=DEAF, said=True)
    patience = replace(QUICK, drain_seconds=0.05)
    async with running(Supervisor([starts.member()], outside, patience)):
        process = await starts.next()
    assert process.returncode == -signal.SIGKILL


async def test_kills_a_stopped_child_that_answers_nothing_and_starts_another() -> None:
    alive = True
    answered = asyncio.Event()

    def answer() -> bool:
        answered.set()
        return alive

    starts = Starts(answer=answer)
    patience = replace(QUICK, unanswered_at_start=1_000_000)
    async with running(Supervisor([starts.member()], outside, patience)):
        first = await starts.next()
        async with asyncio.timeout(10):
            await answered.wait()
        os.kill(first.pid, signal.SIGSTOP)
        alive = False
        assert await ended(first) == -signal.SIGKILL
        alive = True
        second = await starts.next()
        assert second.returncode is None


async def test_a_start_may_take_longer_than_an_answer() -> None:
    asked = 0
    enough = asyncio.Event()

    def answer() -> bool:
        nonlocal asked
        asked += 1
        if asked == 20:
            enough.set()
        return False

    starts = Starts(answer=answer)
    patience = replace(QUICK, unanswered=3, unanswered_at_start=30)
    async with running(Supervisor([starts.member()], outside, patience)):
        first = await starts.next()
        async with asyncio.timeout(10):
            await enough.wait()
        assert first.returncode is None
        assert await ended(first) == -signal.SIGKILL


async def test_a_new_broker_starts_every_child_anew() -> None:
    gateway, worker = Starts(), Starts()
    brokers = [FakeBroker("first:1"), FakeBroker("second:2")]
    waiting = iter(brokers)

    async def start_broker() -> FakeBroker:
        return next(waiting)

    supervisor = Supervisor([gateway.member(), worker.member()], start_broker, QUICK)
    async with running(supervisor):
        old = [await gateway.next(), await worker.next()]
        brokers[0].dead.set()
        new = [await gateway.next(), await worker.next()]
        assert [process.returncode for process in old] == [-signal.SIGTERM, -signal.SIGTERM]
        assert [process.returncode for process in new] == [None, None]
        assert supervisor.broker is brokers[1]
    assert gateway.servers == ["first:1", "second:2"]
    assert worker.servers == ["first:1", "second:2"]
    assert brokers[1].stopped.is_set()


async def test_a_hung_broker_is_ended_and_replaced() -> None:
    starts = Starts()
    brokers = [FakeBroker("first:1"), FakeBroker("second:2")]
    waiting = iter(brokers)

    async def start_broker() -> FakeBroker:
        return next(waiting)

    patience = replace(QUICK, unanswered_at_start=1_000_000)
    async with running(Supervisor([starts.member()], start_broker, patience)):
        first = await starts.next()
        brokers[0].alive = False
        await starts.next()
        assert first.returncode == -signal.SIGTERM
        assert brokers[0].stopped.is_set()
    assert starts.servers == ["first:1", "second:2"]


async def test_a_broken_configuration_ends_all() -> None:
    healthy, broken = Starts(), Starts(code="raise SystemExit(78)")
    members = [healthy.member("gateway"), broken.member("worker")]
    with pytest.raises(WrongConfigurationError, match="worker"):
        async with asyncio.timeout(10):
            await Supervisor(members, outside, QUICK).run()
    assert (await healthy.next()).returncode == -signal.SIGTERM
    assert broken.processes.qsize() == 1


async def test_the_first_broker_must_start() -> None:
    starts = Starts()

    async def start_broker() -> FakeBroker:
        raise OSError("no binary")

    with pytest.raises(OSError, match="no binary"):
        await Supervisor([starts.member()], start_broker, QUICK).run()
    assert starts.servers == []


async def test_kill_children_does_not_wait_for_the_drain() -> None:
    starts = Starts(code=DEAF, said=True)
    patience = replace(QUICK, drain_seconds=3600)
    supervisor = Supervisor([starts.member()], outside, patience)
    task = asyncio.create_task(supervisor.run())
    process = await starts.next()
    task.cancel()
    supervisor.kill_children()
    assert await ended(process) == -signal.SIGKILL
    async with asyncio.timeout(10):
        await asyncio.wait({task})


def waits(*lives: float) -> list[float]:
    now = 0.0
    deaths = Deaths(Patience(quick_seconds=10, again_seconds=1, again_cap_seconds=8), lambda: now)
    found = []
    for life in lives:
        deaths.born()
        now += life
        found.append(deaths.wait_seconds())
    return found


def test_the_first_death_waits_for_nothing_and_quick_ones_longer_and_longer() -> None:
    found = waits(1, 1, 1, 1, 1, 1)
    assert found[0] == 0
    for wait, most in zip(found[1:], (1, 2, 4, 8, 8), strict=True):
        assert most / 10 <= wait <= most


def test_a_long_life_makes_the_next_death_a_first_one() -> None:
    found = waits(1, 1, 1, 60, 1, 1)
    assert found[0] == found[3] == found[4] == 0
    assert 0.1 <= found[5] <= 1
