"""Errors: the closed list of codes, and what may be done after each kind.

ParsewireError
  TransientError   the same call may succeed later (retry_after_seconds when the other side said so)
  PermanentError   the same call will fail again; something has to change first
"""

from enum import StrEnum


class Code(StrEnum):
    """Stable codes that users may match on; a code is never renamed."""

    # documents
    DOCUMENT_BROKEN = "document_broken"
    DOCUMENT_EMPTY = "document_empty"
    DOCUMENT_ENCRYPTED = "document_encrypted"
    DOCUMENT_HAS_NO_TEXT = "document_has_no_text"
    DOCUMENT_NOT_UTF8 = "document_not_utf8"
    DOCUMENT_TOO_MANY_PAGES = "document_too_many_pages"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    # parsing
    PARSE_TIMEOUT = "parse_timeout"
    PARSER_CRASHED = "parser_crashed"
    PARSER_UNAVAILABLE = "parser_unavailable"
    SOURCE_MISSING = "source_missing"
    SOURCE_CORRUPT = "source_corrupt"
    # parsers elsewhere
    DOCUMENT_TOO_LARGE = "document_too_large"
    VENDOR_REFUSED = "vendor_refused"
    VENDOR_UNAUTHORIZED = "vendor_unauthorized"
    VENDOR_QUOTA_SPENT = "vendor_quota_spent"
    VENDOR_RATE_LIMITED = "vendor_rate_limited"
    VENDOR_FAILED = "vendor_failed"
    VENDOR_CANCELLED = "vendor_cancelled"
    VENDOR_LOST = "vendor_lost"
    VENDOR_STUCK = "vendor_stuck"
    CIRCUIT_OPEN = "circuit_open"
    ARTIFACT_UNUSABLE = "artifact_unusable"
    WEBHOOK_UNKNOWN = "webhook_unknown"
    # money
    BUDGET_SPENT = "budget_spent"
    SPENDING_FROZEN = "spending_frozen"
    PRICE_UNKNOWN = "price_unknown"
    # documents that producers on the bus name
    SOURCE_NOT_FOUND = "source_not_found"
    SOURCE_MISMATCH = "source_mismatch"
    URL_NOT_ALLOWED = "url_not_allowed"
    URL_REDIRECTED = "url_redirected"
    URL_ADDRESS_PRIVATE = "url_address_private"
    URL_TOO_SLOW = "url_too_slow"
    URL_FAILED = "url_failed"
    # workers
    WORKER_LOST = "worker_lost"
    POISON_EVENT = "poison_event"
    SHUTDOWN = "shutdown"
    # requests
    INVALID_REQUEST = "invalid_request"
    OPTION_NOT_SERVED = "option_not_served"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    REQUEST_TIMEOUT = "request_timeout"
    CONFLICT = "conflict"
    RESULT_NOT_READY = "result_not_ready"
    TOO_LARGE = "too_large"
    TOO_MANY_REQUESTS = "too_many_requests"
    # Parsewire itself
    TABLES_UNAVAILABLE = "tables_unavailable"
    BUS_UNAVAILABLE = "bus_unavailable"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    RECORD_TOO_LARGE = "record_too_large"
    OVERLOADED = "overloaded"
    INTERNAL_ERROR = "internal_error"


class ParsewireError(Exception):
    """An expected trouble with a stable code and a message without secrets or document text."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class TransientError(ParsewireError):
    """The same call may succeed later."""

    def __init__(
        self, code: Code, message: str, *, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(code, message)
        self.retry_after_seconds = retry_after_seconds


class PermanentError(ParsewireError):
    """The same call will fail again until something else changes."""
