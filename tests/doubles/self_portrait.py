"""A process that says what it is, as JSON: `python -m tests.doubles.self_portrait CODE ...`."""

import asyncio
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import orjson


def portrait() -> dict[str, Any]:
    """Give what the start of a process decides; `chance` apart, it is the same every time."""
    links = {int(entry.name): entry for entry in Path("/proc/self/fd").iterdir()}
    handlers = {str(n): repr(signal.getsignal(n)) for n in signal.valid_signals()}
    return {
        "arguments": sys.argv,
        "path": sys.path,
        "flags": repr(sys.flags),
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "files": sorted(number for number, link in links.items() if link.is_symlink()),
        "reads": Path("/proc/self/fd/0").readlink().name,
        "terminal": [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "buffering": [sys.stdout.line_buffering, sys.stderr.line_buffering],
        "leads": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "handlers": {n: said for n, said in handlers.items() if "object at" not in said},
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "wakeup": signal.set_wakeup_fd(-1),
        "threads": threading.active_count(),
        "loop": asyncio._get_running_loop() is not None,
        "name": __name__,
        "main": vars(sys.modules["__main__"]).get("portrait") is portrait,
        "chance": random.random(),
    }


if __name__ == "__main__":
    sys.stdout.write(orjson.dumps(portrait()).decode())
    sys.stderr.write("said\n")
    sys.exit(int(sys.argv[1]))
