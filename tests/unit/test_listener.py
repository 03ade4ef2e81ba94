"""The ground of a listener: keys apart from each other, the records of one in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import pytest_asyncio
from msgspec.structs import replace

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import Event, VendorJobSeen
from schemas.topics import WEBHOOKS_RECEIVED, Topic
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit
from streams.listener import ListenerGround
from streams.processor import Parked, ProcessorStoppedError
from tests.harness import Desk, event_of, open_memory_desk, record_of

P0, P1 = Partition("webhooks.received", 0), Partition("webhooks.received", 1)
TABLES_AWAY = TransientError(Code.TABLES_UNAVAILABLE, "locked")

Act = Callable[[], Awaitable[Parked | None]]


class Script:
    """A listener that does as it is told for each vendor job; `ended` lists what it has done."""

    name = "callbacks"
    topics: tuple[Topic, ...] = (WEBHOOKS_RECEIVED,)

    def __init__(self) -> None:
        self.acts: dict[str, Act] = {}
        self.began: list[str] = []
        self.ended: list[str] = []

    async def handle(self, event: Event) -> Parked | None:
        assert isinstance(event.body, VendorJobSeen)
        name = event.body.vendor_job_id
        self.began.append(name)
        act = self.acts.get(name)
        parked = await act() if act is not None else None
        self.ended.append(name)
        return parked

    def fails(self, name: str, error: Exception) -> None:
        async def fail() -> None:
            raise error

        self.acts[name] = fail

    def parks(self, *names: str) -> None:
        async def park() -> Parked:
            return Parked(Code.WEBHOOK_UNKNOWN, "nobody's")

        self.acts |= dict.fromkeys(names, park)


class Pause:
    """A place at which a record waits until it is let go."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.open.wait()


class Bench:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.script = Script()
        self.limit = DeadLetterLimit(
            "callbacks", "1", desk.tables, desk.recorder, most=2, window=10
        )
        self.ground = ListenerGround(
            self.script, desk.tables, "cluster", self.limit, desk.recorder, slots=7
        )

    async def handle(self, *names: str) -> None:
        """Hand out a batch; a record's key is the first letter of what it names."""
        async with asyncio.timeout(5):
            await self.ground.handle({P0: records(names)})

    async def letters(self) -> list[tuple[int, str, str]]:
        """Give (offset, code, why) of each record that was buried."""
        rows = await self.desk.rows("positions.letters", before=99, most=99)
        return sorted((row["record_offset"], row["code"], row["reason"]) for row in rows)


def records(names: Sequence[str], partition: int = 0) -> list[Record]:
    return [
        replace(
            record_of(
                event_of(VendorJobSeen("llamaparse", name)), "webhooks.received", n, partition
            ),
            key=name[:1].encode(),
        )
        for n, name in enumerate(names)
    ]


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_memory_desk() as desk:
        yield Bench(desk)


async def test_one_key_goes_in_order_and_waits_for_no_other(bench: Bench) -> None:
    pause, last = Pause(), Pause()
    bench.script.acts |= {"a1": pause, "b2": last}
    async with asyncio.timeout(5):
        handling = asyncio.create_task(bench.ground.handle({P0: records(["a1", "b1", "a2", "b2"])}))
        last.open.set()
        await last.reached.wait()
        assert bench.script.began == ["a1", "b1", "b2"]
        pause.open.set()
        await handling
    assert bench.script.ended == ["b1", "b2", "a1", "a2"]


async def test_a_key_of_two_partitions_still_has_one_order(bench: Bench) -> None:
    pause, last = Pause(), Pause()
    bench.script.acts |= {"a1": pause, "b1": last}
    batch = {P0: records(["a1"]), P1: records(["a2", "b1"], partition=1)}
    async with asyncio.timeout(5):
        handling = asyncio.create_task(bench.ground.handle(batch))
        last.open.set()
        await last.reached.wait()
        assert bench.script.began == ["a1", "b1"]
        pause.open.set()
        await handling
    assert bench.script.ended == ["b1", "a1", "a2"]


