"""The start of each process where there is no broker: what it says, and that it can be ended."""

import signal
from pathlib import Path

import pytest

from services.child import EXIT_CONFIG
from services.embedded_broker import free_port
from tests.processes import FleetProcess, until

pytestmark = pytest.mark.processes

VERBS = ["gateway", "worker", "windows"]


def process_of(verb: str, folder: Path, servers: str) -> FleetProcess:
    settings: dict[str, object] = {
        "data_dir": folder / "data",
        "gateway_port": 0,
        "log_format": "json",
        "kafka_bootstrap_servers": servers,
    }
    return FleetProcess(verb, verb, folder, settings)


@pytest.mark.parametrize("verb", VERBS)
async def test_one_that_waits_for_its_broker_ends_when_it_is_told_to(
    tmp_path: Path, verb: str
) -> None:
    process = process_of(verb, tmp_path, f"127.0.0.1:{free_port()}")
    await process.start()
    try:

        async def waits() -> bool:
            return b"called_again" in process.log.read_bytes()

        await until(waits, f"the {verb} waits for its broker", within_seconds=30)
        process.signal(signal.SIGTERM)
        assert await process.wait(15) == 0
    finally:
        if process.alive():
            await process.kill()


@pytest.mark.parametrize("verb", VERBS)
async def test_one_that_is_given_no_broker_says_so_at_once(tmp_path: Path, verb: str) -> None:
    process = process_of(verb, tmp_path, "")
    await process.start()
    try:
        assert await process.wait(30) == EXIT_CONFIG
    finally:
        if process.alive():
            await process.kill()
    assert b"PARSEWIRE_KAFKA_BOOTSTRAP_SERVERS is empty" in process.log.read_bytes()
