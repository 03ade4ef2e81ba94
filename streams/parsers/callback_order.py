"""What is sent to a self-hosted parser for a document: one form, and the signature over its order.

The form has two parts: `order`, JSON that says what is to be done, and `file`, the document's
bytes. X-Webhook-Signature holds `sha256=` and the hex HMAC-SHA256 of the order's bytes; the order
holds the sha256 of the file, so that both are proven and the bytes are read while they are sent.
"""

from io import BufferedReader
from typing import Any

import aiohttp
import orjson

from schemas.errors import Code, PermanentError
from schemas.events import ParseOptions
from schemas.ids import document_id
from schemas.page_ranges import write_ranges
from schemas.signature_scheme import X_WEBHOOK_SIGNATURE
from schemas.signatures import sign
from streams.jobs import given_options
from streams.parsers.base import Document
from streams.parsers.pages import page_limit, wanted_ranges

VERSION = 1
"""Of the order's form; fields are only ever added to one."""


class DocumentFile(BufferedReader):
    """A document's file that counts what is read of it, so what can have left at most."""

    taken_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and count."""
        chunk = super().read(size)
        self.taken_bytes += len(chunk)
        return chunk


def open_document(document: Document) -> DocumentFile:
    """Open the file; raise PermanentError where it has no bytes, or is gone."""
    if document.size_bytes == 0:
        raise PermanentError(Code.DOCUMENT_EMPTY, "the document has no bytes")
    try:
        return DocumentFile(document.path.open("rb", buffering=0))
    except FileNotFoundError:
        raise PermanentError(Code.SOURCE_MISSING, "the document's file is gone") from None


def order_of(document: Document, callback_url: str, max_pages: int) -> bytes:
    """Write the order; raise PermanentError for pages that cannot be ordered.

    `correlation_id` is our attempt: an answer that says it back can never count for another one.
    """
    return orjson.dumps(
        {
            "version": VERSION,
            "job_id": document.job_id,
            "document_id": document_id(document.tenant, document.sha256),
            "correlation_id": str(document.attempt),
            "sha256": document.sha256,
            "size_bytes": document.size_bytes,
            "media_type": document.media_type,
            "options": _options(document.options, max_pages),
            "callback_url": callback_url,
        }
    )


def signature_of(order: bytes, key: bytes) -> tuple[tuple[str, str], ...]:
    """Give the headers that prove an order."""
    return sign(X_WEBHOOK_SIGNATURE, key, order, event_id="", unix_seconds=0)


def order_form(document: Document, order: bytes, file: DocumentFile) -> aiohttp.FormData:
    """Put the order first, so that it can be verified before the file is read."""
    form = aiohttp.FormData()
    form.add_field("order", order.decode())
    form.add_field("file", file, filename=document.job_id, content_type=document.media_type)
    return form


def _options(options: ParseOptions, max_pages: int) -> dict[str, Any]:
    limit = page_limit(max_pages, options)
    ranges = wanted_ranges(options, limit)
    given = given_options(options) | {"max_pages": limit}
    given.pop("mode", None)
    return given if ranges is None else given | {"target_pages": write_ranges(ranges)}
