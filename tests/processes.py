"""Processes of Parsewire for tests: started the real way, killed and stopped at will."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.forks import Fork, start_fork

T = TypeVar("T")

MAIN = "services.cli.main"

_LOOK_SECONDS = 0.05
_VERB_SECONDS = 60

FAST: dict[str, object] = {
    "lease_seconds": 2,
    "renew_seconds": 0.3,
    "sweep_seconds": 0.2,
    "retry_base_seconds": 0.2,
    "retry_cap_seconds": 1,
    "offer_again_seconds": 2,
    "drain_seconds": 3,
    "kafka_session_timeout_seconds": 3,
    "kafka_send_timeout_seconds": 5,
    "topic_partitions": 4,
    "slots": 2,
    "log_format": "json",
}
"""Settings with short waits, so that what takes minutes takes seconds."""


async def until(look: Callable[[], Awaitable[T]], what: str, *, within_seconds: float) -> T:
    """Look again and again until there is something, and give it; fail after the deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within_seconds
    while True:
        found = await look()
        if found:
            return found
        assert loop.time() < end, f"not within {within_seconds:g} s: {what}"
        await asyncio.sleep(_LOOK_SECONDS)


def environment_of(settings: dict[str, object]) -> dict[str, str]:
    """Give a process's environment: these settings, and nobody else's."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PARSEWIRE_")}
    return clean | {f"PARSEWIRE_{name.upper()}": str(value) for name, value in settings.items()}


class Ended(NamedTuple):
    """How a process ended, and what it had printed."""

    code: int
    printed: bytes
    complained: bytes


async def run_verb(
    *arguments: str, environment: dict[str, str], folder: Path, module: str = MAIN
) -> Ended:
    """Run the command line, or another program, to its end."""
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as complained:
        process = await start_fork(
            module,
            arguments,
            environment=environment,
            folder=folder,
            output=printed.fileno(),
            errors=complained.fileno(),
        )
        try:
            async with asyncio.timeout(_VERB_SECONDS):
                code = await process.wait()
        finally:
            process.kill()
        printed.seek(0)
        complained.seek(0)
        return Ended(code, printed.read(), complained.read())


class FleetProcess:
    """One process of Parsewire, in a session of its own, as `parsewire up` starts it.

    `module` may be another program that runs it.
    """

    def __init__(
        self,
        verb: str,
        name: str,
        folder: Path,
        settings: dict[str, object],
        *,
        module: str = MAIN,
    ) -> None:
        self.log = folder / f"{name}.log"
        self._module = module
        self._verb = verb
        self._folder = folder
        self._settings = settings
        self._process: Fork | None = None
        self._sessions: list[int] = []

    @property
    def pid(self) -> int:
        """Tell the process id."""
        assert self._process is not None
        return self._process.pid

    async def start(self, **changes: object) -> None:
        """Start it, or start it again, with some settings changed for this life."""
        with self.log.open("ab") as output:
            self._process = await start_fork(
                self._module,
                [self._verb],
                environment=environment_of(self._settings | changes),
                # Nobody's .env lies there.
                folder=self._folder,
                output=output.fileno(),
                errors=output.fileno(),
            )
        self._sessions.append(self._process.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """Kill it by SIGKILL, and it alone: its children are left to notice."""
        self.signal(signal.SIGKILL)
        await self.wait(5)

    async def stop(self) -> None:
        """End it as a person would; kill it when it does not go."""
        if self._process is None or self._process.returncode is not None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            await self.wait(15)
        except TimeoutError:
            await self.kill()
            raise

    async def wait(self, within_seconds: float) -> int:
        """Wait for its end and give its exit code."""
        assert self._process is not None
        async with asyncio.timeout(within_seconds):
            return await self._process.wait()

    def alive(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.returncode is None

    async def no_children_left(self) -> None:
        """Wait until nothing that its past lives started is alive."""

        async def none_left() -> bool:
            return not any(_session_lives(number) for number in self._sessions)

        await until(none_left, "children of a dead process end", within_seconds=10)


def _session_lives(number: int) -> bool:
    """Tell whether a process of this session is alive (its leader's id is its number)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == number and fields[0] != "Z":
            return True
    return False
