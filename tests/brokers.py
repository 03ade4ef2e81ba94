"""Brokers for tests: where a real Kafka comes from, and `python -m tests.brokers` to keep one.

In this order: PARSEWIRE_TEST_KAFKA (bootstrap servers), Docker by testcontainers where a daemon
answers, Java 17 with Maven. PARSEWIRE_TEST_NO_SKIP=1 makes the lack of one a failure. One that is
given must allow the tests' short sessions: group.min.session.timeout.ms=1000.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.kafka_process import KafkaProcess, NoKafkaError

DOCKER_SECONDS = 5.0


@asynccontextmanager
async def open_kafka(directory: Path) -> AsyncIterator[str]:
    """Give the bootstrap servers of a real Kafka; raise NoKafkaError with the reason."""
    given = os.environ.get("PARSEWIRE_TEST_KAFKA")
    if given:
        yield given
    elif await _docker_answers():
        async with _open_container() as servers:
            yield servers
    else:
        kafka = KafkaProcess(directory)
        try:
            await kafka.start()
            yield kafka.bootstrap_servers
        except NoKafkaError as error:
            reason = f"PARSEWIRE_TEST_KAFKA is not set, no Docker daemon answers, and {error}"
            raise NoKafkaError(f"no real Kafka: {reason}") from error
        finally:
            await kafka.stop()


def skip_or_fail(reason: str) -> NoReturn:
    """Skip a test that lacks something; fail it where nothing may be skipped."""
    if os.environ.get("PARSEWIRE_TEST_NO_SKIP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


async def _docker_answers() -> bool:
    """Tell whether a daemon answers: a client without one is common."""
    try:
        process = await asyncio.create_subprocess_exec(
            *("docker", "info"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(DOCKER_SECONDS):
            return await process.wait() == 0
    except TimeoutError:
        process.kill()
        await process.wait()
        return False


@asynccontextmanager
async def _open_container() -> AsyncIterator[str]:
    # Imported here: it looks for Docker's configuration as it is imported.
    from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415

    container = KafkaContainer().with_kraft()
    container.with_env("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
    container.with_env("KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS", "1000")
    await asyncio.to_thread(container.start, 120)
    try:
        yield container.get_bootstrap_server()
    finally:
        await asyncio.to_thread(container.stop)


async def _keep_one() -> None:
    asked_to_end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_end.set)
    with tempfile.TemporaryDirectory(prefix="parsewire-kafka-") as directory:
        async with open_kafka(Path(directory)) as servers:
            print(servers, flush=True)  # noqa: T201  # its output is its purpose
            await asked_to_end.wait()


if __name__ == "__main__":
    asyncio.run(_keep_one())
