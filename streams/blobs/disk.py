"""Blobs on a disk: one file each, durable before its name appears.

A key `<owner>/<rest>` is the file `<root>/<owner>/<rest with dots for slashes>`: keys have no
dots, so no two share a name. One flat directory per owner, never removed, lets blobs share a
directory fsync and has no race between a writer that makes a directory and a deleter that drops it.
"""

import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import BlobRef
from streams.blobs import disk_files
from streams.blobs.base import Stored
from streams.blobs.disk_files import Directories
from streams.blobs.disk_threads import DiskThreads
from streams.blobs.disk_writer import TEMPORARY, DiskWriter

_KEY = re.compile(r"[a-z0-9_-]{1,200}(/[a-z0-9_-]{1,200}){1,4}")
_LIST_AT_ONCE = 500


class DiskBlobs:
    """Blobs under one directory, private to the user who runs us.

    `threads` writers fsync at once; with 8 a disk that takes milliseconds per fsync stays busy.
    """

    def __init__(
        self, root: Path, *, threads: int = 8, clock: Callable[[], float] = time.time
    ) -> None:
        self._root = root.absolute()
        self._clock = clock
        self._directories = Directories(self._root)
        # Directories removed under a living process are made anew by the next writer.
        self._threads = DiskThreads(threads, on_trouble=self._directories.forget)
        self._temporary = f"{self._root}/{TEMPORARY}"

    def open_writer(self, key: str) -> DiskWriter:
        """Begin a blob in a temporary file; leaving without `keep` removes that."""
        return DiskWriter(self._threads, self._directories, key, self._file(key), self._temporary)

    async def put(self, key: str, content: bytes) -> BlobRef:
        """Keep `content` durably under `key`, replacing what was there."""
        async with self.open_writer(key) as writer:
            await writer.write(content)
            return await writer.keep()

    async def put_first(self, key: str, content: bytes) -> BlobRef:
        """Keep `content`, or tell what is kept under `key` already."""
        writer = self.open_writer(key)
        writer.gives_way = True
        async with writer:
            await writer.write(content)
            kept = await writer.keep()
        if not writer.gave_way:
            return kept
        return await self._threads.hop(disk_files.describe, self.path(key), key)

    async def read(self, blob: BlobRef) -> bytes:
        """Read and verify a whole blob."""
        return await self._threads.hop(disk_files.read_verified, self.path(blob.key), blob)

    @asynccontextmanager
    async def open_local(self, blob: BlobRef) -> AsyncIterator[Path]:
        """Lend the verified file itself; who holds it only reads."""
        path = self.path(blob.key)
        await self._threads.hop(disk_files.verify, path, blob)
        yield path

    async def delete(self, key: str) -> None:
        """Remove a blob, or an unfinished one; one that is not there is no error."""
        await self._threads.hop(partial(self.path(key).unlink, missing_ok=True))

    async def exists(self, key: str) -> bool:
        """Tell whether a blob is kept under `key`."""
        return await self._threads.hop(self.path(key).is_file)

    async def list_all(self) -> AsyncIterator[Stored]:
        """Walk over every blob, unfinished ones too (owner `_tmp`); foreign files are passed by."""
        walk = disk_files.walk(self._root, _key_of, self._clock)
        while batch := await self._threads.hop(disk_files.take, walk, _LIST_AT_ONCE):
            for stored in batch:
                yield stored

    async def check(self) -> None:
        """Write, read and remove a few bytes; raise when the store does not do that."""
        key = f"_check/{secrets.token_hex(16)}"
        blob = await self.put(key, b"parsewire")
        try:
            await self.read(blob)
        except PermanentError as error:
            raise TransientError(Code.STORAGE_UNAVAILABLE, "the disk lost a test blob") from error
        finally:
            await self.delete(key)

    def path(self, key: str) -> Path:
        """Name the file of a key; raise ValueError for one that is not made of our own ids."""
        return Path(self._file(key))

    def _file(self, key: str) -> str:
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"not a blob key: {key[:80]!r}")
        owner, _, rest = key.partition("/")
        return f"{self._root}/{owner}/{rest.replace('/', '.')}"


def _key_of(owner: str, name: str) -> str | None:
    key = f"{owner}/{name.replace('.', '/')}"
    return key if _KEY.fullmatch(key) else None
