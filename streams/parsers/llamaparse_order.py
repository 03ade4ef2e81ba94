"""What is sent to LlamaCloud for a document: its upload's form, and the order of its parse."""

from dataclasses import dataclass, field
from typing import Any, BinaryIO

import aiohttp

from schemas.errors import Code, PermanentError
from schemas.events import ParseOptions
from schemas.page_ranges import first_pages, write_ranges
from streams.media import CSV, MARKDOWN, PDF, PLAIN
from streams.parsers.base import Document
from streams.parsers.llamaparse_answers import (
    ATTEMPT_TAG,
    JOB_TAG,
    LIMIT_TAG,
    PAGES_TAG,
    VERSION_TAG,
)
from streams.parsers.pages import page_limit, wanted_ranges

LARGEST_FILE_BYTES = 512 * 1024 * 1024
"""LlamaCloud's limit for a file."""

SUFFIXES = {PDF: ".pdf", PLAIN: ".txt", MARKDOWN: ".md", CSV: ".csv"}
"""The media types that LlamaParse reads, with the suffixes by which it knows them."""

EVENTS = ("parse.success", "parse.error", "parse.partial_success", "parse.cancelled")
"""The ends of a job; what happens before them asks for nothing to be done."""

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Terms:
    """What every order of a deployment says; a webhook goes nowhere without an address."""

    tier: str
    version: str
    max_pages: int
    callback_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)

    def tier_of(self, options: ParseOptions) -> str:
        """Give the tier that a document asks for, else the deployment's own."""
        return options.tier or self.tier

    def version_of(self, tier: str) -> str:
        """Give a tier's version: a dated one is pinned for the deployment's own tier alone."""
        return self.version if tier == self.tier else LATEST


def upload_form(document: Document, file: BinaryIO) -> aiohttp.FormData:
    """Write the form of an upload; the file's bytes are read while they are sent."""
    form = aiohttp.FormData()
    form.add_field("purpose", "parse")
    form.add_field("external_file_id", document.job_id)
    name = f"{document.job_id}{SUFFIXES[document.media_type]}"
    form.add_field("file", file, filename=name, content_type=document.media_type)
    return form


def refuse_size(document: Document) -> None:
    """Raise PermanentError for a file that LlamaCloud would refuse by its size."""
    if document.size_bytes == 0:
        raise PermanentError(Code.DOCUMENT_EMPTY, "the document has no bytes")
    if document.size_bytes > LARGEST_FILE_BYTES:
        raise PermanentError(
            Code.DOCUMENT_TOO_LARGE,
            f"the document has {document.size_bytes} bytes, LlamaParse takes {LARGEST_FILE_BYTES}",
        )


ALLOWED_PAGE_FAILURES = 0.5
"""By default one bad page in twenty fails the whole job there, its good pages with it; a job that
lost more than half is tried again."""


def order_of(document: Document, file_id: str, terms: Terms) -> dict[str, Any]:
    """Write the order of a parse; raise PermanentError for pages that cannot be ordered.

    A retry does not take a cached result: what failed once may have been cached.
    """
    options = document.options
    tier = terms.tier_of(options)
    version = terms.version_of(tier)
    tags = {JOB_TAG: document.job_id, ATTEMPT_TAG: str(document.attempt), VERSION_TAG: version}
    limit = page_limit(terms.max_pages, options)
    ranges = wanted_ranges(options, limit)
    order: dict[str, Any] = {"file_id": file_id, "tier": tier, "version": version}
    order["user_metadata"] = tags
    # LlamaParse cuts a longer document off in silence: one page more shows that it did. A PDF
    # that states fewer pages than it has would cost more than is held for it.
    most = limit + 1 if document.held_pages is None else min(limit + 1, document.held_pages)
    if ranges is None:
        tags[LIMIT_TAG] = str(limit)
        order["page_ranges"] = {"max_pages": most}
    else:
        tags[PAGES_TAG] = write_ranges(ranges)
        order["page_ranges"] = {"target_pages": write_ranges(first_pages(ranges, most))}
    conditions = {"allowed_page_failure_ratio": ALLOWED_PAGE_FAILURES}
    order["processing_control"] = {"job_failure_conditions": conditions}
    if options.languages:
        languages = list(options.languages)
        order["processing_options"] = {"ocr_parameters": {"languages": languages}}
    if options.prompt is not None:
        order["agentic_options"] = {"custom_prompt": options.prompt}
    if options.disable_cache or document.attempt > 1:
        order["disable_cache"] = True
    if terms.callback_url is not None:
        order["webhook_configurations"] = [_webhook(terms)]
    return order


def _webhook(terms: Terms) -> dict[str, Any]:
    webhook: dict[str, Any] = {
        "webhook_url": terms.callback_url,
        "webhook_events": list(EVENTS),
        "webhook_output_format": "json",
    }
    if terms.webhook_secret is not None:
        webhook["webhook_signing_secret"] = terms.webhook_secret
    return webhook
