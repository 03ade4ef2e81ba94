"""Calls to LlamaCloud: one request each, through the gate, within a deadline, read up to a cap."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
import structlog
from aiohttp import ClientResponse, ClientSession, ClientTimeout
from aiohttp.helpers import is_ip_address
from yarl import URL

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from streams.parsers.base import Gate
from streams.parsers.llamaparse_answers import UnexpectedAnswerError, read_answer
from streams.parsers.llamaparse_refusals import (
    NoAnswerError,
    Refusal,
    download_fault,
    error_of,
    read_refusal,
    vendor_fault,
)
from streams.parsers.llamaparse_wire import (
    OversizeError,
    checked_url,
    of_llamacloud,
    read_body,
)
from streams.public_addresses import is_public

log = structlog.get_logger(__name__)

T = TypeVar("T")

MEGABYTE = 1 << 20
BODY_LIMIT_BYTES = 64 * MEGABYTE
CONNECT_SECONDS = 10.0

SLOWEST_BYTES_PER_SECOND = 256 * 1024
"""What a line must carry: a deadline without the size cuts large documents off on slow lines, and
one that fits the largest lets a dead call hold its slot for half an hour."""

_DECODE_ON_LOOP_BYTES = 2_000_000
_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


@dataclass(frozen=True, slots=True)
class Call:
    """One request; `expected` are the refusals that the caller reads itself, and that blame nobody.

    `of_document` says that a refusal may blame the document that the call stands for; `pays_for`,
    how many calls of the account's rate it takes up.
    """

    operation: str
    method: str
    path: str
    seconds: float
    query: Sequence[tuple[str, str]] = ()
    body: bytes | aiohttp.FormData | None = field(default=None, repr=False)
    expected: frozenset[int] = frozenset()
    of_document: bool = False
    pays_for: int = 1
    limit_bytes: int = BODY_LIMIT_BYTES


def seconds_for(call_seconds: float, size_bytes: int) -> float:
    """Give the deadline of a call that moves so many bytes."""
    return call_seconds + size_bytes / SLOWEST_BYTES_PER_SECOND


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a call goes, what goes with it, what no message may hold, and who is to blame."""

    url: URL
    headers: Mapping[str, str] = field(repr=False)
    secrets: Sequence[str] = field(repr=False)
    fault: Callable[[Refusal], Code | None]
    session: ClientSession


