"""The router: which parser serves a document, what stands in for it, and why.

local   the first local parser that reads the media type
real    the parser elsewhere; plain text stays here, where a parser elsewhere adds nothing to it
hybrid  the parser elsewhere, else the local one; a scan waits for the one that can read it
mock    the mock, for everything
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from schemas.errors import Code, PermanentError
from schemas.events import Mode
from streams.health import Health
from streams.media import PDF, TEXTS
from streams.metrics import ROUTES, Recorder
from streams.parsers.base import (
    Document,
    LocalRoute,
    Parser,
    Reason,
    RemoteParser,
    RemoteRoute,
    Route,
)

log = structlog.get_logger(__name__)

P = TypeVar("P")

LooksScanned = Callable[[Document], Awaitable[bool]]


FALL_BACKS: dict[Code, Reason] = {
    Code.CIRCUIT_OPEN: Reason.CIRCUIT_OPEN,
    Code.VENDOR_RATE_LIMITED: Reason.RATE_SPENT,
    Code.VENDOR_QUOTA_SPENT: Reason.QUOTA_SPENT,
    Code.BUDGET_SPENT: Reason.BUDGET_SPENT,
    Code.SPENDING_FROZEN: Reason.BUDGET_SPENT,
    Code.DOCUMENT_TOO_LARGE: Reason.TOO_LARGE,
    Code.VENDOR_REFUSED: Reason.REFUSED,
    Code.VENDOR_UNAUTHORIZED: Reason.REFUSED,
    Code.PARSER_UNAVAILABLE: Reason.DOWN,
    Code.PARSE_TIMEOUT: Reason.DOWN,
    Code.VENDOR_FAILED: Reason.DOWN,
    Code.VENDOR_CANCELLED: Reason.DOWN,
    Code.VENDOR_LOST: Reason.DOWN,
    Code.VENDOR_STUCK: Reason.DOWN,
}
"""The failures elsewhere after which the local parser may serve; what is said of the document
itself, and our own trouble, are not among them."""


@dataclass(frozen=True, slots=True)
class Parsers:
    """The parsers that a deployment has; local ones in order of preference."""

    local: Sequence[Parser]
    cloud: RemoteParser | None = None
    mock: Parser | None = None
    """None where no mock may run."""

    def local_for(self, media_type: str) -> Parser | None:
        """Give the local parser of a media type."""
        return next((parser for parser in self.local if parser.accepts(media_type)), None)

    def cloud_for(self, media_type: str) -> RemoteParser | None:
        """Give the parser elsewhere, unless there is none or it does not read the media type."""
        return self.cloud if self.cloud is not None and self.cloud.accepts(media_type) else None


def route(
    mode: Mode,
    media_type: str,
    parsers: Parsers,
    *,
    trouble: Reason | None = None,
    scanned: bool = False,
) -> Route:
    """Choose by the mode; `trouble` says why the parser elsewhere cannot serve at present.

    Raise PermanentError: UNSUPPORTED_MEDIA_TYPE, or INVALID_REQUEST for a mode without its parser.
    """
    local = parsers.mock if mode == "mock" else parsers.local_for(media_type)
    if mode == "mock" and local is None:
        raise PermanentError(Code.INVALID_REQUEST, "this deployment has no mock parser")
    if mode in ("mock", "local"):
        return LocalRoute(_known(local, media_type), Reason.MODE)
    if local is not None and media_type in TEXTS:
        return LocalRoute(local, Reason.PLAIN_TEXT)
    cloud = parsers.cloud_for(media_type)
    if mode == "hybrid":
        return _hybrid(local, cloud, media_type, trouble, scanned=scanned)
    if parsers.cloud is None:
        raise PermanentError(Code.INVALID_REQUEST, "this deployment has no parser elsewhere")
    return RemoteRoute(_known(cloud, media_type), Reason.MODE)


def _hybrid(
    local: Parser | None,
    cloud: RemoteParser | None,
    media_type: str,
    trouble: Reason | None,
    *,
    scanned: bool,
) -> Route:
    if cloud is None:
        return LocalRoute(_known(local, media_type), Reason.ONLY_ONE)
    if local is None:
        return RemoteRoute(cloud, Reason.ONLY_ONE)
    if scanned:
        return RemoteRoute(cloud, Reason.SCAN)
    if trouble is not None:
        return LocalRoute(local, trouble)
    return RemoteRoute(cloud, Reason.PREFERRED, local)


def trouble_of(health: Health | None) -> Reason | None:
    """Tell why a service cannot be called at present; a circuit that wants its probe is called."""
    if health is None:
        return None
    if health.circuit_open:
        return Reason.CIRCUIT_OPEN
    return Reason.RATE_SPENT if health.rate_spent else None


class Router:
    """The parsers of a process, and the rules between them; a job's own mode goes first."""

    def __init__(
        self,
        local: Sequence[Parser],
        *,
        cloud: RemoteParser | None = None,
        mock: Parser | None = None,
        mode: Callable[[], Mode] = lambda: "local",
        health: Callable[[], Health | None] = lambda: None,
        looks_scanned: LooksScanned | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._parsers = Parsers(tuple(local), cloud, mock)
        self._mode = mode
        self._health = health
        self._looks_scanned = looks_scanned
        self._recorder = recorder

    async def route(self, document: Document, failed_with: str | None = None) -> Route:
        """Choose for a document; raise as the rules do, and TransientError of a look at it."""
        mode, kind = document.options.mode or self._mode(), document.media_type
        trouble = trouble_of(self._health()) or _trouble_before(failed_with)
        found = route(mode, kind, self._parsers, trouble=trouble)
        if isinstance(found, LocalRoute) and found.reason is trouble:
            # Only now is it worth a look: the local parser cannot serve a scan.
            scanned = await self._is_scan(document)
            found = route(mode, kind, self._parsers, trouble=trouble, scanned=scanned)
        self._say(found, mode)
        return found

    async def fall_back(self, document: Document, failed: Route, code: Code) -> LocalRoute | None:
        """Give what serves after a failure elsewhere; None where nothing may stand in."""
        reason = FALL_BACKS.get(code)
        if isinstance(failed, LocalRoute) or failed.fallback is None or reason is None:
            return None
        if await self._is_scan(document):
            return None
        found = LocalRoute(failed.fallback, reason)
        self._say(found, "hybrid")
        return found

    async def _is_scan(self, document: Document) -> bool:
        if self._looks_scanned is None or document.media_type != PDF:
            return False
        return await self._looks_scanned(document)

    def _say(self, found: Route, mode: str) -> None:
        log.info("routed", parser=found.parser.name, reason=found.reason.value, mode=mode)
        if self._recorder is not None:
            self._recorder.add(ROUTES, parser=found.parser.name, reason=found.reason.value)


def _trouble_before(failed_with: str | None) -> Reason | None:
    """Tell whether the last attempt failed elsewhere in a way that the local parser may mend.

    Waiting for a budget is none: whether there is money is asked anew each time.
    """
    before = next((r for code, r in FALL_BACKS.items() if code.value == failed_with), None)
    return None if before is Reason.BUDGET_SPENT else before


def _known(parser: P | None, media_type: str) -> P:
    if parser is None:
        raise PermanentError(
            Code.UNSUPPORTED_MEDIA_TYPE, f"no parser of this deployment reads {media_type}"
        )
    return parser
