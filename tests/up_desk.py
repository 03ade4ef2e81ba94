"""A desk for `parsewire up`: a whole deployment as one process, and a producer beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from services.cli.run_file import Running, read_key, read_run_file
from tests.fleet import Client
from tests.processes import FleetProcess, until

NEW_BROKER_SECONDS = 15


class Up:
    """A running `parsewire up` with the settings that it has for everybody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings: dict[str, object] = {
            "data_dir": folder,
            "gateway_port": 0,
            "topic_prefix": "up.",
            "slots": 1,
            "log_format": "json",
        }
        self.process = FleetProcess("up", "up", folder, settings)

    def running(self) -> Running:
        found = read_run_file(self.folder)
        assert found is not None
        return found

    async def new_broker(self, old_pid: int) -> Running:
        async def replaced() -> Running | None:
            found = read_run_file(self.folder)
            return found if found and found.broker_pid not in (None, old_pid) else None

        found = await until(replaced, "a new broker", within_seconds=NEW_BROKER_SECONDS)
        assert found is not None
        return found


@asynccontextmanager
async def open_up(folder: Path) -> AsyncIterator[tuple[Up, Client]]:
    up = Up(folder)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        await up.process.start()
        try:

            async def ready() -> bool:
                assert up.process.alive(), up.process.log.read_text()
                found = read_run_file(folder)
                if found is None:
                    return False
                try:
                    async with http.get(f"{found.gateway_url}/ready") as answer:
                        return answer.status == 200
                except (aiohttp.ClientError, OSError):
                    return False

            await until(ready, "the gateway is ready", within_seconds=40)
            token = read_key(folder)
            assert token is not None
            yield up, Client(http, up.running().gateway_url, token)
        finally:
            await up.process.stop()
