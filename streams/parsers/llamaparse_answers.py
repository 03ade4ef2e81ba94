"""What LlamaCloud's API v2 answers, read into types, and what its jobs mean to us."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import orjson
import structlog
from msgspec import Meta

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from streams.foreign_words import clean
from streams.parsers.base import VendorJob, VendorState

log = structlog.get_logger(__name__)

T = TypeVar("T")

VendorId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}\Z")]
"""An id that is safe in a path."""

JOB_TAG, ATTEMPT_TAG, LIMIT_TAG, VERSION_TAG = "job", "attempt", "page_limit", "version"
PAGES_TAG = "target_pages"
"""The keys of `user_metadata`: our job and attempt, the page limit, the tier's version, the pages.

The limit stands there only where the whole document was submitted, the pages where some were.
"""

STATES = {
    "PENDING": VendorState.PENDING,
    "RUNNING": VendorState.PENDING,
    "COMPLETED": VendorState.COMPLETED,
    "FAILED": VendorState.FAILED,
    "CANCELLED": VendorState.CANCELLED,
}

FAILURES: tuple[tuple[str, Code], ...] = (
    ("UNSUPPORTED_FILE_TYPE", Code.UNSUPPORTED_MEDIA_TYPE),
    ("PDF_IS_PROTECTED", Code.DOCUMENT_ENCRYPTED),
    ("PDF_IS_BROKEN", Code.DOCUMENT_BROKEN),
    ("NO_DATA_FOUND_IN_FILE", Code.DOCUMENT_HAS_NO_TEXT),
    ("DOCUMENT_TOO_LARGE", Code.DOCUMENT_TOO_LARGE),
    ("TOO_MANY_PAGES", Code.DOCUMENT_TOO_MANY_PAGES),
)
"""What stands in a failed job's message, and what is permanent about it; all else may pass."""

_MOST_CREDITS = 1e9
"""A million dollars for one document; figures beyond it would not fit the ledger's columns."""

_VENDOR_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}")


class UnexpectedAnswerError(Exception):
    """An answer of a shape that nobody documented; says nothing of its content."""


@dataclass(frozen=True, slots=True)
class UsageAnswer:
    """The bill of a job; None until it is recorded."""

    credits: float | None = None


@dataclass(frozen=True, slots=True)
class JobAnswer:
    """A parse job, as every call shows it."""

    id: VendorId
    status: str
    error_message: str | None = None
    tier: str | None = None
    usage: UsageAnswer | None = None
    user_metadata: dict[str, Any] | None = None

    def bill(self) -> float | None:
        """Give what it is billed at; None while that is not known, and for what can be no bill."""
        told = self.usage.credits if self.usage else None
        if told is None or 0 <= told <= _MOST_CREDITS:
            return told
        log.warning("vendor_bill_refused", vendor_job_id=self.id, credits=told)
        return None

    def tag(self, name: str) -> str | None:
        """Give what we wrote there at its submission."""
        value = (self.user_metadata or {}).get(name)
        return value if isinstance(value, str) else None

    def count(self, name: str) -> int | None:
        """Give a tag that is a whole number from 1."""
        text = self.tag(name) or ""
        digits = text.isascii() and text.isdigit() and len(text) < 10
        return int(text) if digits and int(text) > 0 else None


@dataclass(frozen=True, slots=True)
class ListAnswer:
    """A page of a list of jobs."""

    items: list[JobAnswer]
    next_page_token: str | None = None


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """An uploaded file."""

    id: VendorId


@dataclass(frozen=True, slots=True)
class Nothing:
    """An answer whose body does not matter."""


def is_vendor_id(text: str) -> bool:
    """Tell whether it can be an id there; ids come in by webhooks too."""
    return _VENDOR_ID.fullmatch(text) is not None


def read_answer(body: bytes, kind: type[T]) -> T:
    """Read an answer; unknown fields are ignored. Raise UnexpectedAnswerError."""
    if kind is Nothing:
        return kind()
    try:
        return msgspec.convert(orjson.loads(body), kind)
    except (ValueError, msgspec.ValidationError, RecursionError):
        raise UnexpectedAnswerError(kind.__name__) from None


def vendor_job(answer: JobAnswer, secrets: Sequence[str] = ()) -> VendorJob:
    """Tell what a job there means; a status that nobody knows is one that has not ended."""
    state = STATES.get(answer.status)
    if state is None:
        log.warning("vendor_status_unknown", vendor_job_id=answer.id, status=answer.status[:40])
    failure = failure_of(answer, secrets)
    return VendorJob(
        id=answer.id,
        state=state or VendorState.PENDING,
        job_id=answer.tag(JOB_TAG),
        attempt=answer.count(ATTEMPT_TAG),
        code=failure.code if failure else None,
        message=failure.message if failure else None,
        transient=isinstance(failure, TransientError),
        credits=answer.bill(),
    )


def failure_of(answer: JobAnswer, secrets: Sequence[str] = ()) -> ParsewireError | None:
    """Give the error of a job that has ended without a result."""
    if answer.status == "CANCELLED":
        return TransientError(Code.VENDOR_CANCELLED, "the job was cancelled at LlamaParse")
    if answer.status != "FAILED":
        return None
    said = clean(answer.error_message or "", secrets) or "no reason was given"
    for mark, code in FAILURES:
        if mark in said.upper():
            return PermanentError(code, f"LlamaParse: {said}")
    return TransientError(Code.VENDOR_FAILED, f"LlamaParse: {said}")
