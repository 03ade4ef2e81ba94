"""Backoff: waits that grow, with full jitter."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Backoff:
    """Waits up to `base`, then up to twice that, ... up to `cap`; in seconds."""

    base_seconds: float = 0.1
    cap_seconds: float = 5.0
    chance: Callable[[], float] = random.random
    failures: int = 0

    def next_seconds(self) -> float:
        """Count a failure and tell how long to wait; at least a tenth of the step."""
        step = min(self.cap_seconds, self.base_seconds * float(1 << min(self.failures, 30)))
        self.failures += 1
        return step * (0.1 + 0.9 * self.chance())

    def succeeded(self) -> None:
        """Begin anew."""
        self.failures = 0

    async def wait(self) -> None:
        """Wait after a failure."""
        await asyncio.sleep(self.next_seconds())

    async def retry(self, call: Callable[[], Awaitable[T]], error: type[Exception]) -> T:
        """Call until it does not raise `error`; for calls whose doubling does no harm.

        It ends with the trouble or with its caller's cancellation.
        """
        while True:
            try:
                return await call()
            except error as trouble:
                log.warning("called_again", error=str(trouble), failures=self.failures + 1)
            await self.wait()
