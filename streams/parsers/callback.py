"""The callback parser: a self-hosted service that takes documents and calls back with results."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import aiohttp
import structlog
from aiohttp import ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from schemas.callback_job import their_id_in, vendor_job_id
from schemas.errors import Code, ParsewireError, TransientError
from schemas.events import ParseOptions
from streams.media import ACCEPTED
from streams.parsers.base import (
    Document,
    Gate,
    Parsed,
    SubmissionUnresolvedError,
    VendorJob,
    VendorState,
)
from streams.parsers.callback_order import (
    DocumentFile,
    open_document,
    order_form,
    order_of,
    signature_of,
)
from streams.parsers.llamaparse_refusals import (
    NoAnswerError,
    Refusal,
    error_of,
    read_refusal,
    vendor_fault,
)
from streams.parsers.llamaparse_wire import OversizeError, open_session, read_body

log = structlog.get_logger(__name__)

ANSWER_LIMIT_BYTES = 64 * 1024
CONNECT_SECONDS = 10.0

_SUBMIT = "submit"
_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


@dataclass(frozen=True, slots=True)
class CallbackOptions:
    """A service: where it takes documents, what we sign with, where it sends its results.

    `submit_seconds` is for the whole POST, the document's bytes included.
    """

    url: str
    secret: str = field(repr=False)
    callback_url: str
    max_pages: int
    submit_seconds: float


class CallbackParser:
    """A RemoteParser; make it with `open_callback_parser`.

    A document goes there by one signed POST. Nobody there can be asked: a job is pending until
    its webhook tells its end (`streams/artifacts.py`), or its deadline has passed.
    """

    name = "callback"
    version = "1"

    def __init__(self, options: CallbackOptions, session: ClientSession, gate: Gate) -> None:
        self.submit_seconds = options.submit_seconds
        self._options = options
        self._url = URL(options.url, encoded=True)
        self._key = options.secret.encode()
        self._session = session
        self._gate = gate

    def accepts(self, media_type: str) -> bool:
        """Tell whether it reads this media type."""
        return media_type in ACCEPTED

    def tier(self, options: ParseOptions) -> str | None:
        """Name none: a service of one's own has no tiers that we know of."""
        del options
        return None

    async def upload(self, document: Document) -> str:
        """Give the document's hash: its bytes go along with the order."""
        return document.sha256

    async def submit(self, document: Document, file_id: str) -> VendorJob:
        """Send order and bytes by one request that is never repeated.

        Any 2xx takes the job. A clear refusal, and an end before all bytes were read to be sent,
        leave no job; a time-out, a cut or a 5xx after that leave the matter open.
        """
        del file_id
        order = order_of(document, self._options.callback_url, self._options.max_pages)
        with open_document(document) as file:
            try:
                theirs = await self._gated(document, order, file)
            except NoAnswerError as error:
                if file.taken_bytes < document.size_bytes:
                    # Half a document has another hash than the order says: nobody parses it.
                    raise
                raise SubmissionUnresolvedError(error.message) from error
        named = vendor_job_id(document.job_id, document.attempt, theirs)
        return VendorJob(named, VendorState.PENDING, document.job_id, document.attempt)

    async def look(self, vendor_job_ids: Sequence[str]) -> Mapping[str, VendorJob]:
        """Call every job pending: only its webhook, or its deadline, says otherwise."""
        return {name: VendorJob(name, VendorState.PENDING) for name in vendor_job_ids}

    async def see(self, vendor_job_id: str) -> VendorJob | None:
        """Call the job pending; it costs nothing."""
        return VendorJob(vendor_job_id, VendorState.PENDING, credits=0.0)

    async def find(self, job_id: str, attempt: int, since: datetime) -> VendorJob | None:
        """Find nothing: a job that was created all the same shows itself by its webhook."""
        del job_id, attempt, since
        return None

    async def fetch(self, vendor_job_id: str) -> Parsed:
        """Raise TransientError: results are sent here, not fetched there."""
        raise TransientError(Code.VENDOR_FAILED, f"the result of {vendor_job_id} comes by webhook")

    async def cancel(self, vendor_job_id: str) -> None:
        """Do nothing: what it sends for a job that nobody waits for is ignored."""

    async def forget(self, vendor_job_id: str) -> None:
        """Do nothing: what is kept there is its owner's."""

    async def _gated(self, document: Document, order: bytes, file: DocumentFile) -> str | None:
        deadline = await self._enter()
        try:
            answer = await self._post(document, order, file, deadline)
        except ParsewireError as error:
            await self._note(error.code)
            raise
        if not isinstance(answer, Refusal):
            await self._note(None)
            return answer
        await self._note(vendor_fault(answer))
        raise error_of(answer, _SUBMIT, of_document=True, service="the callback parser")

    async def _enter(self) -> float:
        """Give the call's deadline, in which the wait for the gate counts."""
        deadline = asyncio.get_running_loop().time() + self.submit_seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._gate.enter(_SUBMIT)
        except TimeoutError:
            raise TransientError(
                Code.VENDOR_RATE_LIMITED, f"submit had no turn in {self.submit_seconds:g} s"
            ) from None
        return deadline

    async def _note(self, failure: Code | None) -> None:
        try:
            await self._gate.note(_SUBMIT, failure)
        except TransientError as error:
            # What was answered outweighs the bookkeeping.
            log.warning("call_not_noted", operation=_SUBMIT, error=error.message)

    async def _post(
        self, document: Document, order: bytes, file: DocumentFile, deadline: float
    ) -> str | Refusal | None:
        request = self._session.post(
            self._url,
            data=order_form(document, order, file),
            headers=dict(signature_of(order, self._key)),
            timeout=ClientTimeout(total=None, connect=CONNECT_SECONDS),
            allow_redirects=False,
        )
        try:
            async with asyncio.timeout_at(deadline), request as response:
                return await _read(response, self._options.secret)
        except _UNSENT as error:
            why = type(error).__name__
            raise TransientError(Code.PARSER_UNAVAILABLE, f"no connection: {why}") from None
        except TimeoutError:
            why = f"no answer to submit in {self.submit_seconds:g} s"
            raise NoAnswerError(Code.PARSER_UNAVAILABLE, why) from None
        except (aiohttp.ClientError, OSError) as error:
            why = f"the answer to submit was lost: {type(error).__name__}"
            raise NoAnswerError(Code.PARSER_UNAVAILABLE, why) from None


async def _read(response: ClientResponse, secret: str) -> str | Refusal | None:
    """Read what they call their job, or their refusal; a taken job needs no readable answer."""
    taken = 200 <= response.status < 300
    try:
        body = await read_body(_SUBMIT, response, ANSWER_LIMIT_BYTES)
    except (aiohttp.ClientError, OversizeError):
        body = b""
    if taken:
        return their_id_in(body)
    return read_refusal(response.status, body, response.headers.get("Retry-After"), (secret,))


@asynccontextmanager
async def open_callback_parser(
    options: CallbackOptions, gate: Gate
) -> AsyncIterator[CallbackParser]:
    """Lend the parser with its session."""
    async with open_session() as session:
        yield CallbackParser(options, session, gate)