class Calls:
    """LlamaCloud at one address with one key.

    It follows no redirect, so the key goes nowhere else, and never repeats a request by itself.
    """

    def __init__(
        self,
        session: ClientSession,
        gate: Gate,
        *,
        url: str,
        api_key: str,
        project_id: str | None,
        secrets: Sequence[str] = (),
        files: ClientSession | None = None,
    ) -> None:
        self._session = session
        self._files = files or session
        self._gate = gate
        self._base = checked_url(url)
        self._headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
        self._project = [("project_id", project_id)] if project_id else []
        self._secrets = (api_key, *secrets)

    async def demand(self, call: Call, kind: type[T], hidden: Sequence[str] = ()) -> T:
        """Make a call of which no refusal is expected; `hidden` is kept out of messages too.

        Raise NoAnswerError where the request may have been carried out, TransientError and
        PermanentError where it was not.
        """
        answer = await self.ask(call, kind, hidden)
        if isinstance(answer, Refusal):
            raise error_of(answer, call.operation, of_document=call.of_document)
        return answer

    async def ask(self, call: Call, kind: type[T], hidden: Sequence[str] = ()) -> T | Refusal:
        """Make the call; give its answer, or a refusal that the call expects."""
        url = URL(f"{self._base}{call.path}", encoded=True)
        url = url.with_query([*call.query, *self._project])
        secrets = (*self._secrets, *hidden)
        target = _Target(url, self._headers, secrets, vendor_fault, self._session)
        answer = await self._gated(call, target, kind)
        if isinstance(answer, Refusal) and answer.status not in call.expected:
            raise error_of(answer, call.operation, of_document=call.of_document)
        return answer

    async def download(self, call: Call) -> bytes:
        """Fetch a presigned URL, the call's whole path; our key does not go there.

        Raise TransientError for an address that leads into a network, where LlamaCloud named it.
        """
        try:
            url = URL(checked_url(call.path, loopback=self._base.startswith("http:")), encoded=True)
        except ValueError:
            raise _unsafe() from None
        host = url.host or ""
        # No resolver is asked for what is an address already.
        if of_llamacloud(self._base) and is_ip_address(host) and not is_public(host):
            raise _unsafe()
        target = _Target(url, {}, self._secrets, download_fault, self._files)
        try:
            answer = await self._gated(call, target, bytes)
        except PermanentError as error:
            raise (_unsafe() if error.code is Code.URL_ADDRESS_PRIVATE else error) from None
        if isinstance(answer, Refusal):
            raise TransientError(Code.VENDOR_FAILED, f"the download gave {answer.status}")
        return answer

    async def _gated(self, call: Call, target: _Target, kind: type[T]) -> T | Refusal:
        deadline = await self._enter(call)
        try:
            answer = await self._request(call, target, kind, deadline)
        except OversizeError:
            await self._note(call, None)
            raise
        except ParsewireError as error:
            await self._note(call, error.code)
            raise
        failure = None
        if isinstance(answer, Refusal) and answer.status not in call.expected:
            failure = target.fault(answer)
        await self._note(call, failure)
        return answer

    async def _enter(self, call: Call) -> float:
        """Give the call's deadline, in which the wait for the gate counts."""
        deadline = asyncio.get_running_loop().time() + call.seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._gate.enter(call.operation, call.pays_for)
        except TimeoutError:
            raise TransientError(
                Code.VENDOR_RATE_LIMITED, f"{call.operation} had no turn in {call.seconds:g} s"
            ) from None
        return deadline

    async def _note(self, call: Call, failure: Code | None) -> None:
        try:
            await self._gate.note(call.operation, failure)
        except TransientError as error:
            # What was answered, perhaps the id of a job that costs, outweighs the bookkeeping.
            log.warning("call_not_noted", operation=call.operation, error=error.message)

    async def _request(
        self, call: Call, target: _Target, kind: type[T], deadline: float
    ) -> T | Refusal:
        request = target.session.request(
            call.method,
            target.url,
            data=call.body,
            headers=_with_type(target.headers, call.body),
            timeout=ClientTimeout(total=None, connect=CONNECT_SECONDS),
            allow_redirects=False,
        )
        try:
            async with asyncio.timeout_at(deadline), request as response:
                return await _read(call, response, kind, target.secrets)
        except UnexpectedAnswerError:
            raise NoAnswerError(
                Code.VENDOR_FAILED, f"unexpected answer to {call.operation}"
            ) from None
        except _UNSENT as error:
            why = type(error).__name__
            raise TransientError(Code.PARSER_UNAVAILABLE, f"no connection: {why}") from None
        except TimeoutError:
            raise NoAnswerError(
                Code.PARSER_UNAVAILABLE, f"no answer to {call.operation} in {call.seconds:g} s"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            why = type(error).__name__
            raise NoAnswerError(
                Code.PARSER_UNAVAILABLE, f"the answer to {call.operation} was lost: {why}"
            ) from None


def _unsafe() -> TransientError:
    return TransientError(Code.VENDOR_FAILED, "the download's address is unsafe")


def _with_type(headers: Mapping[str, str], body: object) -> Mapping[str, str]:
    return {**headers, "Content-Type": "application/json"} if isinstance(body, bytes) else headers


async def _read(
    call: Call, response: ClientResponse, kind: type[T], secrets: Sequence[str]
) -> T | Refusal:
    body = await read_body(call.operation, response, call.limit_bytes)
    if not 200 <= response.status < 300:
        retry_after = response.headers.get("Retry-After")
        return read_refusal(response.status, body, retry_after, secrets)
    if isinstance(body, kind):
        return body
    if len(body) > _DECODE_ON_LOOP_BYTES:
        return await asyncio.to_thread(read_answer, body, kind)
    return read_answer(body, kind)
