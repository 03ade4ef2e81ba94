"""Submissions on the bus: documents of producers that need no HTTP, and the answers to them."""

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from schemas.fields import Positive, Sha256

Reference = Annotated[str, Meta(max_length=200)]


@dataclass(frozen=True, slots=True)
class DocumentSubmitted:
    """A producer names a document by a blob that it has put, or by an address: one of them.

    `options` are those of an upload over HTTP, name to text; `force` and `name` are among them.
    A record whose value is the document itself says the same in headers (docs/bus.md).
    """

    sha256: Sha256
    size_bytes: Positive
    blob: str | None = None
    """The key of a blob below `submitted/<tenant>/`."""
    url: str | None = None
    tenant: str | None = None
    media_type: str | None = None
    reference: Reference | None = None
    """What the producer calls the job: every JobMoved of it carries this along."""
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentAccepted:
    """The document is kept and its job made, or it has joined the job that it had already.

    `submission_id` is the `ce_id` of what is answered.
    """

    submission_id: str
    tenant: str
    job_id: str
    document_id: str
    duplicate: bool
    state: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentRefused:
    """The document was not taken, for the same reason and in the same words as over HTTP."""

    submission_id: str
    tenant: str | None
    """None where the record's topic may not speak for whom it named: it was said to a stranger."""
    code: str
    message: str
    reference: str | None = None
