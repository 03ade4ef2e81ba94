"""The supervisor: a broker and the processes on it, all kept running."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from schemas.errors import TransientError
from services.child import Child, Deaths, Member, Patience, wait_until_hung
from streams.backoff import Backoff

log = structlog.get_logger(__name__)


class Broker(Protocol):
    """What the processes are started on; one whose `wait` never returns is somebody else's."""

    bootstrap_servers: str

    @property
    def pid(self) -> int | None:
        """Tell the process id, None for somebody else's."""
        ...

    async def wait(self) -> int:
        """Return once the broker is gone."""
        ...

    async def answers(self) -> bool:
        """Tell, within a few seconds, whether it is alive."""
        ...

    async def stop(self) -> None:
        """End it, where it is ours."""
        ...


class OutsideBroker:
    """A broker that is somebody else's: neither watched nor ended."""

    pid = None

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers

    async def wait(self) -> int:
        """Never return."""
        await asyncio.Event().wait()
        return 0

    async def answers(self) -> bool:
        """Ask nobody: its clients wait for it by themselves."""
        return True

    async def stop(self) -> None:
        """Leave it alone."""


StartBroker = Callable[[], Awaitable[Broker]]
"""Returns once the broker has answered."""


class Supervisor:
    """Keeps the members running on a broker, and puts a new broker in the place of a dead one.

    A new broker knows nothing, and clients of the old one would take it for the same: so every
    process is started anew with the new address. `on_change` is called after every start.
    """

    def __init__(
        self,
        members: Sequence[Member],
        start_broker: StartBroker,
        patience: Patience,
        *,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.broker: Broker | None = None
        self.children = [Child(member, patience, on_change=on_change) for member in members]
        self._start_broker = start_broker
        self._patience = patience

    async def run(self) -> None:
        """Run until cancelled, then end the children and, last, the broker.

        Raise what keeps the first broker from starting, and WrongConfigurationError.
        """
        deaths = Deaths(self._patience)
        try:
            broker = self.broker = await self._start_broker()
            while True:
                deaths.born()
                await self._keep_on(broker)
                log.error("broker_ended", bootstrap_servers=broker.bootstrap_servers)
                await broker.stop()
                await asyncio.sleep(deaths.wait_seconds())
                broker = await self._replace_broker()
        finally:
            await self._stop_children(self._patience.drain_seconds)
            if self.broker is not None:
                await self.broker.stop()

    def kill_children(self) -> None:
        """End the children now: for somebody who asks a second time."""
        for child in self.children:
            child.kill()

    async def _keep_on(self, broker: Broker) -> None:
        """Keep the children running until the broker is gone, or hangs."""
        gone = asyncio.create_task(broker.wait())
        hung = asyncio.create_task(
            wait_until_hung(broker.answers, self._patience, has_answered=True)
        )
        servers = broker.bootstrap_servers
        keeping = [asyncio.create_task(child.keep(servers)) for child in self.children]
        try:
            await asyncio.wait([gone, hung, *keeping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, hung, *keeping):
                task.cancel()
            ends = await asyncio.gather(*keeping, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _replace_broker(self) -> Broker:
        stopping = asyncio.create_task(self._stop_children(self._patience.replace_seconds))
        try:
            backoff = Backoff(self._patience.again_seconds, self._patience.again_cap_seconds)
            broker = self.broker = await backoff.retry(self._start_broker, TransientError)
        finally:
            await stopping
        log.warning("broker_replaced", bootstrap_servers=broker.bootstrap_servers)
        return broker

    async def _stop_children(self, within_seconds: float) -> None:
        await asyncio.gather(*(child.stop(within_seconds) for child in self.children))
