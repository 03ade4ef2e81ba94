"""Repeating: trouble delays, more is done at once, a defect ends it."""

import asyncio
from collections.abc import Iterator

import pytest

from schemas.errors import Code, TransientError
from streams.repeating import repeat


class Work:
    """Does what it is told, one step a time; the last one is a defect."""

    def __init__(self, *steps: bool | Exception | None) -> None:
        self._steps: Iterator[bool | Exception | None] = iter((*steps, ValueError("a defect")))
        self.done = 0

    async def __call__(self) -> bool | None:
        step = next(self._steps)
        if isinstance(step, Exception):
            raise step
        self.done += 1
        return step


async def test_trouble_only_delays_and_a_defect_ends_it() -> None:
    away = TransientError(Code.TABLES_UNAVAILABLE, "away")
    work = Work(None, away, False, away, away, None)
    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="a defect"):
            await repeat(work, 0, failed="work_failed")
    assert work.done == 3


async def test_what_has_more_is_done_again_before_the_wait() -> None:
    work = Work(True, True)
    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="a defect"):
            await repeat(work, 3_600, failed="work_failed")
    assert work.done == 2
