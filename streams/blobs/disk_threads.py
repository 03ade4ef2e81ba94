"""The disk store's threads: blocking work off the loop, and files made durable in groups."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from schemas.errors import Code, TransientError
from streams.blobs.disk_files import sync_directory

_GROUP = 8
"""The most files that one thread makes durable one after the other."""

_CROWD = 2
"""So many must wait before one more thread begins: a quick disk is served best by few threads,
and a slow one soon has them all."""

T = TypeVar("T")


@dataclass(slots=True)
class _Unkept:
    """A file that is to be durable under a name in `directory`, and who waits for that."""

    finish: Callable[[], None]
    directory: str
    done: asyncio.Future[None]
    error: Exception | None = None


class DiskThreads:
    """Threads for what blocks; a cancelled caller still waits for the end of its work.

    Raise TransientError(STORAGE_UNAVAILABLE) for what the operating system refuses, and call
    `on_trouble` first.
    """

    def __init__(self, threads: int, *, on_trouble: Callable[[], None]) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="blobs")
        self._most = threads
        self._on_trouble = on_trouble
        self._lock = Lock()
        self._waiting: deque[_Unkept] = deque()
        self._keeping = 0

    async def hop(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking work in a thread."""
        return await self._ended(
            asyncio.get_running_loop().run_in_executor(self._pool, work, *args)
        )

    async def keep(self, finish: Callable[[], None], directory: str) -> None:
        """Run `finish`, which gives a file its name in `directory`, and make that name durable.

        Files that wait at the same time are finished in groups, and share the directory's fsync.
        """
        unkept = _Unkept(finish, directory, asyncio.get_running_loop().create_future())
        with self._lock:
            self._waiting.append(unkept)
            many = len(self._waiting) >= _CROWD
            begin = not self._keeping or (many and self._keeping < self._most)
            self._keeping += begin
        if begin:
            self._pool.submit(self._keep_group)
        await self._ended(unkept.done)

    async def _ended(self, future: asyncio.Future[T]) -> T:
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # A thread that goes on after its caller left would race with the caller's clean-up.
            await asyncio.wait([future])
            raise
        except OSError as error:
            self._on_trouble()
            raise TransientError(
                Code.STORAGE_UNAVAILABLE, f"the disk said: {error.strerror or type(error).__name__}"
            ) from error

    def _keep_group(self) -> None:
        with self._lock:
            group = [self._waiting.popleft() for _ in range(min(_GROUP, len(self._waiting)))]
        try:
            _make_durable(group)
            for loop in {unkept.done.get_loop() for unkept in group}:
                loop.call_soon_threadsafe(_tell, group, loop)
        finally:
            self._go_on()

    def _go_on(self) -> None:
        with self._lock:
            more = bool(self._waiting)
            self._keeping -= not more
        if more:
            # Behind the reads that wait for a thread, so that a stream of uploads starves none.
            self._pool.submit(self._keep_group)


def _make_durable(group: list[_Unkept]) -> None:
    for unkept in group:
        try:
            unkept.finish()
        except Exception as error:  # noqa: BLE001 - its own caller is told, the others go on
            unkept.error = error
    named = [unkept for unkept in group if unkept.error is None]
    for directory in {unkept.directory for unkept in named}:
        try:
            sync_directory(directory)
        except Exception as error:  # noqa: BLE001 - every file's caller is told
            for unkept in named:
                if unkept.directory == directory:
                    unkept.error = error


def _tell(group: list[_Unkept], loop: asyncio.AbstractEventLoop) -> None:
    for unkept in group:
        if unkept.done.get_loop() is not loop or unkept.done.done():
            continue
        if unkept.error is None:
            unkept.done.set_result(None)
        else:
            unkept.done.set_exception(unkept.error)
