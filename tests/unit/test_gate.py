"""The shared gate: several gates on one table keep one rate and one circuit."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from schemas.errors import Code, TransientError
from streams.circuit import Standing
from streams.gate import SharedGate
from streams.metrics import Recorder
from streams.shared_limits import LostRaceError, read_bucket, read_circuit, save_circuit
from streams.tables.base import Transaction
from streams.tables.sqlite import open_sqlite
from streams.token_bucket import Rate
from tests.harness import Desk, FakeClock, open_memory_desk


class Room:
    """Gates on one table, as processes have them; a wait passes the clock of them all."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.rate = Rate(per_minute=60, burst=2)
        self.waits: list[float] = []

    def gate(self, **limits: float) -> SharedGate:
        return SharedGate(
            self.desk.tables,
            "cloud",
            lambda: self.rate,
            self.desk.recorder,
            begins_by="look",
            sleep=self.sleep,
            **limits,
        )

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def standing(self) -> Standing:
        circuit, _ = await self.desk.tables.read(lambda tx: read_circuit(tx, "cloud"))
        return circuit.state

    async def tokens(self) -> float:
        bucket, _ = await self.desk.tables.read(lambda tx: read_bucket(tx, "cloud", self.rate))
        return bucket.tokens_micro / 1_000_000

    def metric(self, outcome: str) -> float | None:
        return self.desk.recorder.registry.get_sample_value(
            "parsewire_gate_calls_total",
            {"service": "cloud", "operation": "look", "outcome": outcome},
        )


@pytest_asyncio.fixture
async def room() -> AsyncIterator[Room]:
    async with open_memory_desk() as desk:
        yield Room(desk)


async def call(gate: SharedGate, failure: Code | None = None) -> None:
    await gate.enter("look")
    await gate.note("look", failure)


async def refused(gate: SharedGate) -> tuple[Code, float | None]:
    with pytest.raises(TransientError) as caught:
        await gate.enter("look")
    return caught.value.code, caught.value.retry_after_seconds


async def test_gates_share_one_rate_and_wait_exactly(room: Room) -> None:
    gates = [room.gate() for _ in range(3)]
    for n in range(7):
        await call(gates[n % 3])
    assert room.waits == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert await refused(gates[0]) == (Code.VENDOR_RATE_LIMITED, 6.0)
    assert await refused(gates[1]) == (Code.VENDOR_RATE_LIMITED, 6.0)
    room.desk.clock.pass_ms(1000)
    await call(gates[2])
    assert room.waits[5:] == [5.0]
    assert (room.metric("entered"), room.metric("vendor_rate_limited")) == (8, 2)


async def test_what_goes_on_waits_longer_than_what_begins(room: Room) -> None:
    gate = room.gate()
    for _ in range(7):
        await call(gate)
    assert (await refused(gate))[0] is Code.VENDOR_RATE_LIMITED
    for _ in range(10):
        await gate.enter("fetch")
    assert room.waits[-10:] == [float(seconds) for seconds in range(6, 16)]
    with pytest.raises(TransientError) as caught:
        await gate.enter("fetch")
    assert caught.value.retry_after_seconds == 16.0


async def test_nothing_waits_longer_than_its_call_may_last(room: Room) -> None:
    gate = room.gate(to_go_on_seconds=2.0)
    for _ in range(4):
        await gate.enter("fetch")
    assert room.waits == [1.0, 2.0]
    for operation in ("fetch", "look"):
        with pytest.raises(TransientError) as caught:
            await gate.enter(operation)
        assert caught.value.retry_after_seconds == 3.0


async def test_what_was_paid_for_before_waits_for_nothing(room: Room) -> None:
    gate = room.gate()
    await gate.enter("look", 2)
    assert (room.waits, await room.tokens()) == ([], 0)
    await gate.enter("fetch", 0)
    assert (room.waits, await room.tokens()) == ([], 0)
    await gate.enter("look", 2)
    assert (room.waits, await room.tokens()) == ([1.0], -2)
    await gate.note("look", Code.VENDOR_UNAUTHORIZED)
    with pytest.raises(TransientError) as caught:
        await gate.enter("fetch", 0)
    assert caught.value.code == Code.CIRCUIT_OPEN


