"""Named sources: the bytes of a submission, wherever they are, copied to a blob of its job."""

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import BlobRef
from schemas.submission_record import Address
from streams.admission_rules import too_large_text
from streams.blobs.base import Blobs, BlobWriter, is_submitted_key
from streams.media import HEAD_BYTES, sniff
from streams.plain_file import open_plain
from streams.source_fetch import SourceFetch

log = structlog.get_logger(__name__)

_CHUNK_BYTES = 1 << 20

_ITS_PRODUCERS_FAULT = frozenset(
    {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG}
)
"""What was put there is not for us to read, or nothing can be: waiting would hold up everybody's
documents."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A document to be copied: whose, where it is, what it is said to be."""

    tenant: str
    source: bytes | BlobRef | Address
    media_type: str | None
    name: str | None


class _Copy:
    """Passes bytes on to a blob writer, counts them, and keeps the first ones to look at."""

    def __init__(self, writer: BlobWriter, max_bytes: int) -> None:
        self._writer = writer
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self.head = b""

    async def write(self, chunk: bytes) -> None:
        """Add a chunk; raise PermanentError(TOO_LARGE)."""
        self._size_bytes += len(chunk)
        if self._size_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        if len(self.head) < HEAD_BYTES:
            self.head += chunk[: HEAD_BYTES - len(self.head)]
        await self._writer.write(chunk)


class NamedSources:
    """Copies documents of at most `max_bytes`."""

    def __init__(self, blobs: Blobs, fetch: SourceFetch, *, max_bytes: int) -> None:
        self._blobs = blobs
        self._fetch = fetch
        self._max_bytes = max_bytes

    async def keep(self, key: str, wanted: Wanted) -> tuple[BlobRef, str]:
        """Copy the document to a blob `key`, and give that with the media type found.

        Raise PermanentError for what is wrong with it, as an upload over HTTP does, or with where
        it is; nothing is left then.
        """
        async with self._blobs.open_writer(key) as writer:
            copy = _Copy(writer, self._max_bytes)
            declared = await self._read(wanted, copy)
            media_type = sniff(copy.head, declared, wanted.name)
            try:
                blob = await writer.keep()
            except TransientError:
                # The name may be there already when the disk refuses to make it durable.
                await self.forget(key)
                raise
        expected = wanted.source
        if isinstance(expected, BlobRef) and expected.sha256 != blob.sha256:
            await self.forget(key)
            raise _mismatch("the blob changed while it was read")
        return blob, media_type

    async def forget(self, key: str) -> None:
        """Remove a blob that no row names; what cannot be removed is left to the janitor."""
        try:
            await self._blobs.delete(key)
        except TransientError as error:
            log.warning("blob_not_removed", blob=key, error=error.message)

    async def taken(self, source: bytes | BlobRef | Address) -> None:
        """Remove a producer's blob whose document is a job's by now."""
        if isinstance(source, BlobRef):
            await self.forget(source.key)

    async def _read(self, wanted: Wanted, copy: _Copy) -> str | None:
        source = wanted.source
        if isinstance(source, bytes):
            await copy.write(source)
            return wanted.media_type
        if source.size_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        if isinstance(source, BlobRef):
            await self._read_blob(wanted.tenant, source, copy)
            return wanted.media_type
        found = await self._fetch.fetch(
            source.url, copy.write, size_bytes=source.size_bytes, sha256=source.sha256
        )
        return wanted.media_type or found

    async def _read_blob(self, tenant: str, source: BlobRef, copy: _Copy) -> None:
        if not is_submitted_key(source.key, tenant):
            raise PermanentError(
                Code.SOURCE_NOT_FOUND,
                f"{source.key[:200]!r} is no blob of yours: submitted/{tenant}/<name>, the name "
                "of a-z, 0-9, '-' and '_'",
            )
        try:
            async with self._blobs.open_local(source) as path:
                async for chunk in _chunks(path):
                    await copy.write(chunk)
        except PermanentError as error:
            raise _as_submitted(error, source) from error
        except TransientError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in _ITS_PRODUCERS_FAULT:
                why = f"{source.key} cannot be read: {cause.strerror}"
                raise PermanentError(Code.SOURCE_NOT_FOUND, why) from error
            raise


def _as_submitted(error: PermanentError, source: BlobRef) -> PermanentError:
    """Say what a producer can do: the blob is theirs, and was never ours to lose."""
    if error.code is Code.SOURCE_MISSING:
        return PermanentError(Code.SOURCE_NOT_FOUND, f"there is no blob {source.key}")
    if error.code is Code.SOURCE_CORRUPT:
        return _mismatch(f"{source.key} has another size or sha256 than was said")
    return error


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    try:
        file = await asyncio.to_thread(open_plain, path)
        with file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise TransientError(
            Code.STORAGE_UNAVAILABLE, f"the disk said: {error.strerror or type(error).__name__}"
        ) from error


def _too_large(max_bytes: int) -> PermanentError:
    return PermanentError(Code.TOO_LARGE, too_large_text(max_bytes))


def _mismatch(message: str) -> PermanentError:
    return PermanentError(Code.SOURCE_MISMATCH, message)
