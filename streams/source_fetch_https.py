"""The fetcher of documents by HTTPS: from listed hosts at public addresses, within limits."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import structlog
from aiohttp import ClientResponse, ClientSession, ClientTimeout, SocketFactoryType, TCPConnector
from yarl import URL

from schemas.errors import Code, PermanentError
from streams.admission_rules import too_large_text
from streams.backoff import Backoff
from streams.content_length import content_length
from streams.fetch_hosts import Address, FetchHosts
from streams.public_resolver import LookUp, PublicResolver, look_up_in
from streams.source_body import SourceBody
from streams.source_fetch import Write

log = structlog.get_logger(__name__)

TRIES = 3

_HEADERS = {"User-Agent": "parsewire", "Accept": "*/*", "Accept-Encoding": "identity"}
_LINE_BYTES = 8192
_MOST_FIELDS = 100
_BUFFER_BYTES = 64 * 1024
_BASE_SECONDS = 0.5
_CAP_SECONDS = 5.0
_MAY_PASS = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How long one fetch may take with its tries, how long it may be silent, and its size.

    The time that our own disk takes is not the sender's, and does not count.
    """

    seconds: float
    idle_seconds: float
    most_bytes: int


@dataclass(frozen=True, slots=True)
class _Done:
    media_type: str | None


@dataclass(frozen=True, slots=True)
class _Again:
    """Nothing has come, for a reason that may pass."""

    why: str
    after_seconds: float = 0.0


class HttpsSourceFetch:
    """Fetches over HTTPS, a connection for each; made by `open_https_source_fetch`."""

    def __init__(
        self,
        session: ClientSession,
        hosts: FetchHosts,
        limits: FetchLimits,
        chance: Callable[[], float],
    ) -> None:
        self._session = session
        self._hosts = hosts
        self._limits = limits
        self._chance = chance

    async def fetch(self, url: str, write: Write, *, size_bytes: int, sha256: str) -> str | None:
        """Fetch as the seam says; what may pass is tried again as long as nothing has come."""
        address = self._hosts.check(url)
        if size_bytes > self._limits.most_bytes:
            most = self._limits.most_bytes
            raise PermanentError(Code.TOO_LARGE, too_large_text(most))
        deadline = _now() + self._limits.seconds
        backoff = Backoff(_BASE_SECONDS, _CAP_SECONDS, self._chance)
        tries = 0
        while isinstance(
            end := await self._try(address, write, SourceBody(size_bytes, sha256), deadline), _Again
        ):
            tries += 1
            log.info("source_not_fetched", host=address.host, why=end.why, tries=tries)
            seconds = max(end.after_seconds, backoff.next_seconds())
            if tries == TRIES or _now() + seconds >= deadline:
                raise _failed(address, f"{end.why} ({tries} tries)")
            await asyncio.sleep(seconds)
        return end.media_type

    async def _try(
        self, address: Address, write: Write, body: SourceBody, deadline: float
    ) -> _Done | _Again:
        answer = await self._ask(address, deadline)
        if isinstance(answer, _Again):
            return answer
        try:
            if _may_pass(answer.status):
                return _Again(f"it answered {answer.status}", _retry_after_seconds(answer))
            _refuse_unfit(address, answer)
            body.announce(content_length(answer.headers))
            await self._take(address, answer, write, body, deadline)
            return _Done(_media_type(answer))
        finally:
            _hang_up(answer)

    async def _ask(self, address: Address, deadline: float) -> ClientResponse | _Again:
        """Connect and read the answer's head; the resolver's refusal goes through."""
        url = URL(address.url, encoded=True)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._session.get(url, allow_redirects=False)
        except TimeoutError:
            raise self._too_slow(address) from None
        except aiohttp.ClientSSLError as error:
            raise _failed(address, f"no TLS: {type(error).__name__}") from None
        except (aiohttp.ClientConnectionError, OSError) as error:
            # By its kind alone: its text may hold the address, and that a secret.
            return _Again(f"no connection: {type(error).__name__}")
        except aiohttp.ClientError as error:
            raise _failed(address, f"it answered no HTTP: {type(error).__name__}") from None

    async def _take(
        self,
        address: Address,
        answer: ClientResponse,
        write: Write,
        body: SourceBody,
        deadline: float,
    ) -> None:
        while chunk := await self._read(address, answer, deadline):
            body.add(chunk)
            begun = _now()
            await write(chunk)
            deadline += _now() - begun
        body.finish()

    async def _read(self, address: Address, answer: ClientResponse, deadline: float) -> bytes:
        try:
            async with asyncio.timeout_at(deadline):
                return await answer.content.readany()
        except TimeoutError:
            raise self._too_slow(address) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _failed(address, f"the body was cut off: {type(error).__name__}") from None

    def _too_slow(self, address: Address) -> PermanentError:
        limits = self._limits
        return PermanentError(
            Code.URL_TOO_SLOW,
            f"{address.host} was silent for {limits.idle_seconds:g} s, or took more than "
            f"{limits.seconds:g} s in all",
        )


@asynccontextmanager
async def open_https_source_fetch(
    hosts: FetchHosts,
    limits: FetchLimits,
    *,
    look_up: LookUp | None = None,
    tls: ssl.SSLContext | None = None,
    sockets: SocketFactoryType | None = None,
    chance: Callable[[], float] = random.random,
    at_once: int = 1,
) -> AsyncIterator[HttpsSourceFetch]:
    """Lend a fetcher; a proxy or a .netrc of the environment is not looked at.

    Whoever fetches bounds how many documents come `at_once`: so many may wait for name servers
    without keeping another one waiting.
    """
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="look-up")
    connector = TCPConnector(
        resolver=PublicResolver(look_up or look_up_in(threads)),
        # What is looked up is what is connected to, every time.
        use_dns_cache=False,
        ssl=tls or ssl.create_default_context(),
        force_close=True,
        limit=0,
        socket_factory=sockets,
    )
    async with ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        timeout=ClientTimeout(
            total=None, sock_connect=limits.idle_seconds, sock_read=limits.idle_seconds
        ),
        # What is packed may be a thousand times larger once it is unpacked.
        auto_decompress=False,
        trust_env=False,
        read_bufsize=_BUFFER_BYTES,
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
        max_headers=_MOST_FIELDS,
    ) as session:
        try:
            yield HttpsSourceFetch(session, hosts, limits, chance)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _refuse_unfit(address: Address, answer: ClientResponse) -> None:
    status = answer.status
    if 300 <= status < 400:
        raise PermanentError(Code.URL_REDIRECTED, f"{address.host} answered {status}")
    if status != 200:
        raise _failed(address, f"it answered {status}")
    packed = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if packed not in ("", "identity"):
        raise _failed(address, "the body is packed, and was asked for as it is")


def _may_pass(status: int) -> bool:
    return status in _MAY_PASS or status >= 500


def _retry_after_seconds(answer: ClientResponse) -> float:
    digits = answer.headers.get("Retry-After", "").strip()
    return float(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0.0


def _media_type(answer: ClientResponse) -> str | None:
    declared = answer.headers.get("Content-Type", "").strip()
    return declared if declared.isascii() and declared.isprintable() and declared else None


def _hang_up(answer: ClientResponse) -> None:
    # TLS's own goodbye is waited for, from a sender that may never say it.
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()
    answer.close()


def _failed(address: Address, why: str) -> PermanentError:
    return PermanentError(Code.URL_FAILED, f"{address.host}: {why}")


def _now() -> float:
    return asyncio.get_running_loop().time()
