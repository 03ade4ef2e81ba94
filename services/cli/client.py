"""The gateway's client: what the verbs ask over HTTP, with bounded retries."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
import orjson

from schemas.errors import Code
from schemas.http import AskedBody, HistoryBody, JobBody, JobsBody, LinkBody, LinkOrder, UploadBody
from services.cli.run_file import Target
from streams.backoff import Backoff

T = TypeVar("T")

API = "/api/v1"
_RETRY_AFTER_CAP_SECONDS = 60.0
_AGAIN = frozenset({429, 502, 503, 504})

OnBytes = Callable[[int], None]
"""Told the bytes sent since the last call; fewer than none when a file begins anew."""


class GatewayError(Exception):
    """The gateway refused, or did not answer; the message is one line for a person."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        again: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.again = again
        """Whether the same call may succeed later."""
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What is asked of every uploaded file, by the gateway's own names; None asks nothing."""

    max_pages: int | None = None
    target_pages: str | None = None
    mode: str | None = None
    tier: str | None = None
    languages: str | None = None
    prompt: str | None = None
    disable_cache: bool = False
    force: bool = False

    def fields(self) -> dict[str, str]:
        """Write what is asked as form fields."""
        return {
            name: "true" if value is True else str(value)
            for name, value in asdict(self).items()
            if value is not None and value is not False
        }


class GatewayClient:
    """Speaks for one key; each call is tried `attempts` times."""

    def __init__(self, session: aiohttp.ClientSession, url: str, attempts: int) -> None:
        self._session = session
        self._url = url
        self._attempts = attempts

    async def upload(
        self, path: Path, options: UploadOptions, on_bytes: OnBytes = lambda _count: None
    ) -> UploadBody:
        """Upload a file; the same bytes twice are one job, so trying again does no harm."""
        return await self._patiently(lambda: self._upload_once(path, options, on_bytes))

    async def jobs(self, *, state: str | None, limit: int, before: str | None = None) -> JobsBody:
        """Give a page of jobs, the newest first."""
        given = {"state": state, "limit": str(limit), "before": before}
        query = {name: text for name, text in given.items() if text is not None}
        return await self._ask("/jobs", JobsBody, query)

    async def job(self, job_id: str) -> JobBody:
        """Give one job."""
        return await self._ask(f"/jobs/{job_id}", JobBody)

    async def history(self, job_id: str) -> HistoryBody:
        """Give what happened to the job, the oldest first."""
        return await self._ask(f"/jobs/{job_id}/history", HistoryBody)

    async def result(self, job_id: str, suffix: str) -> bytes:
        """Give the result: `md`, `txt` or `json`."""
        return await self._patiently(lambda: self._get(f"{API}/jobs/{job_id}/result.{suffix}"))

    async def link(self, job_id: str, seconds: int | None) -> LinkBody:
        """Give a link that opens the result without a key, for so long or as long as is usual."""
        order = orjson.dumps(LinkOrder(seconds))
        found = await self._patiently(
            lambda: self._send(f"{API}/jobs/{job_id}/link", order, LinkBody)
        )
        url = f"{self._url}{found.url}" if found.url.startswith("/") else found.url
        return LinkBody(url, found.expires_at)

    async def retry(self, job_id: str) -> AskedBody | None:
        """Ask to run a failed or cancelled job again; None when it is neither any more."""
        try:
            return await self._patiently(
                lambda: self._send(f"{API}/jobs/{job_id}/retry", None, AskedBody)
            )
        except GatewayError as error:
            if error.code == Code.CONFLICT:
                return None
            raise

    async def check(self) -> None:
        """Ask once whether anybody is there."""
        await self._get("/health")

    async def _ask(self, path: str, kind: type[T], query: dict[str, str] | None = None) -> T:
        return _read(await self._patiently(lambda: self._get(API + path, query)), kind)

    async def _get(self, path: str, query: dict[str, str] | None = None) -> bytes:
        with _reaching(self._url):
            async with self._session.get(self._url + path, params=query) as response:
                return await _content(response)

    async def _upload_once(
        self, path: Path, options: UploadOptions, on_bytes: OnBytes
    ) -> UploadBody:
        counted = await asyncio.to_thread(_CountedFile, path, on_bytes)
        form = aiohttp.FormData()
        for name, text in options.fields().items():
            form.add_field(name, text)
        form.add_field("file", counted, filename=path.name)
        try:
            return await self._send(f"{API}/upload", form, UploadBody)
        except BaseException:
            on_bytes(-counted.sent)
            raise
        finally:
            counted.close()

    async def _send(self, path: str, data: aiohttp.FormData | bytes | None, kind: type[T]) -> T:
        with _reaching(self._url):
            async with self._session.post(self._url + path, data=data) as response:
                return _read(await _content(response), kind)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        backoff = Backoff(base_seconds=0.5, cap_seconds=10.0)
        while True:
            try:
                return await call()
            except GatewayError as error:
                if not error.again or backoff.failures + 1 >= self._attempts:
                    raise
                wait_seconds = backoff.next_seconds()
                if error.retry_after_seconds is not None:
                    wait_seconds = min(error.retry_after_seconds, _RETRY_AFTER_CAP_SECONDS)
            await asyncio.sleep(wait_seconds)


@asynccontextmanager
async def open_client(target: Target, *, attempts: int = 1) -> AsyncIterator[GatewayClient]:
    """Open a client; nothing is asked yet."""
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {target.key}"},
        # A large upload lasts as long as it lasts; silence does not.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60),
    ) as session:
        yield GatewayClient(session, target.url, attempts)


class _CountedFile(io.BufferedReader):
    """A file that tells how much of it was read; aiohttp knows its length, and reads in threads."""

    def __init__(self, path: Path, on_bytes: OnBytes) -> None:
        super().__init__(io.FileIO(path))
        self.sent = 0
        self._on_bytes = on_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size)
        self.sent += len(data)
        self._on_bytes(len(data))
        return data


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Say where nobody answered."""
    try:
        yield
    except aiohttp.ClientConnectorError:
        message = f"no gateway at {url}: start one with `parsewire up`"
        raise GatewayError(message, code="no_gateway", again=True) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        message = f"the gateway at {url} broke off: {error or type(error).__name__}"
        raise GatewayError(message, code="no_answer", again=True) from None


async def _content(response: aiohttp.ClientResponse) -> bytes:
    raw = await response.read()
    if response.status < 400:
        return raw
    problem = _problem(raw)
    code = str(problem.get("code") or f"http_{response.status}")
    parts = [str(problem.get("detail") or problem.get("title") or response.reason), f"({code})"]
    if problem.get("advice"):
        parts.append(f"- {problem['advice']}")
    if problem.get("support_id"):
        parts.append(f"[support id {problem['support_id']}]")
    retry_after = response.headers.get("Retry-After", "")
    raise GatewayError(
        " ".join(parts),
        code=code,
        again=response.status in _AGAIN,
        retry_after_seconds=float(retry_after) if retry_after.isdecimal() else None,
    )


def _read(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.convert(orjson.loads(raw), kind)
    except ValueError as error:
        raise GatewayError(f"not an answer of Parsewire: {error}", code="no_answer") from None


def _problem(raw: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
