"""The disk store's writer: in memory while a blob is small, then in a temporary file."""

import hashlib
import os
import secrets
import time
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.events import BlobRef
from streams.blobs.disk_files import Directories, write_all
from streams.blobs.disk_threads import DiskThreads

TEMPORARY = "_tmp"
"""The owner of unfinished blobs; no tenant's name begins with an underscore."""

FLUSH_BYTES = 1 << 20
"""A writer holds at most this much of a blob, and one chunk, in memory."""

_OURS = secrets.token_hex(16)
_numbers = count()


class DiskWriter:
    """One blob on its way to the file `target`; nothing is left of it where it is not kept."""

    def __init__(
        self,
        threads: DiskThreads,
        directories: Directories,
        key: str,
        target: str,
        temporary_directory: str,
    ) -> None:
        self._threads = threads
        self._directories = directories
        self._key = key
        self._target = target
        self._target_directory = target.rpartition("/")[0]
        self._temporary_directory = temporary_directory
        # The process's number parts those who were forked with the same chance.
        name = f"{_OURS}-{os.getpid()}-{next(_numbers)}"
        self._temporary = f"{temporary_directory}/{name}"
        self._fd: int | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._size = 0
        self._hash = hashlib.sha256()
        self._open = True
        self.hash_seconds = 0.0
        self.gives_way = False
        """Leave what is kept under the key already, and set `gave_way`."""
        self.gave_way = False

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was not kept."""
        self._open = False
        self._held.clear()
        if self._fd is not None:
            await self._threads.hop(self._abandon)

    async def write(self, chunk: bytes) -> None:
        """Add a chunk; waits for the disk once a mebibyte has gathered."""
        if not self._open:
            raise ValueError("the blob is kept or closed already")
        self._held.append(chunk)
        self._held_bytes += len(chunk)
        if self._held_bytes >= FLUSH_BYTES:
            await self._threads.hop(self._flush)

    async def keep(self) -> BlobRef:
        """Make the blob durable under its key, and tell its hash and size."""
        if not self._open:
            raise ValueError("the blob is kept or closed already")
        self._open = False
        await self._threads.keep(self._finish, self._target_directory)
        return BlobRef(self._key, self._hash.hexdigest(), self._size)

    def _flush(self) -> int:
        if self._fd is None:
            self._directories.make(self._temporary_directory)
            self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        started = time.perf_counter()
        for chunk in self._held:
            self._hash.update(chunk)
        self.hash_seconds += time.perf_counter() - started
        for chunk in self._held:
            write_all(self._fd, chunk)
        self._size += self._held_bytes
        self._held.clear()
        self._held_bytes = 0
        return self._fd

    def _finish(self) -> None:
        """Give the synced file its name, which is durable once its directory is synced."""
        fd = self._flush()
        os.fsync(fd)
        self._directories.make(self._target_directory)
        if self.gives_way:
            self._link()
        else:
            os.rename(self._temporary, self._target)  # noqa: PTH104 - Paths take longer than it
        os.close(fd)
        self._fd = None

    def _link(self) -> None:
        """Take the name only if nobody has it."""
        try:
            os.link(self._temporary, self._target)
        except FileExistsError:
            self.gave_way = True
        Path(self._temporary).unlink()

    def _abandon(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            Path(self._temporary).unlink(missing_ok=True)
