"""A document's body on its way in, held against the size and hash that its producer has named."""

import hashlib

from schemas.errors import Code, PermanentError


class SourceBody:
    """Counts and hashes what passes; each check raises PermanentError(SOURCE_MISMATCH)."""

    def __init__(self, size_bytes: int, sha256: str) -> None:
        self._size_bytes = size_bytes
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self._seen_bytes = 0

    def announce(self, length_bytes: int | None) -> None:
        """Refuse a length that the sender gives before the first byte, if it is another one."""
        if length_bytes is not None and length_bytes != self._size_bytes:
            raise _mismatch(f"it has {length_bytes} bytes, and {self._size_bytes} were named")

    def add(self, chunk: bytes) -> None:
        """Count a chunk before it is handed on; refuse the first one that is too much."""
        self._seen_bytes += len(chunk)
        if self._seen_bytes > self._size_bytes:
            raise _mismatch(f"it has more than the {self._size_bytes} bytes that were named")
        self._hash.update(chunk)

    def finish(self) -> None:
        """Refuse a body that has ended too soon or is another one."""
        if self._seen_bytes < self._size_bytes:
            raise _mismatch(f"it has {self._seen_bytes} bytes, and {self._size_bytes} were named")
        if self._hash.hexdigest() != self._sha256:
            raise _mismatch("its sha256 is not the one that was named")


def _mismatch(why: str) -> PermanentError:
    return PermanentError(Code.SOURCE_MISMATCH, f"the document is another one: {why}")
