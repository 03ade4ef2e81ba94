"""The folder of links by which LiteParse gets a name that ends in .pdf.

A process that is killed leaves its folder; the next one removes it. A lock on the folder tells
the living from the dead, also where containers share a temporary directory but not process ids.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "parsewire-links-"

_YOUNG_SECONDS = 60.0
"""A folder this young may belong to a process that has not locked it yet."""


@contextmanager
def open_links(parent: Path | None = None) -> Iterator[Path]:
    """Lend a private folder below `parent`, by default the system's temporary directory."""
    parent = parent or Path(tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}*"):
        _remove_if_dead(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(fd)
        shutil.rmtree(folder)


def _remove_if_dead(folder: Path) -> None:
    # Somebody else's folder, or one that another process removes at the same moment, stays.
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if time.time() - os.fstat(fd).st_mtime > _YOUNG_SECONDS:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
        finally:
            os.close(fd)
