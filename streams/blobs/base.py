"""The blob seam: bytes under a name that says who owns them."""

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from schemas.events import BlobRef

_WEBHOOKS = "webhooks"
_SUBMITTED = "submitted"
_NAME = re.compile(r"[a-z0-9_-]{1,200}")


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob as the store lists it: key and the age of its last change in seconds."""

    key: str
    age_seconds: float


def source_key(tenant: str, job_id: str) -> str:
    """Name the bytes that were uploaded for a job."""
    return f"{tenant}/{job_id}/source"


def result_key(tenant: str, job_id: str, attempt: int) -> str:
    """Name the result that an attempt's worker made."""
    return f"{tenant}/{job_id}/{attempt}/result"


def elsewhere_key(tenant: str, job_id: str, attempt: int) -> str:
    """Name the result that came from elsewhere, which may be late: no worker's is touched by it."""
    return f"{tenant}/{job_id}/{attempt}/elsewhere"


def result_keys(tenant: str, job_id: str, attempt: int) -> tuple[str, ...]:
    """Name every result that one attempt may have."""
    return result_key(tenant, job_id, attempt), elsewhere_key(tenant, job_id, attempt)


def webhook_key(event_id: str) -> str:
    """Name the body of a webhook that is too large for a record."""
    return f"{_WEBHOOKS}/{event_id}"


def is_webhook_key(key: str) -> bool:
    """Tell whether `webhook_key` made it; a tenant of that name has longer keys."""
    owner, _, event_id = key.partition("/")
    return owner == _WEBHOOKS and "/" not in event_id


def is_submitted_key(key: str, tenant: str) -> bool:
    """Tell whether a producer of the tenant may have put it there: `submitted/<tenant>/<name>`.

    A tenant called `submitted` has keys of jobs, longer or with `source` for a name.
    """
    prefix = f"{_SUBMITTED}/{tenant}/"
    name = key.removeprefix(prefix)
    return name not in (key, "source") and _NAME.fullmatch(name) is not None


class BlobWriter(Protocol):
    """Takes the bytes of one blob; nothing is kept before `keep`."""

    hash_seconds: float
    """How long the hashing has taken."""

    async def write(self, chunk: bytes) -> None:
        """Add a chunk."""
        ...

    async def keep(self) -> BlobRef:
        """Make the blob durable under its key, and tell its hash and size."""
        ...


class Blobs(Protocol):
    """A store of blobs.

    Every call may raise TransientError(STORAGE_UNAVAILABLE) for trouble of the store itself.
    """

    def open_writer(self, key: str) -> AbstractAsyncContextManager[BlobWriter]:
        """Begin a blob; leaving without `keep` leaves nothing behind."""
        ...

    async def put(self, key: str, content: bytes) -> BlobRef:
        """Keep `content` durably under `key`, replacing what was there."""
        ...

    async def put_first(self, key: str, content: bytes) -> BlobRef:
        """Keep `content` durably, unless something is kept under `key`: then tell what that is."""
        ...

    async def read(self, blob: BlobRef) -> bytes:
        """Read a whole blob; raise PermanentError SOURCE_MISSING or SOURCE_CORRUPT."""
        ...

    def open_local(self, blob: BlobRef) -> AbstractAsyncContextManager[Path]:
        """Lend a verified file of the blob's bytes for reading; raises as `read` does."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a blob; one that is not there is no error."""
        ...

    async def exists(self, key: str) -> bool:
        """Tell whether a blob is kept under `key`."""
        ...

    def list_all(self) -> AsyncIterator[Stored]:
        """Walk over every blob kept, in no promised order."""
        ...

    async def check(self) -> None:
        """Write, read and remove a few bytes; raise when the store does not do that."""
        ...
