"""The ends of an attempt, as events."""

from datetime import timedelta

from schemas.errors import ParsewireError, TransientError
from schemas.events import BlobRef, DocumentUploaded, ParseDeferred, ParseFailed, ParseSucceeded
from streams.parsers.base import Parsed

MESSAGE_CHARACTERS = 500

_MOST_WARNINGS = 200


def succeeded(
    job_id: str, tenant: str, attempt: int, result: BlobRef, parsed: Parsed
) -> ParseSucceeded:
    """Say that the result is kept, with a bounded number of its warnings."""
    return ParseSucceeded(
        job_id=job_id,
        tenant=tenant,
        attempt=attempt,
        result=result,
        parser=parsed.parser,
        parser_version=parsed.parser_version,
        pages=len(parsed.pages),
        warnings=tuple(parsed.warnings[:_MOST_WARNINGS]),
    )


def deferred(offer: DocumentUploaded, error: TransientError, wait: timedelta) -> ParseDeferred:
    """Put the attempt off for as long as the error says, else for `wait`; it counts nothing."""
    seconds = error.retry_after_seconds
    if seconds is None:
        seconds = wait.total_seconds()
    return ParseDeferred(offer.job_id, offer.tenant, offer.attempt, error.code, seconds)


def failed(offer: DocumentUploaded, parser: str | None, error: ParsewireError) -> ParseFailed:
    """Say why the attempt has failed."""
    transient = isinstance(error, TransientError)
    return ParseFailed(
        job_id=offer.job_id,
        tenant=offer.tenant,
        attempt=offer.attempt,
        code=error.code,
        message=error.message[:MESSAGE_CHARACTERS],
        transient=transient,
        parser=parser,
        retry_after_seconds=error.retry_after_seconds
        if isinstance(error, TransientError)
        else None,
    )
