"""Repeating: work that is done again and again until its process ends."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from schemas.errors import TransientError

log = structlog.get_logger(__name__)


async def repeat(
    work: Callable[[], Awaitable[bool | None]], every_seconds: float, *, failed: str
) -> None:
    """Do it until cancelled; expected trouble is logged under the name `failed`, and only delays.

    Work that gives True has more to do, and is done again at once.
    """
    while True:
        try:
            while await work() is True:
                log.info("goes_on", instead_of=failed)
        except TransientError as error:
            log.warning(failed, error=error.message)
        await asyncio.sleep(every_seconds)
