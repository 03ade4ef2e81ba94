"""Following jobs over HTTP until each has come to its end."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable

from schemas.http import JobBody
from schemas.job import UNFINISHED
from services.cli.client import GatewayClient

_AT_ONCE = 16
_FIRST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 1.0


class Following:
    """Jobs to be asked for by turns, so that ten thousand cost the gateway no more than sixteen."""

    def __init__(self, client: GatewayClient) -> None:
        self._client = client
        self._waiting: deque[tuple[str, int]] = deque()
        self._added = asyncio.Event()
        self._closed = False

    def add(self, job_id: str, *, past_attempt: int = 0) -> None:
        """Follow this job too, to the end of an attempt later than `past_attempt`."""
        self._waiting.append((job_id, past_attempt))
        self._added.set()

    def close(self) -> None:
        """Add no more: `ends` returns once the last job has ended."""
        self._closed = True
        self._added.set()

    async def ends(self) -> AsyncIterator[JobBody]:
        """Give each job that was added, when it has ended; raise GatewayError without answers."""
        wait_seconds = _FIRST_WAIT_SECONDS
        while self._waiting or not self._closed:
            if not self._waiting:
                self._added.clear()
                await self._added.wait()
                continue
            turn = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
            found = await asyncio.gather(*(self._client.job(job_id) for job_id, _ in turn))
            any_ended = False
            for (job_id, past_attempt), job in zip(turn, found, strict=True):
                if job.state in UNFINISHED or job.attempt <= past_attempt:
                    self._waiting.append((job_id, past_attempt))
                else:
                    any_ended = True
                    yield job
            wait_seconds = _FIRST_WAIT_SECONDS if any_ended else wait_seconds * 1.5
            await asyncio.sleep(min(wait_seconds, _LONGEST_WAIT_SECONDS))


async def follow(client: GatewayClient, job_ids: Iterable[str]) -> dict[str, JobBody]:
    """Wait for the end of every job."""
    following = Following(client)
    for job_id in job_ids:
        following.add(job_id)
    following.close()
    return {job.job_id: job async for job in following.ends()}
