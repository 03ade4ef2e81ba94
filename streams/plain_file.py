"""A file that others may have put there, opened as what it is: no link, no pipe to wait for."""

import os
from io import FileIO
from pathlib import Path

_AS_IT_IS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_plain(path: Path) -> FileIO:
    """Open it to read; raise OSError for a link, which may lead to what is not its owner's."""
    return FileIO(path, opener=lambda name, flags: os.open(name, flags | _AS_IT_IS))
