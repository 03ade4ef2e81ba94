"""HTTP bodies: what the gateway answers, as frozen values."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta


@dataclass(frozen=True, slots=True)
class Links:
    """Where the parts of a job are found, as paths."""

    self: str
    history: str
    result: str
    retry: str
    cancel: str


@dataclass(frozen=True, slots=True)
class UploadBody:
    """The answer to an upload; `duplicate` when the document was known, with the same options."""

    job_id: str
    document_id: str
    state: str
    duplicate: bool
    links: Links


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job's last attempt ended without a result, and what to do about it."""

    code: str
    title: str
    message: str | None
    advice: str


@dataclass(frozen=True, slots=True)
class JobCost:
    """What a job's attempts were estimated at, what is held for them still, and their bills."""

    estimated_micro_usd: int = 0
    reserved_micro_usd: int = 0
    billed_micro_usd: int = 0


@dataclass(frozen=True, slots=True)
class JobBody:
    """A job as its owner sees it; times UTC.

    `waits_until` is when a job that waits is looked at again: for its retry, or for money.
    """

    job_id: str
    document_id: str
    state: str
    attempt: int
    generation: int
    name: str | None
    media_type: str
    size_bytes: int
    sha256: str
    options: dict[str, Any]
    """What was asked of the parse; nothing that was not."""
    parser: str | None
    parser_version: str | None
    pages: int | None
    warnings: tuple[str, ...]
    error: JobError | None
    created_at: datetime
    updated_at: datetime
    links: Links
    cost: JobCost = JobCost()
    waits_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobsBody:
    """A page of jobs, the newest first; `next` is the `before` of the page after it."""

    jobs: list[JobBody]
    next: str | None


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One event of a job; `ignored` says why it changed nothing."""

    at: datetime
    recorded_at: datetime
    type: str
    attempt: int
    from_state: str | None
    to_state: str | None
    ignored: str | None
    code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class HistoryBody:
    """A job's history, the oldest first; `more` when it is longer than is shown."""

    job_id: str
    events: list[HistoryLine]
    more: bool


@dataclass(frozen=True, slots=True)
class AskedBody:
    """A request that was written down and is carried out later."""

    job_id: str
    asked: str
    state: str
    attempt: int
    links: Links


@dataclass(frozen=True, slots=True)
class LinkOrder:
    """How long a link to a result is to live; nothing: as long as links here usually do."""

    seconds: Annotated[int, Meta(ge=1, le=86_400)] | None = None


@dataclass(frozen=True, slots=True)
class LinkBody:
    """A link that opens a result without a key, for whoever has it; `url` may be a path."""

    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class WebhookBody:
    """The answer to a webhook: the id of the event that was published."""

    event_id: str


@dataclass(frozen=True, slots=True)
class WebhookSourceBody:
    """A webhook source without its secrets; counts and times since the gateway's start."""

    configured: bool
    schemes: list[str]
    headers: list[str]
    active_secrets: int
    next_expiry: datetime | None
    accepted: int
    refused: int
    last_accepted_at: datetime | None
    last_refused_at: datetime | None


@dataclass(frozen=True, slots=True)
class WebhooksBody:
    """Every webhook source by its name."""

    sources: dict[str, WebhookSourceBody]


@dataclass(frozen=True, slots=True)
class CheckBody:
    """One thing that the gateway needs: whether it answers, and after how long."""

    state: str
    latency_seconds: float
    code: str | None = None


@dataclass(frozen=True, slots=True)
class ReadyBody:
    """Whether the gateway can serve."""

    ready: bool
    checks: dict[str, CheckBody]


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document (RFC 9457) with a stable code and an id for whoever looks into it.

    `members` stand beside the others in the document; their names are the code's own.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    advice: str
    support_id: str
    members: dict[str, Any]
