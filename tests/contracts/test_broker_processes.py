"""Brokers as processes: they start, are killed, come back, and do not outlive their parent."""

import asyncio
import os
import select
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest

from schemas.errors import Code, PermanentError, TransientError
from schemas.topics import Topic
from services.embedded_broker import start_embedded_broker
from streams.bus.base import Consumer, Outgoing, Partition
from streams.bus.kafka import KafkaBus
from tests.brokers import skip_or_fail
from tests.kafka_process import KafkaProcess, NoKafkaError

LETTERS = Topic("letters", "anything", (), 2, 1)

_PARENT = """
import asyncio, pathlib, sys
from services.embedded_broker import start_embedded_broker

async def main():
    broker = await start_embedded_broker(pathlib.Path(sys.argv[1]))
    print(broker.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.embedded
async def test_the_exit_of_an_embedded_broker_is_told(tmp_path: Path) -> None:
    broker = await start_embedded_broker(tmp_path / "broker.log")
    waiting = asyncio.create_task(broker.wait())
    os.kill(broker.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        assert await waiting == -signal.SIGKILL
    await broker.stop()


@pytest.mark.embedded
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
async def test_an_embedded_broker_dies_with_its_parent(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PARENT, str(tmp_path / "broker.log")),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    async with asyncio.timeout(30):
        broker = os.pidfd_open(int(await parent.stdout.readline()))
    try:
        parent.kill()
        await parent.wait()
        exited, _, _ = await asyncio.to_thread(select.select, [broker], [], [], 10)
        assert exited == [broker]
    finally:
        os.close(broker)


async def test_a_missing_binary_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", str(tmp_path / "missing"))
    with pytest.raises(PermanentError, match="PARSEWIRE_KAFKA_BOOTSTRAP_SERVERS"):
        await start_embedded_broker(tmp_path / "broker.log")


async def test_a_broker_that_ends_at_once_names_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no luck\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setenv("CALF_TANSU_BIN", str(broken))
    with pytest.raises(TransientError, match=r"broker\.log") as caught:
        await start_embedded_broker(tmp_path / "broker.log")
    assert caught.value.code is Code.BUS_UNAVAILABLE
    assert "no luck" in (tmp_path / "broker.log").read_text()


@pytest.mark.kafka
async def test_clients_outlive_a_kafka_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    kafka = KafkaProcess(tmp_path)
    try:
        await kafka.start()
    except NoKafkaError as error:
        skip_or_fail(str(error))
    bus = KafkaBus(kafka.bootstrap_servers, send_timeout_seconds=1, session_timeout_seconds=6)

    async def nothing(_: frozenset[Partition]) -> None:
        return

    try:
        await bus.ensure_topics([LETTERS])
        before = await bus.cluster_id()
        opening = bus.open_consumer("g", [LETTERS], on_assigned=nothing, on_revoked=nothing)
        async with bus.open_producer() as producer, opening as consumer, asyncio.timeout(90):
            await producer.send(Outgoing("letters", b"k", b"before", ()))
            await kafka.kill()
            with pytest.raises(TransientError):
                await producer.send(Outgoing("letters", b"k", b"during", ()))
            await kafka.start()
            assert await bus.cluster_id() == before
            while not await _sent(producer.send(Outgoing("letters", b"k", b"after", ()))):
                pass
            found: list[bytes | None] = []
            while b"after" not in found:
                found += await _fetched(consumer)
        assert found[0] == b"before"
    finally:
        await kafka.stop()


async def _sent(sending: Awaitable[None]) -> bool:
    try:
        await sending
    except TransientError:
        return False
    return True


async def _fetched(consumer: Consumer) -> list[bytes | None]:
    try:
        batches = await consumer.fetch(max_records=10, timeout_seconds=1)
    except TransientError:
        return []
    return [record.value for batch in batches.values() for record in batch]
