"""The disk store's blocking file work: durable directories, verification, walking."""

import hashlib
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from schemas.errors import Code, PermanentError
from schemas.events import BlobRef
from streams.blobs.base import Stored
from streams.plain_file import open_plain

CHUNK_BYTES = 1 << 20


class Directories:
    """The owners' directories below `root`, each made and its name made durable once a process."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[str] = set()

    def make(self, directory: str) -> None:
        """Make an owner's directory, and all the names above it, durable; blocks."""
        if directory in self._durable:
            return
        root = self._root
        made = [path for path in (root, *root.parents) if not path.exists()]
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(directory).mkdir(mode=0o700, exist_ok=True)
        for path in {root, root.parent, *(path.parent for path in made)}:
            sync_directory(path)
        self._durable.add(directory)

    def forget(self) -> None:
        """Make each anew when it is next asked for."""
        self._durable.clear()


def sync_directory(directory: str | Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, chunk: bytes) -> None:
    """Write the whole chunk, however little the system takes at once."""
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]


def read_verified(path: Path, blob: BlobRef) -> bytes:
    """Read a blob; raise PermanentError SOURCE_MISSING or SOURCE_CORRUPT."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise _missing(blob) from None
    _compare(blob, len(content), hashlib.sha256(content).hexdigest())
    return content


def describe(path: Path, key: str) -> BlobRef:
    """Tell what a file has become."""
    content = path.read_bytes()
    return BlobRef(key, hashlib.sha256(content).hexdigest(), len(content))


def verify(path: Path, blob: BlobRef) -> None:
    """Compare a file with what it must be, in bounded memory; raise as `read_verified` does."""
    digest = hashlib.sha256()
    size = 0
    try:
        with open_plain(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                if size > blob.size_bytes:
                    break
    except FileNotFoundError:
        raise _missing(blob) from None
    _compare(blob, size, digest.hexdigest())


def walk(
    root: Path, key_of: Callable[[str, str], str | None], clock: Callable[[], float]
) -> Iterator[Stored]:
    """Give every file that has a key, with its age in seconds."""
    if not root.is_dir():
        return
    with os.scandir(root) as owners:
        names = [owner.name for owner in owners if owner.is_dir(follow_symlinks=False)]
    for name in names:
        with os.scandir(root / name) as entries:
            for entry in entries:
                key = key_of(name, entry.name)
                changed = _changed(entry)
                if key is not None and changed is not None:
                    yield Stored(key, clock() - changed)


def take(stored: Iterator[Stored], count: int) -> list[Stored]:
    """Take up to `count`; empty at the end."""
    return list(islice(stored, count))


def _changed(entry: os.DirEntry[str]) -> float | None:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return None


def _missing(blob: BlobRef) -> PermanentError:
    return PermanentError(Code.SOURCE_MISSING, f"no bytes under {blob.key}")


def _compare(blob: BlobRef, size: int, sha256: str) -> None:
    if size != blob.size_bytes:
        raise PermanentError(
            Code.SOURCE_CORRUPT, f"{blob.key} has {size} bytes, {blob.size_bytes} were kept"
        )
    if sha256 != blob.sha256:
        raise PermanentError(Code.SOURCE_CORRUPT, f"{blob.key} has another sha256 than was kept")
