"""Processes of Parsewire that are forked off one with everything imported, for the tests."""

import asyncio
import atexit
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import orjson

from services.embedded_broker import dying_with_parent

_START_SECONDS = 30


class Fork:
    """One process, as asyncio would give it."""

    def __init__(
        self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._writer = writer
        self._ended = asyncio.create_task(self._end(reader))

    async def wait(self) -> int:
        """Wait for its end and give its exit code (negative: the signal)."""
        return await asyncio.shield(self._ended)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it now."""
        self.send_signal(signal.SIGKILL)

    async def _end(self, reader: asyncio.StreamReader) -> int:
        self.returncode = await _said(reader, b"code")
        self._writer.close()
        return self.returncode


async def start_fork(
    module: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    output: int,
    errors: int = 2,
) -> Fork:
    """Start what `python -P -m MODULE ARGUMENTS` would, in a session of its own.

    It is killed when this process dies. What it prints goes to the open files `output` and
    `errors`; it reads nothing.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(_server(), [b"!"], [theirs.fileno(), output, errors])
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    order = {
        "module": module,
        "arguments": list(arguments),
        "environment": dict(environment),
        "folder": str(folder),
    }
    writer.write(orjson.dumps(order) + b"\n")
    async with asyncio.timeout(_START_SECONDS):
        pid = await _said(reader, b"pid")
    return Fork(pid, reader, writer)


async def _said(reader: asyncio.StreamReader, what: bytes) -> int:
    line = await reader.readline()
    name, _, number = line.partition(b" ")
    assert name == what, f"the server of forks said {line!r}"
    return int(number)


@cache
def _server() -> socket.socket:
    """Start the server, once; it ends when the other end of its socket is closed."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", "tests.fork_server", str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(
            dying_with_parent(command), stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
    atexit.register(_end, process, ours)
    return ours


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    process.wait(10)
