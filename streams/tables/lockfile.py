"""The writers' queue: lock files that let processes of one machine write by turns.

SQLite's own busy handler sleeps and retries, and a small writer beside a busy one loses every
race. Two locks make it a queue: whoever waits for `turn` holds `queue`, so the last writer cannot
overtake it. Both belong to an open file, so a process that dies frees them.
"""

import fcntl
import os
import re
import time
from pathlib import Path

_QUEUE_STEP_SECONDS = 0.0005
_TURN_STEP_SECONDS = 0.0001

_LOCKS = Path("/proc/locks")


class LockFile:
    """One writer's place in the queue; used by one thread."""

    def __init__(self, path: Path) -> None:
        self._queue = _open(path.with_name(path.name + ".queue"))
        self._turn = _open(path.with_name(path.name + ".turn"))

    def acquire(self, timeout_seconds: float) -> bool:
        """Wait for the turn, and tell whether it came in time."""
        end = time.monotonic() + timeout_seconds
        if not _take(self._queue, end, _QUEUE_STEP_SECONDS):
            return False
        try:
            return _take(self._turn, end, _TURN_STEP_SECONDS)
        finally:
            fcntl.flock(self._queue, fcntl.LOCK_UN)

    def release(self) -> None:
        """Give the turn to the next."""
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def holder(self) -> int | None:
        """Tell the process that has its turn, None where nobody has or the system does not say."""
        try:
            locks = _LOCKS.read_text()
        except OSError:
            # No Linux, or no leave to look: whoever asks waits in vain already.
            return None
        # `1: FLOCK  ADVISORY  WRITE <process> <device>:<inode> 0 EOF` (man 5 proc_locks); the
        # process is 0 or -1 where it is not ours to see.
        inode = os.fstat(self._turn).st_ino
        found = re.search(rf"\d: FLOCK +ADVISORY +WRITE +([1-9]\d*) +\S+:{inode} ", locks)
        return int(found[1]) if found else None

    def close(self) -> None:
        """Leave the queue for good."""
        os.close(self._queue)
        os.close(self._turn)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _take(descriptor: int, end: float, step_seconds: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(step_seconds)
        else:
            return True
