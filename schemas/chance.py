"""Random bytes from the operating system, fetched for many ids at once.

A call of the system for each id costs more than the id, and gives the interpreter away to another
thread.
"""

import os

_SIZE = 16
_AT_ONCE = 256

_ready: list[bytes] = []


def random_bytes() -> bytes:
    """Give 16 random bytes, never given before; any thread may call it."""
    try:
        return _ready.pop()
    except IndexError:
        block = os.urandom(_SIZE * _AT_ONCE)
        _ready.extend(block[start : start + _SIZE] for start in range(_SIZE, len(block), _SIZE))
        return block[:_SIZE]


# A forked child would give the same bytes as its parent.
os.register_at_fork(after_in_child=_ready.clear)