async def test_a_record_that_fails_is_buried_and_the_rest_goes_on(bench: Bench) -> None:
    bench.script.fails("a1", PermanentError(Code.SOURCE_MISSING, "no such blob"))
    bench.script.fails("b1", ZeroDivisionError())
    await bench.handle("a1", "a2", "b1", "b2")
    assert bench.script.ended == ["a2", "b2"]
    assert await bench.letters() == [
        (0, "poison_event", "no such blob"),
        (2, "poison_event", "ZeroDivisionError()"),
    ]


async def test_what_cannot_be_decoded_is_buried_as_it_came(bench: Bench) -> None:
    broken = Record(P0, 5, b"k", b"{not json", (("ce_type", b"x"),), 0)
    await bench.ground.handle({P0: [broken, *records(["k1"])]})
    assert bench.script.ended == ["k1"]
    (listed,) = await bench.desk.rows("positions.letters", before=9, most=9)
    (letter,) = await bench.desk.rows("positions.letter", id=listed["id"])
    assert (letter["key"], letter["value"], letter["record_offset"]) == (b"k", b"{not json", 5)


async def test_trouble_that_is_not_the_records_is_raised_after_the_others_ended(
    bench: Bench,
) -> None:
    pause = Pause()
    bench.script.fails("a1", TABLES_AWAY)
    bench.script.acts["b1"] = pause
    async with asyncio.timeout(5):
        handling = asyncio.create_task(bench.ground.handle({P0: records(["a1", "a2", "b1", "b2"])}))
        await pause.reached.wait()
        assert bench.script.began == ["a1", "b1"]
        pause.open.set()
        with pytest.raises(TransientError) as caught:
            await handling
    assert caught.value is TABLES_AWAY
    assert bench.script.ended == ["b1", "b2"]
    assert await bench.letters() == []


async def test_what_was_not_handled_is_handled_when_it_comes_again(bench: Bench) -> None:
    bench.script.fails("a2", TABLES_AWAY)
    with pytest.raises(TransientError):
        await bench.handle("a1", "a2", "a3")
    bench.script.acts.clear()
    await bench.handle("a1", "a2", "a3")
    assert bench.script.ended == ["a1", "a1", "a2", "a3"]


async def test_what_is_nobodys_is_kept_and_stops_nothing(bench: Bench) -> None:
    names = [f"{key}1" for key in "abcdefgh"]
    bench.script.parks(*names)
    await bench.handle(*names)
    await bench.handle("i1")
    assert bench.script.ended[-1] == "i1"
    assert await bench.letters() == [(n, "webhook_unknown", "nobody's") for n in range(8)]
    assert not await bench.limit.is_stopped()


async def test_a_letter_of_the_same_record_is_kept_once(bench: Bench) -> None:
    bench.script.parks("a1")
    await bench.handle("a1")
    await bench.handle("a1")
    assert len(await bench.letters()) == 1


async def test_too_many_failures_stop_it_until_somebody_has_looked(bench: Bench) -> None:
    for name in ("a1", "b1", "c1"):
        bench.script.fails(name, ZeroDivisionError())
    bench.script.parks("d1", "e1")
    await bench.ground.handle({P0: records(["a1", "b1", "d1", "e1"])})
    with pytest.raises(ProcessorStoppedError, match="2 of the last 4"):
        await bench.ground.handle({P1: records(["c1", "f1"], partition=1)})
    assert bench.script.ended[-1] == "f1"
    assert len(await bench.letters()) == 4
    assert await bench.limit.is_stopped()


async def test_one_failure_counts_once_however_often_it_comes_again(bench: Bench) -> None:
    bench.script.fails("a1", ZeroDivisionError())
    bench.script.fails("b1", TABLES_AWAY)
    for _ in range(5):
        with pytest.raises(TransientError):
            await bench.handle("a1", "b1")
    assert len(await bench.letters()) == 1
    assert not await bench.limit.is_stopped()


async def test_it_takes_as_many_as_it_has_slots_and_holds_nothing(bench: Bench) -> None:
    assert bench.ground.room() == 7
    assert await bench.ground.positions(frozenset({P0})) == {}
    async with asyncio.timeout(5):
        await bench.ground.wait_for_room()
        await bench.ground.drain(0)
    assert [topic.name for topic in bench.ground.topics] == ["webhooks.received"]