async def test_a_changed_rate_holds_at_the_next_call(room: Room) -> None:
    gate = room.gate()
    await call(gate)
    await call(gate)
    room.rate = Rate(per_minute=6000, burst=100)
    await call(gate)
    assert room.waits == [0.01]


async def test_a_vendors_429_slows_all_gates_and_opens_nothing(room: Room) -> None:
    one, other = room.gate(), room.gate()
    await call(one, Code.VENDOR_RATE_LIMITED)
    assert await room.tokens() == 0
    await call(other)
    assert room.waits == [2.0]
    assert await room.standing() is Standing.CLOSED


async def test_failures_of_several_processes_open_the_circuit_for_all(room: Room) -> None:
    room.rate = Rate(6000, 100)
    gates = [room.gate() for _ in range(3)]
    for n in range(5):
        await call(gates[n % 3], Code.PARSER_UNAVAILABLE)
    for gate in gates:
        assert await refused(gate) == (Code.CIRCUIT_OPEN, 5.0)


async def test_exactly_one_probe_goes_out_and_its_answer_closes(room: Room) -> None:
    room.rate = Rate(6000, 100)
    gates = [room.gate() for _ in range(4)]
    for _ in range(5):
        await call(gates[0], Code.VENDOR_FAILED)
    room.desk.clock.pass_ms(5000)
    ends = await asyncio.gather(*(gate.enter("look") for gate in gates), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["NoneType"] + ["TransientError"] * 3
    assert await refused(gates[0]) == (Code.CIRCUIT_OPEN, 15.0)
    room.desk.clock.pass_ms(90_000)
    await call(gates[1])
    assert await room.standing() is Standing.CLOSED
    await call(gates[2])


async def test_a_refused_call_takes_no_token(room: Room) -> None:
    gate = room.gate()
    await call(gate, Code.VENDOR_UNAUTHORIZED)
    room.desk.clock.pass_ms(60_000)
    assert await refused(gate) == (Code.CIRCUIT_OPEN, 300.0)
    assert await room.tokens() == 2.0


async def test_a_probe_that_the_rate_refuses_leaves_the_circuit_as_it_is(room: Room) -> None:
    room.rate = Rate(per_minute=0.5, burst=5)
    gate = room.gate()
    for _ in range(5):
        await call(gate, Code.PARSER_UNAVAILABLE)
    room.desk.clock.pass_ms(5000)
    assert (await refused(gate))[0] is Code.VENDOR_RATE_LIMITED
    assert await room.standing() is Standing.OPEN


async def test_a_call_that_waited_is_refused_where_the_circuit_opened_meanwhile() -> None:
    async with open_memory_desk() as desk:
        room = Room(desk)

        async def sleep(_seconds: float) -> None:
            async def opened(tx: Transaction) -> None:
                circuit, seen = await read_circuit(tx, "cloud")
                failed = circuit.judged(tx.now_ms, circuit.epoch, "x", Code.VENDOR_QUOTA_SPENT)
                await save_circuit(tx, "cloud", failed, seen)

            await desk.tables.write(opened)

        gate = SharedGate(desk.tables, "cloud", lambda: room.rate, desk.recorder, sleep=sleep)
        await call(gate)
        await call(gate)
        assert await refused(gate) == (Code.CIRCUIT_OPEN, 300.0)


async def test_an_answer_that_changes_nothing_is_not_written(room: Room) -> None:
    room.rate = Rate(60_000, 1000)
    gate = room.gate()
    await call(gate)
    before = units(room)
    for _ in range(20):
        await call(gate)
    assert units(room) - before == 20
    await call(gate, Code.PARSER_UNAVAILABLE)
    assert units(room) - before == 22


def units(room: Room) -> float:
    found = room.desk.recorder.registry.get_sample_value(
        "parsewire_table_units_total", {"outcome": "committed"}
    )
    return found or 0


async def test_a_note_without_an_entry_is_a_defect(room: Room) -> None:
    gate = room.gate()
    with pytest.raises(RuntimeError, match="did not enter"):
        await gate.note("look", None)
    await call(gate)
    with pytest.raises(RuntimeError, match="did not enter"):
        await gate.note("look", None)


async def test_a_row_that_was_written_meanwhile_is_not_overwritten(room: Room) -> None:
    await call(room.gate())

    async def write_twice(tx: Transaction) -> None:
        circuit, seen = await read_circuit(tx, "cloud")
        await save_circuit(tx, "cloud", circuit, seen)
        await save_circuit(tx, "cloud", circuit, seen)

    with pytest.raises(LostRaceError):
        await room.desk.tables.write(write_twice)


async def test_processes_that_enter_at_once_share_the_rate(tmp_path: Path) -> None:
    clock, waits = FakeClock(), []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with AsyncExitStack() as stack:
        gates = []
        for _ in range(4):
            recorder = Recorder(CollectorRegistry())
            opened = open_sqlite(tmp_path / "tables.db", recorder, clock_ms=clock)
            tables = await stack.enter_async_context(opened)
            gates.append(
                SharedGate(
                    tables,
                    "cloud",
                    lambda: Rate(60, 10),
                    recorder,
                    begins_by="look",
                    sleep=sleep,
                )
            )
        ends = await asyncio.gather(
            *(gates[n % 4].enter("look") for n in range(40)), return_exceptions=True
        )
    assert sum(end is None for end in ends) == 15
    assert sorted(waits) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert {getattr(end, "code", None) for end in ends} == {None, Code.VENDOR_RATE_LIMITED}


@pytest.mark.parametrize("seed", range(6))
async def test_random_calls_keep_the_rate_and_one_probe(room: Room, seed: int) -> None:
    chance = random.Random(seed)
    room.rate = Rate(per_minute=chance.choice([20, 60, 600]), burst=chance.choice([1, 5, 10]))
    gates = [room.gate() for _ in range(4)]
    clock = room.desk.clock
    starts: list[float] = []
    probes: list[tuple[int, asyncio.Event]] = []
    running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    async def live(gate: SharedGate, ended: asyncio.Event) -> None:
        await ended.wait()
        await gate.note("look", Code.PARSER_UNAVAILABLE if chance.random() < 0.6 else None)

    async def enter(gate: SharedGate) -> None:
        waited, state = len(room.waits), await room.standing()
        try:
            await gate.enter("look")
        except TransientError:
            return
        starts.append(clock.now_ms + sum(room.waits[waited:]) * 1000)
        ended = asyncio.Event()
        if state is not Standing.CLOSED:
            lost = [at for at, event in probes if not event.is_set()]
            assert all(clock.now_ms - at >= 90_000 for at in lost)
            probes.append((clock.now_ms, ended))
        running.append((ended, asyncio.create_task(live(gate, ended))))

    for _ in range(300):
        clock.pass_ms(chance.choice([0, 0, 100, 1000, 7000]))
        # Its own task, as every call has: the pass stands in the task's context.
        await asyncio.create_task(enter(chance.choice(gates)))
        while running and (len(running) > 6 or chance.random() < 0.4):
            ended, task = running.pop(chance.randrange(len(running)))
            ended.set()
            await task
    for ended, task in running:
        ended.set()
        await task
    assert (len(starts) > 20, len(probes) > 0) == (True, True)
    starts.sort()
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            minutes = (starts[last] - begin) / 60_000
            assert last - first + 1 <= room.rate.burst + room.rate.per_minute * minutes + 1e-3


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE circuits SET state = 'ajar'",
        "UPDATE circuits SET reason = 'x'",
        "UPDATE circuits SET until_ms = 1",
        "UPDATE circuits SET state = 'half_open', reason = 'x'",
        "UPDATE shared_limits SET slowed = 4",
    ],
)
async def test_impossible_rows_are_forbidden(room: Room, statement: str) -> None:
    await call(room.gate())

    async def unit(tx: Transaction) -> None:
        tx._connection.execute(statement)  # type: ignore[attr-defined]  # SQL that no query has

    with pytest.raises(sqlite3.IntegrityError):
        await room.desk.tables.write(unit)
