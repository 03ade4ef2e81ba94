"""LlamaCloud's HTTP refusals, and what each means to the caller."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from streams.foreign_words import clean

RATE_WORDS = ("rate limit", "too many requests", "per minute", "per second")
PLAN_WORDS = ("already reached", "maximum number", "quota", "credits", "your plan")
"""What a 429 says that no waiting clears: the plan's limits, where it is not the rate's."""

DOCUMENTS_FAULT_EXCEPT = frozenset({404, 408, 409, 425})
"""Refusals from 400 to 499 that say nothing of the document or of what was asked for it."""

_LONGEST_FLAW = 120
_LONGEST_RETRY_AFTER_SECONDS = 3600.0


class NoAnswerError(TransientError):
    """The request may have been carried out, and nobody told what came of it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not 2xx: its status, what it says, and the wait that it names."""

    status: int
    said: str
    retry_after_seconds: float | None = None


def read_refusal(
    status: int, body: bytes, retry_after: str | None, secrets: Sequence[str]
) -> Refusal:
    """Read a refusal; a body in another form than LlamaCloud's own is not quoted."""
    try:
        answer = orjson.loads(body)
    except ValueError:
        answer = None
    detail = answer.get("detail") if isinstance(answer, dict) else None
    return Refusal(status, clean(_words(detail, secrets), secrets), _seconds(retry_after))


def vendor_fault(refusal: Refusal) -> Code | None:
    """Give the code that the circuit learns of; None where the request is to blame."""
    match refusal.status:
        case 401 | 403:
            return Code.VENDOR_UNAUTHORIZED
        case 402:
            return Code.VENDOR_QUOTA_SPENT
        case 429:
            return Code.VENDOR_QUOTA_SPENT if _of_plan(refusal.said) else Code.VENDOR_RATE_LIMITED
        case status if status >= 500 or status < 400:
            return Code.VENDOR_FAILED
    return None


def download_fault(refusal: Refusal) -> Code | None:
    """Give the code of a refused download: a storage's 403 is an old URL, not a bad key."""
    return Code.VENDOR_FAILED if refusal.status >= 500 else None


def error_of(
    refusal: Refusal, operation: str, *, of_document: bool, service: str = "LlamaParse"
) -> ParsewireError:
    """Give the error of a refusal; `of_document` says that the call stands for one document.

    Key and credits are nobody's document's fault: transient, and for the circuit to stop.
    """
    said = f": {refusal.said}" if refusal.said else ""
    message = f"{service} answered {operation} with {refusal.status}{said}"
    code = vendor_fault(refusal)
    if refusal.status >= 500:
        return NoAnswerError(
            Code.VENDOR_FAILED, message, retry_after_seconds=refusal.retry_after_seconds
        )
    if code is not None:
        return TransientError(code, message, retry_after_seconds=refusal.retry_after_seconds)
    if of_document and refusal.status == 413:
        return PermanentError(Code.DOCUMENT_TOO_LARGE, message)
    if of_document and refusal.status not in DOCUMENTS_FAULT_EXCEPT:
        return PermanentError(Code.VENDOR_REFUSED, message)
    return TransientError(Code.VENDOR_FAILED, message)


def _of_plan(said: str) -> bool:
    lowered = said.lower()
    if any(word in lowered for word in RATE_WORDS):
        return False
    return any(word in lowered for word in PLAN_WORDS)


def _words(detail: Any, secrets: Sequence[str]) -> str:
    if isinstance(detail, str):
        return detail
    if not isinstance(detail, list):
        return ""
    # Each flaw quotes its input too, which may be a prompt or the webhooks' secret.
    flaws = [flaw for flaw in detail[:5] if isinstance(flaw, dict)]
    return "; ".join(
        _place(flaw.get("loc")) + clean(str(flaw.get("msg", "")), secrets, _LONGEST_FLAW)
        for flaw in flaws
    )


def _place(loc: Any) -> str:
    return ".".join(str(part)[:40] for part in loc[:8]) + ": " if isinstance(loc, list) else ""


def _seconds(text: str | None) -> float | None:
    digits = (text or "").strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        return None
    return min(float(digits), _LONGEST_RETRY_AFTER_SECONDS)
