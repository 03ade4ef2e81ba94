"""A child process that is kept running: started again when it dies or hangs."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from streams.backoff import Backoff

log = structlog.get_logger(__name__)

EXIT_CONFIG = 78
"""Exit code (EX_CONFIG) of a process whose configuration is wrong: starting it again is vain."""


class Process(Protocol):
    """A running process, as asyncio gives it."""

    @property
    def pid(self) -> int:
        """Tell the process id."""
        ...

    @property
    def returncode(self) -> int | None:
        """Tell the exit code (negative: the signal), None while it runs."""
        ...

    async def wait(self) -> int:
        """Wait for the exit and give its code."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """End it now, a stopped one too."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """One process of a deployment: how it is started on a broker, and how it is asked for life."""

    name: str
    start: Callable[[str], Awaitable[Process]]
    """Takes the bootstrap servers."""
    answers: Callable[[], Awaitable[bool]]
    """Must end by itself, within a few seconds."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long children are waited for."""

    ask_seconds: float = 3.0
    """Between two questions for life; with their time-out, six of them last about 30 s."""
    unanswered: int = 6
    """A process that leaves so many in a row unanswered hangs. Counted, not timed: a supervisor
    that was itself suspended must not kill healthy children."""
    unanswered_at_start: int = 40
    """The same before the first answer: a start waits a minute for an absent broker."""
    quick_seconds: float = 10.0
    """A shorter life than this is a quick death; the second in a row waits before the next."""
    again_seconds: float = 0.5
    again_cap_seconds: float = 30.0
    drain_seconds: float = 15.0
    """How long children may take to end when all ends."""
    replace_seconds: float = 2.0
    """The same when their broker is gone, and with it whatever they wait for."""


class WrongConfigurationError(Exception):
    """A child says that its configuration is wrong."""


class Deaths:
    """Tells how long to wait after a death: not at all, but longer and longer after quick ones."""

    def __init__(self, patience: Patience, clock: Callable[[], float] = time.monotonic) -> None:
        self._quick_seconds = patience.quick_seconds
        self._backoff = Backoff(patience.again_seconds, patience.again_cap_seconds)
        self._clock = clock
        self._began = clock()
        self._quick_before = False

    def born(self) -> None:
        """Note the beginning of a life."""
        self._began = self._clock()

    def wait_seconds(self) -> float:
        """Note its end, and tell how long to wait before the next."""
        quick = self._clock() - self._began < self._quick_seconds
        again = quick and self._quick_before
        self._quick_before = quick
        if not again:
            self._backoff.succeeded()
        return self._backoff.next_seconds() if again else 0.0


class Child:
    """Keeps one member running; `on_change` is called after each start."""

    def __init__(
        self,
        member: Member,
        patience: Patience,
        *,
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = member.name
        self.process: Process | None = None
        self._killed: Process | None = None
        self.starts = 0
        self._member = member
        self._patience = patience
        self._on_change = on_change
        self._clock = clock

    async def keep(self, bootstrap_servers: str) -> None:
        """Run the process again and again until cancelled, which leaves the last one running.

        Raise WrongConfigurationError when it ends with EXIT_CONFIG.
        """
        deaths = Deaths(self._patience, self._clock)
        while True:
            deaths.born()
            self.process = await self._member.start(bootstrap_servers)
            self.starts += 1
            self._on_change()
            code = await self._watch(self.process)
            if code == EXIT_CONFIG:
                raise WrongConfigurationError(f"{self.name} ended: its configuration is wrong")
            wait_seconds = deaths.wait_seconds()
            log.warning("child_ended", child=self.name, code=code, again_in=round(wait_seconds, 2))
            await asyncio.sleep(wait_seconds)

    async def stop(self, within_seconds: float) -> None:
        """End the process: asked first, killed when it does not go in time."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        # Before a signal asyncio's Popen asks whether the process has ended, and takes the exit
        # code for itself where it has, so that `wait` gives 255: not after it was killed, then.
        if process is not self._killed:
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(within_seconds):
                await process.wait()
        except TimeoutError:
            log.warning("child_killed", child=self.name, after_seconds=within_seconds)
            await _kill(process)

    def kill(self) -> None:
        """End the process now."""
        if self.process is not None and self.process.returncode is None:
            self._killed = self.process
            with suppress(ProcessLookupError):
                self.process.kill()

    async def _watch(self, process: Process) -> int:
        """Give the exit code, after killing the process if it hangs."""
        exited = asyncio.ensure_future(process.wait())
        hung = asyncio.create_task(
            wait_until_hung(self._member.answers, self._patience, has_answered=False)
        )
        try:
            await asyncio.wait({exited, hung}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            exited.cancel()
            hung.cancel()
        if process.returncode is None:
            log.error("child_hung", child=self.name, pid=process.pid)
            await _kill(process)
        return await process.wait()


async def wait_until_hung(
    answers: Callable[[], Awaitable[bool]], patience: Patience, *, has_answered: bool
) -> None:
    """Ask for life again and again, and return when too many questions in a row got no answer."""
    most = patience.unanswered if has_answered else patience.unanswered_at_start
    unanswered = 0
    while unanswered < most:
        await asyncio.sleep(patience.ask_seconds)
        if await answers():
            most, unanswered = patience.unanswered, 0
        else:
            unanswered += 1


async def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
