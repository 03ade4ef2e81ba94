"""A desk at which a document is fetched over the wire, and everything about it is seen."""

import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from schemas.errors import Code, PermanentError
from streams.fetch_hosts import read_fetch_hosts
from streams.source_fetch_https import FetchLimits, HttpsSourceFetch, open_https_source_fetch
from tests.doubles.https_origin import HOST, Certificate, HttpsOrigin, Roads, open_https_origin

DOCUMENT = b"%PDF-1.7 " + random.Random(6).randbytes(300_000)
LIMITS = FetchLimits(seconds=30.0, idle_seconds=20.0, most_bytes=1_000_000)
URL = f"https://{HOST}/a.pdf"


def answered(body: bytes, *fields: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Write an answer; its length is the body's unless another is told."""
    told = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {told}", "Content-Type: application/pdf"]
    return "\r\n".join([*lines, *fields, "", ""]).encode() + body


@dataclass(slots=True)
class SourceDesk:
    """A fetcher, where its roads lead, and what it has written."""

    origin: HttpsOrigin
    roads: Roads
    fetcher: HttpsSourceFetch
    written: bytearray = field(default_factory=bytearray)

    async def write(self, chunk: bytes) -> None:
        self.written += chunk

    async def fetch(self, url: str = URL, document: bytes = DOCUMENT) -> str | None:
        """Fetch what is named as this document."""
        sha256 = hashlib.sha256(document).hexdigest()
        return await self.fetcher.fetch(url, self.write, size_bytes=len(document), sha256=sha256)

    async def refused(self, url: str = URL, document: bytes = DOCUMENT) -> tuple[Code, str]:
        """Fetch in vain; give the code and the message."""
        with pytest.raises(PermanentError) as caught:
            await self.fetch(url, document)
        return caught.value.code, caught.value.message


@asynccontextmanager
async def open_source_desk(
    certificate: Certificate,
    *,
    limits: FetchLimits = LIMITS,
    trusted: bool = True,
) -> AsyncIterator[SourceDesk]:
    """Open a desk; a fetcher that trusts nobody new has the system's certificates alone."""
    async with open_https_origin(certificate) as origin:
        roads = Roads(origin.port)
        async with open_https_source_fetch(
            read_fetch_hosts(f"{HOST},*.example.org,other.example.com"),
            limits,
            look_up=roads.look_up,
            tls=certificate.trusted() if trusted else None,
            sockets=roads.sockets,
            chance=lambda: 0.0,
        ) as fetcher:
            yield SourceDesk(origin, roads, fetcher)
