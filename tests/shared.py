"""What the processes of one run of the tests share: opened by the first that needs it."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import IO

Open = Callable[[Path], AbstractAsyncContextManager[str]]
"""Opens it in a folder and gives its address."""

_OPEN_SECONDS = 300
_USE_SECONDS = 1800


@asynccontextmanager
async def open_shared(folder: Path, open_one: Open) -> AsyncIterator[str]:
    """Give the address of the one that all share; whoever opened it closes it as the last.

    Locks tell who needs it still: the kernel takes them from those who die.
    """
    address = folder / "address"
    with (folder / "lock").open("ab") as lock, (folder / "users").open("ab") as users:
        await _lock(lock, fcntl.LOCK_EX, _OPEN_SECONDS)
        await _lock(users, fcntl.LOCK_SH, _OPEN_SECONDS)
        if address.exists():
            fcntl.flock(lock, fcntl.LOCK_UN)
            yield address.read_text()
            return
        async with open_one(folder) as found:
            address.write_text(found)
            fcntl.flock(lock, fcntl.LOCK_UN)
            yield found
            await _lock(lock, fcntl.LOCK_EX, _OPEN_SECONDS)
            # Who comes from now on opens another.
            address.unlink()
            fcntl.flock(lock, fcntl.LOCK_UN)
            await _lock(users, fcntl.LOCK_EX, _USE_SECONDS)


async def _lock(file: IO[bytes], kind: int, within_seconds: float) -> None:
    async with asyncio.timeout(within_seconds):
        while True:
            try:
                return fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(0.05)
