"""Blobs on a disk: one file each, durable before its name appears.

A key `<owner>/<rest>` is the file `<root>/<owner>/<rest with dots for slashes>`: keys have no
dots, so no two share a name. One flat directory per owner, never removed, costs one directory
fsync a blob and has no race between a writer that makes a directory and a deleter that drops it.
"""

import asyncio
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import BlobRef
from streams.blobs import disk_files
from streams.blobs.base import Stored

TEMPORARY = "_tmp"
"""The owner of unfinished blobs; no tenant's name begins with an underscore."""

FLUSH_BYTES = 1 << 20
"""A writer holds at most this much of a blob, and one chunk, in memory."""

_KEY = re.compile(r"[a-z0-9_-]{1,200}(/[a-z0-9_-]{1,200}){1,4}")
_LIST_AT_ONCE = 500

T = TypeVar("T")


class DiskBlobs:
    """Blobs under one directory, private to the user who runs us.

    `threads` writers fsync at once; with 8 a disk that takes milliseconds per fsync stays busy.
    """

    def __init__(
        self, root: Path, *, threads: int = 8, clock: Callable[[], float] = time.time
    ) -> None:
        self._root = root.absolute()
        self._clock = clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="blobs")
        self._durable: set[Path] = set()

    @asynccontextmanager
    async def open_writer(self, key: str) -> AsyncIterator["DiskWriter"]:
        """Begin a blob in a temporary file; leaving without `keep` removes that."""
        writer = DiskWriter(self, key)
        try:
            yield writer
        finally:
            await writer.close()

    async def put(self, key: str, content: bytes) -> BlobRef:
        """Keep `content` durably under `key`, replacing what was there."""
        async with self.open_writer(key) as writer:
            await writer.write(content)
            return await writer.keep()

    async def read(self, blob: BlobRef) -> bytes:
        """Read and verify a whole blob."""
        return await self.hop(disk_files.read_verified, self.path(blob.key), blob)

    @asynccontextmanager
    async def open_local(self, blob: BlobRef) -> AsyncIterator[Path]:
        """Lend the verified file itself; who holds it only reads."""
        path = self.path(blob.key)
        await self.hop(disk_files.verify, path, blob)
        yield path

    async def delete(self, key: str) -> None:
        """Remove a blob, or an unfinished one; one that is not there is no error."""
        await self.hop(partial(self.path(key).unlink, missing_ok=True))

    async def exists(self, key: str) -> bool:
        """Tell whether a blob is kept under `key`."""
        return await self.hop(self.path(key).is_file)

    async def list_all(self) -> AsyncIterator[Stored]:
        """Walk over every blob, unfinished ones too (owner `_tmp`); foreign files are passed by."""
        walk = disk_files.walk(self._root, _key_of, self._clock)
        while batch := await self.hop(disk_files.take, walk, _LIST_AT_ONCE):
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
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"not a blob key: {key[:80]!r}")
        owner, _, rest = key.partition("/")
        return self._root / owner / rest.replace("/", ".")

    def make_directory(self, directory: Path) -> None:
        """Make an owner's directory durable, once per process; blocks."""
        if directory not in self._durable:
            disk_files.make_directory(self._root, directory)
            self._durable.add(directory)

    async def hop(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking work in a thread; a cancelled caller still waits for its end.

        Raise TransientError(STORAGE_UNAVAILABLE) for what the operating system refuses.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pool, work, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # A thread that goes on after its caller left would race with the caller's clean-up.
            await asyncio.wait([future])
            raise
        except OSError as error:
            # Directories removed under a living process are made anew by the next writer.
            self._durable.clear()
            raise TransientError(
                Code.STORAGE_UNAVAILABLE, f"the disk said: {error.strerror or type(error).__name__}"
            ) from error


class DiskWriter:
    """One blob on its way: in memory while it is small, then in a temporary file."""

    def __init__(self, blobs: DiskBlobs, key: str) -> None:
        self._blobs = blobs
        self._key = key
        self._target = blobs.path(key)
        self._temporary = blobs.path(f"{TEMPORARY}/{secrets.token_hex(16)}")
        self._fd: int | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._size = 0
        self._hash = hashlib.sha256()
        self._open = True
        self.hash_seconds = 0.0

    async def write(self, chunk: bytes) -> None:
        """Add a chunk; waits for the disk once a mebibyte has gathered."""
        if not self._open:
            raise ValueError("the blob is kept or closed already")
        self._held.append(chunk)
        self._held_bytes += len(chunk)
        if self._held_bytes >= FLUSH_BYTES:
            await self._blobs.hop(self._flush)

    async def keep(self) -> BlobRef:
        """Make the blob durable under its key, and tell its hash and size."""
        if not self._open:
            raise ValueError("the blob is kept or closed already")
        self._open = False
        await self._blobs.hop(self._finish)
        return BlobRef(self._key, self._hash.hexdigest(), self._size)

    async def close(self) -> None:
        """Remove what was not kept."""
        self._open = False
        self._held.clear()
        if self._fd is not None:
            await self._blobs.hop(self._abandon)

    def _flush(self) -> None:
        if self._fd is None:
            self._blobs.make_directory(self._temporary.parent)
            self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        started = time.perf_counter()
        for chunk in self._held:
            self._hash.update(chunk)
        self.hash_seconds += time.perf_counter() - started
        for chunk in self._held:
            self._size += len(chunk)
            disk_files.write_all(self._fd, chunk)
        self._held.clear()
        self._held_bytes = 0

    def _finish(self) -> None:
        self._flush()
        if self._fd is None:
            raise RuntimeError("a flushed blob has a file")
        os.fsync(self._fd)
        self._blobs.make_directory(self._target.parent)
        self._temporary.rename(self._target)
        os.close(self._fd)
        self._fd = None
        disk_files.sync_directory(self._target.parent)

    def _abandon(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._temporary.unlink(missing_ok=True)


def _key_of(owner: str, name: str) -> str | None:
    key = f"{owner}/{name.replace('.', '/')}"
    return key if _KEY.fullmatch(key) else None
