"""A server of documents by HTTPS that answers by the byte, and the roads that lead to it."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import AddrInfoType

HOST = "docs.example.com"
PUBLIC = "93.184.216.34"

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]
"""What goes out as it is, or who writes it; the connection is closed afterwards."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of docs.example.com and *.example.org, signed by itself."""

    path: Path
    key: Path

    def trusted(self) -> ssl.SSLContext:
        """Make a client's context that trusts this certificate alone."""
        return ssl.create_default_context(cafile=str(self.path))

    def shown(self) -> ssl.SSLContext:
        """Make the server's context."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context


def make_certificate(folder: Path) -> Certificate:
    """Make one by the openssl command; skip the test where there is none."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate")
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
    command += ["-addext", f"subjectAltName=DNS:{HOST},DNS:*.example.org"]
    command += ["-keyout", str(made.key), "-out", str(made.path)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return made


@dataclass(slots=True)
class HttpsOrigin:
    """Answers a path with its answers in line, the last one for ever; keeps what was asked."""

    port: int = 0
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[bytes] = field(default_factory=list)

    def paths(self) -> list[str]:
        """Give the paths with their queries that were asked for, in order."""
        return [request.split(b" ", 2)[1].decode() for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            answers = self.answers[self.paths()[-1].partition("?")[0]]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            # Whoever fetches may hang up whenever it likes.
            return
        finally:
            writer.close()


@asynccontextmanager
async def open_https_origin(certificate: Certificate) -> AsyncIterator[HttpsOrigin]:
    """Listen on a free port of this machine."""
    origin = HttpsOrigin()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await origin.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificate.shown())
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


class Roads:
    """Names' addresses by look-up, and sockets that lead every address to one port of ours.

    Every one: should a private address ever be connected to, the fetch succeeds and is seen.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.addresses: list[Sequence[str] | None] = [[PUBLIC]]
        """What look-ups find, in line and the last one for ever; None: they never end."""
        self.looked_up: list[str] = []
        self.taken: list[tuple[str, int]] = []
        """The addresses that were connected to."""

    async def look_up(self, host: str) -> Sequence[str]:
        """Give the addresses that are due."""
        self.looked_up.append(host)
        found = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        if found is None:
            await asyncio.Event().wait()
        return found or []

    def sockets(self, info: AddrInfoType) -> socket.socket:
        """Make a socket that says where it was asked to go, and goes to the port."""
        return _Detour(self, info)


class _Detour(socket.socket):
    def __init__(self, roads: Roads, info: AddrInfoType) -> None:
        super().__init__(socket.AF_INET, info[1], info[2])
        self._roads = roads

    def connect(self, address: object) -> None:
        assert isinstance(address, tuple)
        self._roads.taken.append((address[0], address[1]))
        super().connect(("127.0.0.1", self._roads.port))
