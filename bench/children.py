"""Child processes of the bench: started, asked, measured, and stopped by their pid."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from bench.figures import BenchError
from services.embedded_broker import dying_with_parent

_STOP_SECONDS = 15.0
_ANSWER_LIMIT_BYTES = 1 << 24


class Child:
    """A process of this package that answers lines of JSON."""

    def __init__(self, name: str, process: Process, output: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._output = output

    async def answer(self, within_seconds: float) -> Any:
        """Read the next line; raise BenchError when it does not come."""
        stdout = self._process.stdout
        if stdout is None:
            raise BenchError(f"{self.name} was started without a pipe")
        try:
            async with asyncio.timeout(within_seconds):
                line = await stdout.readline()
        except TimeoutError:
            raise self._broken(f"said nothing within {within_seconds:g} s") from None
        if not line:
            raise self._broken("ended without an answer")
        return orjson.loads(line)

    def tell(self, order: Any = None) -> None:
        """Write a line of JSON to it."""
        if self._process.stdin is None:
            raise BenchError(f"{self.name} was started without a pipe")
        self._process.stdin.write(orjson.dumps(order) + b"\n")

    def cpu_seconds(self) -> float | None:
        """Tell the CPU time that it has used; None where there is no /proc."""
        stat = Path(f"/proc/{self.pid}/stat")
        if not stat.exists():
            return None
        # The name in parentheses may hold blanks; fields 14 and 15 are utime and stime, proc(5).
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def check_alive(self) -> None:
        """Raise BenchError when it has ended."""
        if self._process.returncode is not None:
            raise self._broken(f"ended with {self._process.returncode}")

    def _broken(self, how: str) -> BenchError:
        return BenchError(f"{self.name} {how}; see {self._output}")


@asynccontextmanager
async def open_child(
    name: str,
    module: str,
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Child]:
    """Run `python -m module` for as long as the context lasts; its stderr goes to a file."""
    output = folder / f"{name}.log"
    command = dying_with_parent([sys.executable, "-m", module, *arguments])
    with output.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=log,
            env=environment,
            limit=_ANSWER_LIMIT_BYTES,
        )
    try:
        yield Child(name, process, output)
    finally:
        await _stop(process)


@asynccontextmanager
async def open_server(
    name: str, module: str, *arguments: str, folder: Path, environment: Mapping[str, str]
) -> AsyncIterator[Child]:
    """Run a process that says nothing on its pipes; all that it prints goes to a file."""
    output = folder / f"{name}.log"
    command: Sequence[str] = dying_with_parent([sys.executable, "-m", module, *arguments])
    with output.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=log, stderr=log, env=environment
        )
    try:
        yield Child(name, process, output)
    finally:
        await _stop(process)


async def _stop(process: Process) -> None:
    """End it: asked first, killed when it does not go in time."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
