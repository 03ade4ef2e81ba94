"""The seam of documents that are fetched from an address which their producer has named."""

from collections.abc import Awaitable, Callable
from typing import Protocol

Write = Callable[[bytes], Awaitable[None]]


class SourceFetch(Protocol):
    """Gets documents from elsewhere; every end of a fetch is bounded in time."""

    async def fetch(self, url: str, write: Write, *, size_bytes: int, sha256: str) -> str | None:
        """Hand the document's bytes to `write` as they come, and give its declared content type.

        They are checked against the size and hash as they pass: what was written before an error
        is to be thrown away. Raise PermanentError: TOO_LARGE, URL_NOT_ALLOWED, URL_REDIRECTED,
        URL_ADDRESS_PRIVATE, URL_TOO_SLOW, URL_FAILED, SOURCE_MISMATCH; and what `write` raises.
        """
        ...
