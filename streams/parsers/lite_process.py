"""One child process as its parent sees it: frames to it, frames from it, and its end."""

import asyncio
import contextlib
import os
import struct
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import orjson

from schemas.errors import Code, TransientError

START_SECONDS = 30.0
STOP_SECONDS = 2.0

_LENGTH = struct.Struct(">I")
_LAST = ("done", "error", "scanned", "counted")
_DECODE_ON_LOOP_BYTES = 2_000_000
_FRAME_LIMIT_BYTES = 1 << 30
_READ_AHEAD_BYTES = 1 << 20


class LiteProcess:
    """A child that serves one request at a time; `idle` tells whether it may get the next one."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._between = False

    @property
    def idle(self) -> bool:
        """True while the child lives and owes nothing."""
        stdout = self._process.stdout
        over = stdout is None or stdout.at_eof()
        return self._between and not over and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    async def ready(self) -> None:
        """Wait for the child's first word; raise TransientError when it does not come."""
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._receive()
        except TimeoutError:
            raise TransientError(
                Code.PARSER_UNAVAILABLE, f"a parser process did not start in {START_SECONDS:.0f} s"
            ) from None
        self._between = True

    async def ask(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Send a request and give its answers, the last one included.

        Raise TransientError(PARSER_CRASHED) when the child ends before that.
        """
        self._between = False
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("the child was started without a pipe")
        body = orjson.dumps(request)
        stdin.write(_LENGTH.pack(len(body)) + body)
        with contextlib.suppress(ConnectionError):
            # A child that is gone is noticed, and said, by the read.
            await stdin.drain()
        while True:
            answer = await self._receive()
            self._between = any(last in answer for last in _LAST)
            yield answer
            if self._between:
                return

    async def stop(self) -> None:
        """Let an idle child end by itself, kill any other, and see it gone."""
        if self.idle and self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._process.wait()
        self.kill()
        await self.gone()

    def kill(self) -> None:
        """Kill the child; returns at once."""
        self._between = False
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def gone(self) -> None:
        """Wait until a killed child is reaped and its pipes are closed."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.stdout is not None:
            with contextlib.suppress(ConnectionError):
                # Unread bytes would keep the transport open for ever.
                await self._process.stdout.read()
        await self._process.wait()

    async def _receive(self) -> dict[str, Any]:
        stdout = self._process.stdout
        if stdout is None:
            raise RuntimeError("the child was started without a pipe")
        try:
            size = _LENGTH.unpack(await stdout.readexactly(_LENGTH.size))[0]
            if size > _FRAME_LIMIT_BYTES:
                raise TransientError(Code.PARSER_CRASHED, "the parser's process sent nonsense")
            body = await stdout.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise TransientError(Code.PARSER_CRASHED, "the parser's process died") from None
        if size > _DECODE_ON_LOOP_BYTES:
            return _decode(await asyncio.to_thread(orjson.loads, body))
        return _decode(orjson.loads(body))


async def start_process(
    command: Sequence[str], *, link: Path, max_pages: int, memory_limit_bytes: int | None
) -> LiteProcess:
    """Start a child and wait until it is ready; what does not get so far is killed."""
    settings = {
        "link": str(link),
        "max_pages": max_pages,
        "memory_limit_bytes": memory_limit_bytes,
        "parent_pid": os.getpid(),
    }
    child = LiteProcess(
        await asyncio.create_subprocess_exec(
            *command,
            orjson.dumps(settings).decode(),
            stdin=PIPE,
            stdout=PIPE,
            limit=_READ_AHEAD_BYTES,
        )
    )
    try:
        await child.ready()
    except BaseException:
        child.kill()
        await child.gone()
        raise
    return child


def _decode(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TransientError(Code.PARSER_CRASHED, "the parser's process sent nonsense")
    return value
