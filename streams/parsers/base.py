"""The parser seam: a document in, pages of markdown out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from schemas.errors import Code
from schemas.events import ParseOptions


@dataclass(frozen=True, slots=True)
class Document:
    """What a parser is given: a local file of verified bytes and what is known of it."""

    job_id: str
    tenant: str
    attempt: int
    path: Path
    sha256: str
    size_bytes: int
    media_type: str
    options: ParseOptions
    held_pages: int | None = None
    """How many pages money is held for: no parser elsewhere may be asked for more."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its number from 1, its markdown and its plain text (empty for a blank page)."""

    number: int
    markdown: str
    text: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser made of a document."""

    pages: Sequence[Page]
    parser: str
    parser_version: str
    warnings: Sequence[str] = ()
    credits: float | None = None
    """What a parser elsewhere has billed for it, where that is known already."""


class Parser(Protocol):
    """Turns documents into pages.

    Raise PermanentError with a DOCUMENT_* code for a document that it cannot serve, TransientError
    for its own trouble. A cancelled `parse` frees what it holds before it returns.
    """

    name: str
    version: str

    def accepts(self, media_type: str) -> bool:
        """Tell whether it reads this media type."""
        ...

    async def parse(self, document: Document) -> Parsed:
        """Parse one document."""
        ...


class VendorState(StrEnum):
    """Where a job stands at a parser elsewhere."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class VendorJob:
    """A job as a parser elsewhere tells it."""

    id: str
    state: VendorState
    job_id: str | None = None
    """Ours, as we gave it along; None where it was not kept there."""
    attempt: int | None = None
    code: Code | None = None
    """Why it failed."""
    message: str | None = None
    transient: bool = False
    credits: float | None = None
    """What it is billed at; None until that is known there."""


class SubmissionUnresolvedError(Exception):
    """Nobody knows whether the job was created: look for it, never submit it again blindly."""


class RemoteParser(Protocol):
    """Parses elsewhere: a document is submitted, and its result fetched when it is there.

    Raise TransientError for its trouble and ours on the way, PermanentError for what it will never
    take. Every call has a deadline of its own.
    """

    name: str
    version: str
    submit_seconds: float
    """The deadline of `submit`: a lease must last longer."""

    def accepts(self, media_type: str) -> bool:
        """Tell whether it reads this media type."""
        ...

    def tier(self, options: ParseOptions) -> str | None:
        """Name the tier that such a job is billed by; None where there are no tiers."""
        ...

    async def upload(self, document: Document) -> str:
        """Bring the bytes there, and give their id there; costs nothing and may be repeated."""
        ...

    async def submit(self, document: Document, file_id: str) -> VendorJob:
        """Create the job, the one call that may cost; raise SubmissionUnresolvedError too."""
        ...

    async def look(self, vendor_job_ids: Sequence[str]) -> Mapping[str, VendorJob]:
        """Ask about many jobs in few calls; one that is absent is unknown there."""
        ...

    async def see(self, vendor_job_id: str) -> VendorJob | None:
        """Look at one job, with its bill where that is known; None when it is unknown there.

        Raise TransientError(VENDOR_LOST) for one that is not shown to us, which may be another's.
        """
        ...

    async def find(self, job_id: str, attempt: int, since: datetime) -> VendorJob | None:
        """Find the job that was created for our attempt since then, if there is one."""
        ...

    async def fetch(self, vendor_job_id: str) -> Parsed:
        """Get a completed job's pages, which may be missing for a short while."""
        ...

    async def cancel(self, vendor_job_id: str) -> None:
        """Stop the job; one that has ended or is unknown is no error."""
        ...

    async def forget(self, vendor_job_id: str) -> None:
        """Delete the ended job and its result there; one that is unknown is no error."""
        ...


class Gate(Protocol):
    """Stands before every call to a parser elsewhere: the account's shared rate and circuit.

    A call enters and is noted by the same task; one that was refused is not noted.
    """

    async def enter(self, operation: str, calls: int = 1) -> None:
        """Return when the call may start; raise TransientError with the wait otherwise.

        `calls` are those that it pays for: 2 where another one is sure to follow it, 0 for that
        other one.
        """
        ...

    async def note(self, operation: str, failure: Code | None) -> None:
        """Take how the call ended: None for an answer, else why there was none."""
        ...


class Reason(StrEnum):
    """Why a document is sent where it is sent; a metric's label, too."""

    MODE = "mode"
    PLAIN_TEXT = "plain_text"
    PREFERRED = "preferred"
    SCAN = "scan"
    ONLY_ONE = "only_one"
    """No other parser of the deployment reads this media type."""
    CIRCUIT_OPEN = "circuit_open"
    RATE_SPENT = "rate_spent"
    QUOTA_SPENT = "quota_spent"
    BUDGET_SPENT = "budget_spent"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class LocalRoute:
    """A parser of this process serves."""

    parser: Parser
    reason: Reason


@dataclass(frozen=True, slots=True)
class RemoteRoute:
    """A parser elsewhere serves; `fallback` may where it cannot, unless the document is a scan."""

    parser: RemoteParser
    reason: Reason
    fallback: Parser | None = None


Route = LocalRoute | RemoteRoute


class Routes(Protocol):
    """Says which parser serves a document, and which one after a failure elsewhere."""

    async def route(self, document: Document, failed_with: str | None = None) -> Route:
        """Choose, knowing what the last attempt failed with.

        Raise PermanentError where no parser of the deployment may serve the document.
        """
        ...

    async def fall_back(self, document: Document, failed: Route, code: Code) -> LocalRoute | None:
        """Give what serves after a failure elsewhere; None where nothing may stand in.

        Never after a submission that may have created a job: two parsers would serve one attempt.
        """
        ...
