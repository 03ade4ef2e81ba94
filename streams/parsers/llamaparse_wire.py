"""The wire to LlamaCloud: a session that never repeats itself, safe addresses, capped bodies."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import (
    ClientHandlerType,
    ClientMiddlewareType,
    ClientRequest,
    ClientResponse,
    ClientSession,
)
from aiohttp.abc import AbstractResolver
from yarl import URL

from schemas.errors import Code
from streams.parsers.llamaparse_refusals import NoAnswerError
from streams.public_resolver import PublicResolver, look_up_in

MOST_CONNECTIONS = 64

_LOOK_UPS_AT_ONCE = 4

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class LostConnectionError(aiohttp.ClientError):
    """The connection was cut after the request had left, or while it did."""


class OversizeError(NoAnswerError):
    """The answer is larger than the call takes."""


@asynccontextmanager
async def open_session(
    *watching: ClientMiddlewareType, resolver: AbstractResolver | None = None
) -> AsyncIterator[ClientSession]:
    """Lend a session for calls; what watches it sees each request and answer.

    Each call has a connection of its own: one that was kept may be closed by the other side just
    as a submission leaves, which then nobody could tell from one that was carried out. A proxy or
    a .netrc of the process's environment is not looked at.
    """
    async with ClientSession(
        connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS, force_close=True, resolver=resolver),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "parsewire"},
        middlewares=(*watching, never_twice),
        trust_env=False,
    ) as session:
        yield session


@asynccontextmanager
async def open_files(api_url: str) -> AsyncIterator[ClientSession]:
    """Lend a session for downloads: LlamaCloud's own regions name public addresses alone."""
    if not of_llamacloud(api_url):
        async with open_session() as session:
            yield session
        return
    threads = ThreadPoolExecutor(_LOOK_UPS_AT_ONCE, thread_name_prefix="look-up")
    try:
        async with open_session(resolver=PublicResolver(look_up_in(threads))) as session:
            yield session
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def of_llamacloud(url: str) -> bool:
    """Tell whether an address is one of LlamaCloud's own."""
    return (URL(url, encoded=True).host or "").endswith(".llamaindex.ai")


async def never_twice(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Keep aiohttp from repeating a GET or DELETE by itself, which the gate would not see."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise LostConnectionError(type(error).__name__) from error


def checked_url(url: str, *, loopback: bool = True) -> str:
    """Give an address without its last slash; raise ValueError unless it is https or loopback."""
    parts = URL(url, encoded=True)
    safe = parts.scheme == "https" or (
        loopback and parts.scheme == "http" and parts.host in _LOOPBACK
    )
    if not safe or not parts.host or parts.user:
        raise ValueError("the address must begin with https:// and hold no password")
    return url.rstrip("/")


async def read_body(operation: str, response: ClientResponse, limit_bytes: int) -> bytes:
    """Read a body, counted after its decompression; raise OversizeError beyond the limit."""
    kept = bytearray()
    async for chunk in response.content.iter_any():
        kept += chunk
        if len(kept) > limit_bytes:
            raise OversizeError(
                Code.VENDOR_FAILED,
                f"the answer to {operation} has more than {limit_bytes} bytes",
            )
    return bytes(kept)
